"""A process that tries inputs and writes what became of each, so that its end is known to be one input's."""

import json
import logging
import os
import resource
import sys
from pathlib import Path

from .attempts import Outcome, forbid_writes_outside
from .generated import generated
from .trial import Place

_MORE = 6 * 2**30  # bytes of address space, so that a runaway allocation fails instead of filling the machine
VALID = -1  # the number of the input that is not damaged


def _limit_memory() -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    limit = pages * resource.getpagesize() + _MORE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(jobs: list, log: Path, scratch: Path) -> None:
    """Works through jobs; writes a line before and a line after each input.

    Args:
        jobs: Lists of the door's name, the way ("damaged" or "generated"), the seed, and the first and the
            last number of the inputs, the latter excluded.
        log: The file of the lines.
        scratch: An empty folder.
    """
    logging.disable(logging.CRITICAL)
    # Before writes are forbidden: what is written into caches when it is first used.
    os.chdir(scratch)
    with open(log, "a") as file:

        def begin(*names) -> None:
            file.write(json.dumps(["begin", *names]) + "\n")
            file.flush()

        def end(outcome: Outcome) -> None:
            file.write(json.dumps(["end", *outcome]) + "\n")
            file.flush()

        forbidden = False
        for door, way, seed, start, stop in jobs:
            begin(door, "setup", seed, start)
            place = Place(door, scratch)
            if start <= 0:
                begin(door, way, seed, VALID)
                end(place.untouched())
            if not forbidden:
                forbid_writes_outside(scratch, log, Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))
                _limit_memory()
                forbidden = True
            if way == "generated":
                generated(place, seed, stop, begin, end)
                continue
            for index in range(start, stop):
                begin(door, way, seed, index)
                end(place.damaged(seed, index))
            place.remove()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
