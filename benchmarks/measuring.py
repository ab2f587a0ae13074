"""What the benchmarks share: inputs, timing, memory, and libraries side by side in turns."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HEIGHT, WIDTH, OBJECTS, CLASSES = 800, 1333, 10, 80


def photograph(height: int = HEIGHT, width: int = WIDTH, objects: int = OBJECTS):
    """The same image and objects for both libraries: seeded noise, boxes of all sizes, full masks."""
    import numpy as np

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    sides = np.geomspace(0.03, 0.75, objects) * min(height, width)
    corner = rng.uniform(0, 1, (objects, 2)) * (np.array([width, height]) - sides[:, None])
    boxes = np.concatenate([corner, corner + sides[:, None]], 1).astype(np.float32)
    masks = np.zeros((objects, height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return image, {"boxes": boxes, "labels": rng.integers(0, CLASSES, objects), "masks": masks}


class PeakMemory:
    """Largest resident size of this process since `reset`, in MiB."""

    def reset(self):
        try:
            pathlib.Path("/proc/self/clear_refs").write_text("5")
            self.exact = True
        except OSError:
            self.exact = False

    def read(self) -> float:
        if self.exact:
            for line in pathlib.Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step, repeats: int) -> dict:
    """First call, then the median of the next ones, and the peak memory of those."""
    memory = PeakMemory()
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    memory.reset()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {
        "first_call_s": first,
        "step_s": statistics.median(seconds),
        "step_s_min": min(seconds),
        "step_s_max": max(seconds),
        "seconds": seconds,
        "peak_mib": memory.read(),
        "peak_includes_compilation": not memory.exact,
    }


def product_rate(dtype: str = "float32", side: int = 4096) -> float:
    """Operations per second of a product of two square matrices on JAX's first device, best of three."""
    import jax
    import jax.numpy as jnp

    matrix, seconds = jnp.ones((side, side), dtype), []
    product = jax.jit(jnp.matmul)
    for _ in range(4):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def in_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, list[dict | None]]:
    """Runs the commands one after the other, ``rounds`` times.

    Args:
        commands: Command by name; the last line that it prints is JSON.
        rounds: How often.

    Returns:
        What each printed in every round; None where it failed, which is said on stderr.
    """
    printed = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            result = subprocess.run(command, capture_output=True, text=True)
            lines = result.stdout.strip().splitlines()
            if result.returncode or not lines:
                last = (result.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"{name}: not measured ({last})", file=sys.stderr)
                printed[name].append(None)
            else:
                printed[name].append(json.loads(lines[-1]))
    return printed


def hardware() -> str:
    """The processor and how many of its cores there are for this process."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x.split(":", 1)[1] for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}"


def spread(seconds, scale: float = 1.0, digits: int = 2) -> str:
    """Median (smallest to largest) of some measurements, in units of ``1 / scale``."""
    values = sorted(scale * s for s in seconds)
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def table(head: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def write_figures(path: str | None, figures: dict) -> None:
    """The figures as json beside the hardware that they were taken on; nothing where no path is given."""
    if path:
        pathlib.Path(path).write_text(json.dumps({"hardware": hardware(), **figures}, indent=1))
