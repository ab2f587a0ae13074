"""Milliseconds of convolutions in groups on a CPU: XLA's, and one group after the other.

    python benchmarks/convolutions.py [--cases=resnest,regnet,resnext] [--gradients] [--repeats=3]

The cases are 3x3 convolutions of the named backbones for an image of 800 x 1088. With --gradients a call
computes the result and all gradients. Both ways are measured in one process; the smallest time counts.
"""

import argparse
import time

import numpy as np
from measuring import hardware, table

# Height, width, channels in and out, groups and stride.
CASES = {
    "resnest": [(200, 272, 64, 128, 2, 1), (50, 68, 256, 512, 2, 1)],
    "regnet": [(200, 272, 80, 80, 2, 1), (100, 136, 240, 240, 6, 1), (100, 136, 560, 560, 14, 2)],
    "resnext": [(200, 272, 256, 256, 32, 1), (50, 68, 1024, 1024, 32, 1)],
}


def measure(case: tuple[int, ...], gradients: bool, repeats: int) -> dict[str, float]:
    """Milliseconds of both ways."""
    import jax
    import jax.numpy as jnp

    from jaxmaskrcnn.ops.convolution import convolution

    height, width, channels, features, groups, stride = case
    draw = np.random.default_rng(0).normal
    x = jnp.asarray(draw(size=(1, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(draw(size=(3, 3, channels // groups, features)), jnp.float32)
    best = {}
    for way in ("xla", "groups"):

        def apply(x, kernel, way=way):
            return convolution(x, kernel, None, None, stride, groups, True, way)

        def all_of(x, kernel, apply=apply):
            y, pull = jax.vjp(apply, x, kernel)
            return y, pull(y)

        function = jax.jit(all_of if gradients else apply)
        jax.block_until_ready(function(x, kernel))
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            jax.block_until_ready(function(x, kernel))
            seconds.append(time.perf_counter() - start)
        best[way] = 1000 * min(seconds)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--gradients", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if unknown := sorted(set(args.cases.split(",")) - set(CASES)):
        parser.error(f"--cases has {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    rows = []
    for name in args.cases.split(","):
        for case in CASES[name]:
            height, width, channels, features, groups, stride = case
            found = measure(case, args.gradients, args.repeats)
            shape = f"{height} x {width}, {channels} to {features}, {groups} groups, stride {stride}"
            rows.append([name, shape, *(f"{ms:.0f}" for ms in found.values())])
    print(f"{hardware()}; smallest of {args.repeats}\n")
    print(table(["backbone", "convolution", "XLA's, ms", "group by group, ms"], rows))


if __name__ == "__main__":
    main()
