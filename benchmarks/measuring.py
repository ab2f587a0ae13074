"""What the benchmarks share: inputs, timing, memory, and libraries side by side in turns."""

import json
import os
import pathlib
import platform
import shutil
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


def measure(step, repeats: int, wait=None, steps: int = 1, device_peak=None) -> dict:
    """First call, then the median of the next ones, and the peak memory of those.

    Args:
        step: What is measured.
        repeats: Number of measurements.
        wait: Called with what the last of the steps returned, until it is there; None if steps wait.
        steps: Of a measurement, which is divided by them. Where a program only hands its work to a device,
            several steps show what it takes when the next one is handed over meanwhile.
        device_peak: Gives the peak of the device's own memory in MiB, told in place of the process's.
    """
    memory = PeakMemory()

    def run(steps):
        for _ in range(steps):
            result = step()
        if wait is not None:
            wait(result)

    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    if steps > 1:
        run(3)
    memory.reset()
    seconds, processors = [], []
    for _ in range(repeats):
        start, processor = time.perf_counter(), time.process_time()
        run(steps)
        seconds.append((time.perf_counter() - start) / steps)
        processors.append((time.process_time() - processor) / steps)
    return {
        "first_call_s": first,
        "step_s": statistics.median(seconds),
        "step_s_min": min(seconds),
        "step_s_max": max(seconds),
        "seconds": seconds,
        "processor_seconds": processors,
        "peak_mib": memory.read() if device_peak is None else device_peak(),
        "peak_includes_compilation": not memory.exact and device_peak is None,
    }


def product_rate(dtype: str = "float32") -> float:
    """Operations per second of a product of two square matrices on JAX's first device, best of three."""
    import jax
    import jax.numpy as jnp

    side, steps = (4096, 1) if jax.default_backend() == "cpu" else (8192, 10)
    matrix, seconds = jax.random.normal(jax.random.key(0), (side, side), dtype), []
    product = jax.jit(jnp.matmul)
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(steps):
            result = product(matrix, matrix)
        result.block_until_ready()
        seconds.append((time.perf_counter() - start) / steps)
    return 2 * side**3 / min(seconds)


def on_device() -> dict:
    """What `measure` has to be told beside the step, for JAX's first device."""
    import jax

    if jax.default_backend() == "cpu":
        return {"wait": jax.block_until_ready}
    stats = jax.local_devices()[0].memory_stats
    return {
        "wait": jax.block_until_ready,
        "steps": 10,
        "device_peak": lambda: (stats() or {}).get("peak_bytes_in_use", 0) / 2**20,
    }


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
    """The processor, how many of its cores there are for this process, and NVIDIA's GPUs."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x.split(":", 1)[1] for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
    return ", ".join([*gpus, name, f"{cores} cores", platform.system()])


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
