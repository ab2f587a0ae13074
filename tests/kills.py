"""Kills a training at many moments, and compares what it becomes with a run that nobody has killed.

``python tests/kills.py --runs=8 --each=4`` has 32 kills, with a step that takes no compilation;
``--kind=real`` has the real one.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import jax  # noqa: E402  (found by the path above)
import numpy as np  # noqa: E402
from orbax.checkpoint import v1 as ocp  # noqa: E402

ORDER = (
    "images are generated", "records are written", "records are complete", "a step", "a checkpoint begins",
    "a checkpoint is complete", "an evaluation", "the best model is written", "detections are written",
    "the metrics are written", "the last model is written", "the end",
)  # fmt: skip
# Numbers of metrics.jsonl that are times and memory.
PACE = ("images_per_second", "seconds_per_step", "data_wait", "time", "host_memory", "device_memory")


class Kill(NamedTuple):
    """One signal.

    Attributes:
        moment: One of `ORDER`.
        count: The how many-th of this kind.
        seconds: How long after it.
        signal: Name of the signal.
    """

    moment: str
    count: int
    seconds: float
    signal: str


def plan(runs: int, each: int, seed: int, moments=ORDER) -> list[list[Kill]]:
    """Moments for every run in the order in which they come, with two of three signals a SIGKILL."""
    draw = random.Random(seed)
    names = [("SIGKILL", "SIGKILL", ("SIGTERM", "SIGINT", "SIGHUP")[i % 3]) for i in range(runs * each)]
    signals = [name for three in names for name in three][: runs * each]
    draw.shuffle(signals)
    # Every moment comes up before one does so again.
    cycle = [moment for _ in range(runs) for moment in draw.sample(moments, len(moments))]
    plans = []
    for i in range(runs):
        chosen = sorted(cycle[i * each : (i + 1) * each], key=ORDER.index)
        plans.append([_kill(draw, moment, name) for moment, name in zip(chosen, signals[:each], strict=True)])
        del signals[:each]
    return plans


def _kill(draw: random.Random, moment: str, name: str) -> Kill:
    count = draw.randint(1, 3) if moment == "a step" else 1
    return Kill(moment, count, draw.choice((0.0, draw.uniform(0, 0.05), draw.uniform(0, 0.3))), name)


def start(workdir: Path, cache: Path, kind: str, kill: Kill | None = None) -> tuple[int, str]:
    """One process; returns its exit status and the last line of its output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(workdir.parent / "xla"))
    words = (kill.signal, kill.moment, kill.count, kill.seconds) if kill else ("SIGKILL", "the end", 0, 0)
    command = [sys.executable, str(TESTS / "killable_run.py"), str(workdir), str(cache), kind]
    done = subprocess.run([*command, *map(str, words)], env=environment, capture_output=True, text=True)
    said = done.stdout.splitlines()
    last = said[-1] if said else ""
    if kill and "sent" not in said:
        last = "the moment did not come"
    ends = {0, -signal.Signals[kill.signal]} if kill else {0}
    interrupted = kill is not None and kill.signal == "SIGINT" and "KeyboardInterrupt" in done.stderr[-300:]
    assert done.returncode in ends or interrupted, (kill, done.returncode, done.stderr[-3000:])
    return done.returncode, last


def killed_run(workdir: Path, cache: Path, kind: str, kills: list[Kill]) -> list[tuple[Kill, str]]:
    """Kills a run again and again, and lets it end; returns what became of each process."""
    ends = []
    for kill in kills:
        status, last = start(workdir, cache, kind, kill)
        ended = status < 0 or (status and kill.signal == "SIGINT")
        came = "ended by the signal" if ended else last
        ends.append((kill, came))
    assert start(workdir, cache, kind) == (0, "finished")
    return ends


def everything(workdir: Path) -> dict[str, np.ndarray]:
    """All numbers of the last checkpoint, of both models and of the metrics, by name."""
    workdir = Path(workdir).absolute()
    with ocp.training.Checkpointer(workdir / "checkpoints") as checkpointer:
        assert checkpointer.latest.step == 12
        parts = checkpointer.checkpointables_metadata(12).metadata
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        arrays = {name: parts[name] for name in ("model", "train")}
        arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), arrays)
        tree = checkpointer.load_checkpointables(12, {**arrays, "data": None})
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    numbers = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}
    for name in ("best", "model"):
        folder = workdir / name
        arrays = ocp.load(folder / json.loads((folder / "model.json").read_text())["array_folder"])
        numbers |= {f"{name} {path}": np.asarray(x) for path, x in arrays.items()}
    for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        kind = "eval" if any(key.startswith("eval/") for key in line) else "step"
        for key, value in line.items():
            if key not in PACE:
                place = f"metrics.jsonl {kind} {line['step']} {key}"
                assert place not in numbers, place
                numbers[place] = np.asarray(value, np.float64)
    for name in ("metrics.json", "detections.json"):
        numbers[name] = np.frombuffer((workdir / name).read_bytes(), np.uint8)
    return numbers


def differences(a: Path, b: Path) -> list[str]:
    """Names of numbers that are not the same bit for bit, and of files that one of two workdirs lacks."""
    one, other = everything(a), everything(b)
    names = [name for name in one | other if name not in one or name not in other]
    names += [n for n in one if n in other and one[n].tobytes() != other[n].tobytes()]
    return names + sorted(_names(a) ^ _names(b))


def _names(workdir: Path) -> set[str]:
    """The workdir's own files and folders; the names of folders of arrays are random."""
    return {p.name for p in Path(workdir).iterdir()} | {
        str(p.relative_to(workdir)) for p in Path(workdir, "checkpoints").iterdir()
    }


def main() -> int:
    """Runs the kills that the arguments describe; returns 1 where a run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.replace("``", ""))
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--each", type=int, default=4, help="kills of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=("quick", "real"), default="quick")
    arguments = parser.parse_args()
    moments = [m for m in ORDER if arguments.kind == "quick" or m != "an evaluation"]
    counts: dict[str, int] = {}
    different = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        assert start(folder / "whole", folder / "whole" / "cache", arguments.kind) == (0, "finished")
        for i, kills in enumerate(plan(arguments.runs, arguments.each, arguments.seed, moments)):
            workdir = folder / f"killed-{i}"
            for kill, came in killed_run(workdir, workdir / "cache", arguments.kind, kills):
                counts[f"{kill.signal}: {came}"] = counts.get(f"{kill.signal}: {came}", 0) + 1
                print(f"run {i}: {kill.signal} {kill.seconds:.3f} s after: {kill.moment}; {came}", flush=True)
            found = differences(folder / "whole", workdir)
            different += bool(found)
            print(f"run {i}: {'bit for bit the same' if not found else found[:9]}", flush=True)
    print(f"{counts}; {arguments.runs - different} of {arguments.runs} runs are the same")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
