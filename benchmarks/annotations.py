"""Processor time and memory of reading a large COCO json.

    python benchmarks/annotations.py [--images=118000] [--objects=860000] [--cases=inspect,start,prepare,open]

The json has polygons of 6 to 40 vertices in pictures of 640 x 480, which are one file under many names
(hard links). Every case is a process of its own:

    inspect: `python -m jaxmaskrcnn inspect --skip_decoding` without a contact sheet.
    start: the hash of the json and of its image files, which a training needs before it finds its records;
        the first time, when the file names of the json are not remembered.
    prepare: writing the records, as the first training does.
    open: opening them, as a training that goes on does; start is part of it, with remembered names.

The table has the seconds of the processor in the program and in the system, with its imports, and the peak of
resident memory. Other work on the machine makes the first larger too, as caches are shared.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import hardware, table, write_figures

HEIGHT, WIDTH, CLASSES = 480, 640, 80
START = """
import sys
from pathlib import Path
from jaxmaskrcnn.data.records.fingerprint import content_hash
content_hash(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), [])
"""
PREPARE = """
import sys
from jaxmaskrcnn.data import prepare
prepare(*sys.argv[1:4])[0]
"""
CASES = ("inspect", "start", "prepare", "open")


def write_set(folder: Path, images: int, objects: int) -> tuple[Path, Path]:
    """Writes a json with polygons and its pictures, and returns the paths of the json and of the folder."""
    from PIL import Image

    pictures, path, picture = folder / "images", folder / "instances.json", folder / "picture.jpg"
    pictures.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (90, 100, 110)).save(picture)
    entries = []
    for i in range(images):
        name = f"{i:012d}.jpg"
        try:
            os.link(picture, pictures / name)
        except OSError:  # a file has as many names as it can have
            picture.unlink()
            Image.new("RGB", (WIDTH, HEIGHT), (90, 100, 110)).save(picture)
            os.link(picture, pictures / name)
        entries.append({"id": i + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
    rng = random.Random(0)
    with path.open("w") as file:
        file.write(f'{{"images": {json.dumps(entries)}, "annotations": [')
        for number in range(objects):
            file.write(", " * (number > 0) + json.dumps(annotation(rng, number + 1, images)))
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path, pictures


def annotation(rng: random.Random, identity: int, images: int) -> dict:
    """An object in the shape of an ellipse."""
    width, height = rng.uniform(10, 130), rng.uniform(10, 95)
    x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
    count, ring = rng.randint(6, 40), []
    for vertex in range(count):
        angle = 2 * math.pi * vertex / count
        ring.append(round(x + width / 2 * (1 + math.cos(angle)), 2))
        ring.append(round(y + height / 2 * (1 + math.sin(angle)), 2))
    return {
        "id": identity, "image_id": rng.randint(1, images), "category_id": rng.randint(1, CLASSES),
        "iscrowd": 0, "area": round(0.78 * width * height, 2), "segmentation": [ring],
        "bbox": [round(x, 2), round(y, 2), round(width, 2), round(height, 2)],
    }  # fmt: skip


def command(case: str, paths: tuple[Path, Path], folder: Path) -> list[str]:
    """What a case runs."""
    annotations, images = map(str, paths)
    if case == "inspect":
        options = [f"--images={images}", "--skip_decoding", "--count=0"]
        return [sys.executable, "-m", "jaxmaskrcnn", "inspect", annotations, *options]
    if case == "start":
        return [sys.executable, "-c", START, annotations, images, tempfile.mkdtemp(dir=folder)]
    return [sys.executable, "-c", PREPARE, annotations, images, str(folder / "cache")]


def measure_command(arguments: list[str]) -> dict[str, float]:
    """Runs a command and tells what it took.

    Returns:
        ``user`` and ``system`` (processor time in seconds), ``clock`` (seconds) and ``peak_mib``.
    """
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}.")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
    return {
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "clock": time.perf_counter() - start,
        "peak_mib": usage.ru_maxrss / unit,
    }


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--cases", default="inspect,start", help=f"of {', '.join(CASES)}; open needs prepare")
    parser.add_argument("--rounds", type=int, default=1, help="of all cases, one after the other")
    parser.add_argument("--output", help="write all figures to this json file as well")
    args = parser.parse_args(argv)
    cases = args.cases.split(",")
    if unknown := set(cases) - set(CASES):
        parser.error(f"--cases has {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    if "open" in cases and "prepare" not in cases[: cases.index("open")]:
        parser.error("--cases has open without prepare before it")
    found: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_set(folder, args.images, args.objects)
        megabytes = paths[0].stat().st_size / 1e6
        for number in range(args.rounds):
            for case in cases:
                if case != "prepare" or not number:  # the records are there afterwards
                    found[case].append(measure_command(command(case, paths, folder)))
    print(f"{hardware()}; {args.images} images, {args.objects} objects, a json of {megabytes:.0f} MB\n")
    rows = []
    for case, runs in found.items():
        times = [min(run[key] for run in runs) for key in ("user", "system", "clock")]
        peak = max(run["peak_mib"] for run in runs)
        rows.append([case, *(f"{value:.1f}" for value in times), f"{peak:.0f}"])
    print(table(["case", "processor s", "system s", "s", "peak MiB"], rows))
    write_figures(args.output, {"options": vars(args), "cases": found})


if __name__ == "__main__":
    main(sys.argv[1:])
