"""``python tests/fuzz --inputs=1000``: damaged and generated inputs for every door."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fuzz.campaign import Tally, run_campaign  # noqa: E402  (found by the path above)
from fuzz.doors import DOORS  # noqa: E402
from fuzz.generated import GENERATED  # noqa: E402


def main() -> int:
    """Runs the campaign that the arguments describe; returns 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.replace("``", ""))
    parser.add_argument("--inputs", type=int, default=100, help="for each door and way")
    parser.add_argument("--first", type=int, default=0, help="number of the first damaged input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="", help="beginnings of names of doors, with commas between them")
    parser.add_argument("--way", choices=("damaged", "generated"), help="both, if it is not given")
    parser.add_argument("--shown", type=int, default=20, help="faults that are printed")
    arguments = parser.parse_args()
    beginnings = tuple(arguments.doors.split(","))
    chosen = [name for name in DOORS if name.startswith(beginnings)]
    if arguments.doors in DOORS:
        chosen = [arguments.doors]
    jobs, first = [], arguments.first
    for door in chosen:
        if DOORS[door].missing:
            print(f"{door}: left out, as {DOORS[door].missing} is not installed", flush=True)
            continue
        end = first + DOORS[door].number(arguments.inputs)
        if arguments.way != "generated":
            jobs.append([door, "damaged", arguments.seed, first, end])
        if arguments.way != "damaged" and door in GENERATED:
            jobs.append([door, "generated", arguments.seed, 0, end])
    tally, start, shown = Tally(), time.monotonic(), set()

    def done(door: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {door}: {tally.line(door)}", flush=True)
        for fault in tally.faults:
            where = (fault.door, fault.outcome.kind, fault.outcome.words.strip()[-200:])
            if where not in shown and len(shown) < arguments.shown:
                shown.add(where)
                print(f"\n{fault}\n", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        run_campaign(jobs, Path(scratch), tally, done)
    print(f"\n{tally.table()}\n\n{len(tally.faults)} faults, {time.monotonic() - start:.0f} s")
    return bool(tally.faults)


if __name__ == "__main__":
    sys.exit(main())
