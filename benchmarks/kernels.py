"""Where the time of a step goes on a GPU: kernels by kind, and the longest ones.

    python benchmarks/kernels.py [--case=train] [--batch=8] [--dtype=bfloat16] [--longest=20]

The program is that of models.py. After a first step and three more, three steps are profiled with
jax.profiler. Milliseconds are of one step.
"""

import argparse
import collections
import re
import sys
import tempfile
from pathlib import Path

from measuring import HEIGHT, WIDTH, hardware, table

STEPS = 3
# The first pattern that a kernel's name has tells its kind.
KINDS = {
    "convolutions": r"(fprop|dgrad|wgrad|cudnn|conv2d|nhwcAddPadding|nchwToNhwc)",
    "products": r"(gemm|nvjet|cutlass|dot)",
    "scatter and gather": r"(scatter|gather)",
    "sorting": r"sort",
    "sums and other reductions": r"reduce",
    "transposes and concatenations": r"(transpose|concatenate|pad_)",
    "copies": r"(?i)(memcpy|memset|copy)",
    "elementwise": r"(loop_|wrapped_|fusion)",
}


def kind_of(kernel: str) -> str:
    """The kind of a kernel by its name, "other" if nothing is known of it."""
    for kind, pattern in KINDS.items():
        if re.search(pattern, kernel):
            return kind
    return "other"


def profile(step, folder: Path) -> dict[str, tuple[float, float]]:
    """Milliseconds and calls of each kernel in a step; nothing where no GPU is in the profile."""
    import jax

    for _ in range(4):
        jax.block_until_ready(step())
    with jax.profiler.trace(str(folder)):
        for _ in range(STEPS):
            result = step()
        jax.block_until_ready(result)
    (file,) = folder.rglob("*.xplane.pb")
    seconds, calls = collections.Counter(), collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines if "GPU" in plane.name else ():
            for event in line.events if "Stream" in line.name else ():
                seconds[event.name] += event.duration_ns / 1e6 / STEPS
                calls[event.name] += 1 / STEPS
    return {name: (time, calls[name]) for name, time in seconds.most_common()}


def by_kind(kernels: dict[str, tuple[float, float]]) -> list[list]:
    """Rows of the first table."""
    times, calls = collections.Counter(), collections.Counter()
    for name, (time, count) in kernels.items():
        times[kind_of(name)] += time
        calls[kind_of(name)] += count
    whole = sum(times.values())
    rows = [
        [kind, f"{time:.2f}", f"{time / whole:.0%}", round(calls[kind])] for kind, time in times.most_common()
    ]
    return [*rows, ["all", f"{whole:.2f}", "", round(sum(calls.values()))]]


def main(arguments=None):
    from models import program

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", choices=("train", "detect"), default="train")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--size", default=f"{HEIGHT},{WIDTH}", help="height and width of the images")
    parser.add_argument("--longest", type=int, default=20, help="how many kernels are listed")
    args = parser.parse_args(arguments)
    size = tuple(int(x) for x in args.size.split(","))
    canvas, step, _ = program(args.case, args.batch, size, args.dtype)
    with tempfile.TemporaryDirectory() as folder:
        kernels = profile(step, Path(folder))
    if not kernels:
        sys.exit("kernels: the profile has no GPU; run it on a machine with one.")
    print(f"{hardware()}; {args.case}, {' x '.join(map(str, canvas[:3]))}, {args.dtype}\n")
    print(table(["kernels", "ms", "share", "calls"], by_kind(kernels)))
    longest = [
        [f"`{name[:60]}`", f"{t:.2f}", round(n)] for name, (t, n) in list(kernels.items())[: args.longest]
    ]
    print("\n" + table(["kernel", "ms", "calls"], longest))


if __name__ == "__main__":
    main()
