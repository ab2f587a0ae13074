"""``python tests/faults``: every write of every command fails once; prints a table.

With ``--errors=ENOSPC,EIO`` a write fails once, with ``--full`` those after it fail too, as on a disk that
is full, and with ``--read_only`` everything that changes a folder fails from a write on.
"""

import argparse
import collections
import errno
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]


def table(rows: list[dict]) -> str:
    """What is said and left, by case and kind of message, in Markdown."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        words = re.sub(r"\.\.\./[^ ]*", "PATH", row["message"].removeprefix("jaxmaskrcnn "))
        words = words.replace(os.strerror(getattr(errno, row["error"])), "REASON")
        groups.setdefault((row["case"], words or "nothing is refused"), []).append(row)
    lines = [
        "| What writes | Writes | What is said | What is there afterwards | Faults |",
        "|---|---:|---|---|---:|",
    ]
    for (case, words), found in groups.items():
        states = collections.Counter(row["state"] for row in found)
        left = "; ".join(f"{state} ({count})" for state, count in states.items())
        faults = sum(bool(row["faults"]) for row in found)
        lines.append(f"| {case} | {len(found)} | {words} | {left} | {faults} |")
    return "\n".join(lines)


def arguments_of(argv=None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace("``", ""))
    parser.add_argument("--cases", default="", help="beginnings of names of cases, with commas between them")
    parser.add_argument("--errors", default="ENOSPC,EIO")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--read_only", action="store_true")
    parser.add_argument("--clock", type=int, default=0, help="no write fails; the clock goes so far back")
    parser.add_argument("--leave_out", default="", help="cases that are not tried, by whole names")
    parser.add_argument("--without", default="", metavar="REGEX", help="writes that are not tried, by path")
    parser.add_argument("--every", type=int, default=1, help="tries one of so many writes")
    parser.add_argument("--json", help="file that gets a list of results")
    parser.add_argument("--table", help="prints the table of such a file, and tries nothing")
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def start(argv: list[str]) -> int:
    """Runs this program in a process whose writes can be made to fail."""
    from faults.shim import build

    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        environment = os.environ | {
            "LD_PRELOAD": str(library), "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        }  # fmt: skip
        environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(folder) / "xla"))
        scratch = Path(folder) / "work"
        scratch.mkdir()
        command = [sys.executable, "-X", "faulthandler", str(TESTS / "faults"), *argv, f"--scratch={scratch}"]
        return subprocess.run(command, env=environment).returncode


def main(argv: list[str]) -> int:
    """Tries the cases that the arguments name; returns 1 where something is wrong."""
    arguments = arguments_of(argv)
    if arguments.table:
        print(table(json.loads(Path(arguments.table).read_text())))
        return 0
    if arguments.scratch is None:
        return start(argv)
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    from faults.cases import CASES, write_inputs
    from faults.trial import Bench

    mode = "full" if arguments.full else "read-only" if arguments.read_only else "once"
    scratch, rows, faulty = Path(arguments.scratch), [], 0
    write_inputs(scratch / "inputs")
    for name, case in CASES.items():
        named = name.startswith(tuple(arguments.cases.split(",")))
        if not named or name in arguments.leave_out.split(","):
            continue
        folder = scratch / name.replace(" ", "-")
        folder.mkdir()
        bench = Bench(case, scratch / "inputs", folder)
        if arguments.clock:
            found = bench.with_clock_back(arguments.clock)
            rows.append({"case": name, "faults": found})
            print(f"{name}: {found or 'all is well'}", flush=True)
            faulty += bool(found)
            continue
        chosen = [
            w for w in bench.writes() if not arguments.without or not re.search(arguments.without, w.path)
        ]
        print(
            f"{name}: {len(bench.writes())} writes, {len(chosen[:: arguments.every])} are tried", flush=True
        )
        for write in chosen[:: arguments.every]:
            for error in arguments.errors.split(","):
                result = bench.attempt(write, getattr(errno, error), mode)
                if not result.end:
                    continue
                rows.append(
                    {"case": name, "error": error, "mode": mode, **write._asdict(), **result._asdict()}
                )
                faulty += bool(result.faults)
                print(f"{name} | {error} | {write.operation} {write.path} {write.count} | {result.end} | "
                      f"{result.message} | {result.state}", flush=True)  # fmt: skip
                for fault in result.faults:
                    print(f"    FAULT: {fault}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1))
    if not arguments.clock:
        print(f"{table(rows)}\n\n{len(rows)} writes failed, {faulty} with a fault")
    return bool(faulty)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
