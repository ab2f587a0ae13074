"""A whole train.py and a whole evaluate.py, with the share of time that the device waits for data.

    python benchmarks/runs.py [--steps=60] [--images=64] [--side=128] [--batch=8] [--rounds=2]

Each is run --rounds times as a user runs it, in a process of its own, on generated shapes with the
quickstart's model. The first round begins with an empty cache of compiled programs and the later ones with
what it has left there. Columns:

    s: from the command's start to its end.
    compiling s: of these, compilation of the training step, as the log says it.
    images/s: while steps are taken, without compilation; while pictures are detected, with it.
    waits for data: share of that time in which the device had nothing to do because the next batch was not
        there yet, as metrics.jsonl and evaluate.py's log say it.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import hardware, table, write_figures

ROOT = Path(__file__).resolve().parents[1]


def run(words: list[str], folder: Path) -> tuple[float, str]:
    """Seconds of a command and what it logged."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    start = time.perf_counter()
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    if result.returncode:
        sys.exit(f"{words[0]} failed: {result.stderr.strip().splitlines()[-1:]}")
    return time.perf_counter() - start, result.stderr


def train(args, folder: Path, number: int) -> dict:
    workdir = folder / f"run{number}"
    seconds, log = run(
        [
            str(ROOT / "train.py"), f"--workdir={workdir}", f"--config.train.steps={args.steps}",
            f"--config.train.log_every={max(args.steps // 4, 1)}",
            f"--config.data.shapes.train_images={args.images}",
            f"--config.data.shapes.eval_images={args.images}", f"--config.data.shapes.size={args.side}",
            f"--config.data.min_sizes={args.side}", f"--config.data.max_size={args.side}",
            f"--config.model.input.test_min_size={args.side}",
            f"--config.model.input.test_max_size={args.side}",
            f"--config.data.batch_size={args.batch}", f"--config.data.threads={args.threads}",
        ],
        folder,
    )  # fmt: skip
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "images_per_second" in line]
    compiling = sum(map(float, re.findall(r"Compiled for .* in ([\d.]+) s", log)))
    return {
        "seconds": seconds,
        "compiling": compiling,
        "per_second": statistics.median(line["images_per_second"] for line in steps),
        "waiting": statistics.fmean(line["data_wait"] for line in steps),
    }


def evaluate(args, folder: Path, number: int) -> dict:
    (pictures,) = (folder / f"run{number}" / "data").glob("shapes-*-seed1")  # those of the evaluation
    seconds, log = run(
        [
            str(ROOT / "evaluate.py"), f"--checkpoint={folder / f'run{number}'}",
            f"--annotations={pictures / 'annotations.json'}", f"--images={pictures / 'images'}",
            f"--batch_size={args.batch}",
        ],
        folder,
    )  # fmt: skip
    found = re.search(r"\(([\d.]+) images/s\); the device waited for data for ([\d.]+) %", log)
    return {
        "seconds": seconds,
        "compiling": None,
        "per_second": float(found[1]),
        "waiting": float(found[2]) / 100,
    }


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--images", type=int, default=64, help="of the training and of the evaluation data")
    parser.add_argument("--side", type=int, default=128, help="of the pictures in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", help="write all figures to this json file as well")
    args = parser.parse_args(argv)
    figures = {"train.py": [], "evaluate.py": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            figures["train.py"].append(train(args, Path(folder), number))
            figures["evaluate.py"].append(evaluate(args, Path(folder), number))
    print(f"{hardware()}; {args.steps} steps of {args.batch}, {args.images} images, {args.side} pixels\n")
    rows = [
        [
            command, "empty" if not number else "kept", f"{found['seconds']:.1f}",
            "" if found["compiling"] is None else f"{found['compiling']:.1f}",
            f"{found['per_second']:.1f}", f"{100 * found['waiting']:.1f} %",
        ]
        for command, rounds in figures.items() for number, found in enumerate(rounds)
    ]  # fmt: skip
    print(table(["command", "cache", "s", "compiling s", "images/s", "waits for data"], rows))
    write_figures(args.output, {"options": vars(args), "commands": figures})


if __name__ == "__main__":
    main()
