"""Host time and memory of masks: as RLE, as arrays, as drawn pictures and as evaluation results.

    python benchmarks/masks.py [--cases=rle,bool,results,picture,evaluation] [--before=CHECKOUT] [--rounds=3]
    python benchmarks/masks.py --cases=memory

Cases, each for the 100 detections of an image of 800 x 1088 pixels, with masks of 28 x 28 (discs and rings
whose boxes have sides from 3 to 560 pixels):
    rle, bool: from a model's detections to results at the image's scale.
    results: the same, from detections to entries of COCO results.
    evaluation: these results scored against themselves, beside the above.
    picture: from RLE masks to a drawn picture.
    memory: largest resident size above that before the call, of 300 detections of an image of 3000 x 4000
        pixels as RLE, with the image's own 36 MB and its resizing.

--before names a checkout of another version, which runs in turns with this one. Times are of the
processor, in milliseconds an image: the median of --repeats calls, then over the rounds the median (smallest
to largest).
The last column is a checksum of the results, which versions with the same masks have in common.
"""

import argparse
import hashlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measuring import PeakMemory, hardware

CASES = ("rle", "bool", "results", "evaluation", "picture")
HEIGHT, WIDTH = 800, 1088


def detections(count: int, height: int, width: int, largest: float):
    import numpy as np

    from jaxmaskrcnn.structures import Detections

    rng = np.random.default_rng(0)
    side = np.exp(rng.uniform(np.log(3), np.log(largest), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - side)
    y, x = np.mgrid[:28, :28] - 13.5
    away = np.hypot(y, x)[None]
    outer, inner = rng.uniform(6, 14, (count, 1, 1)), rng.uniform(-8, 5, (count, 1, 1))
    masks = 1 / (1 + np.exp(np.maximum(away - outer, inner - away)))
    return Detections(
        boxes=np.concatenate([corner, corner + side], 1).astype(np.float32),
        scores=np.linspace(0.99, 0.1, count, dtype=np.float32),
        labels=rng.integers(0, 80, count).astype(np.int32),
        masks=masks.astype(np.float32),
        valid=np.ones(count, bool),
    )


def one(case: str, repeats: int) -> dict:
    """Milliseconds of a case in this process, with the package of the Python path."""
    import numpy as np

    from jaxmaskrcnn.evaluation.coco import GroundTruth
    from jaxmaskrcnn.evaluation.results import coco_results
    from jaxmaskrcnn.inference.postprocess import postprocess
    from jaxmaskrcnn.visualize.drawing import draw_detections
    from jaxmaskrcnn.zoo.lookup import model_config

    config, size = model_config("torchvision/maskrcnn_resnet50_fpn"), (HEIGHT, WIDTH)
    found = detections(100, *size, largest=560)
    pixels = np.full((*size, 3), 128, np.uint8)

    def results(masks="rle"):
        return postprocess(found, size, size, config, masks=masks)

    rle = results()
    entries = coco_results(rle, 1)
    annotations = {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": i, "name": str(i)} for i in sorted({e["category_id"] for e in entries})],
        "annotations": [
            {**e, "id": i + 1, "iscrowd": 0, "area": float(e["bbox"][2] * e["bbox"][3])}
            for i, e in enumerate(entries)
        ],
    }
    if case == "evaluation":
        truth = GroundTruth(annotations)
    step = {
        "rle": results,
        "bool": lambda: results("bool")["masks"],
        "results": lambda: coco_results(results(), 1),
        "evaluation": lambda: truth.score(coco_results(results(), 1), ("bbox", "segm"), ()),
        "picture": lambda: draw_detections(pixels, rle),
    }[case]
    value, seconds = step(), []
    for _ in range(repeats):
        start = time.process_time()
        value = step()
        seconds.append(time.process_time() - start)
    content = {
        "rle": lambda: pickle.dumps([mask["counts"] for mask in value["masks"]]),
        "bool": lambda: value.tobytes(),
        "results": lambda: json.dumps(value).encode(),
        "evaluation": lambda: json.dumps(value, default=float).encode(),
        "picture": lambda: value.tobytes(),
    }[case]()
    return {"ms": 1e3 * statistics.median(seconds), "check": hashlib.sha256(content).hexdigest()[:8]}


def memory() -> dict:
    """MiB above the resident size before it, of what happens to an image outside of the device."""
    import numpy as np

    from jaxmaskrcnn.data.preprocess import make_batch
    from jaxmaskrcnn.inference.postprocess import postprocess
    from jaxmaskrcnn.zoo.lookup import model_config

    config, size = model_config("torchvision/maskrcnn_resnet50_fpn"), (3000, 4000)
    found = detections(300, *size, largest=2500)
    one("rle", 1)  # what is imported and allocated once
    watch = PeakMemory()
    watch.reset()
    before = watch.read()
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:] = 128
    make_batch(config, [pixels])
    prepared = watch.read()
    watch.reset()
    masks = postprocess(found, size, size, config, masks="rle")["masks"]
    assert len(masks) == 300
    return {"image": prepared - before, "masks": watch.read() - before}


def run(checkout: Path, arguments: list[str]) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        result = memory() if arguments.one == "memory" else one(arguments.one, arguments.repeats)
        print(json.dumps(result))
        return
    here = Path(__file__).resolve().parents[1]
    print(hardware())
    versions = {"before": arguments.before, "now": here} if arguments.before else {"now": here}
    for case in arguments.cases.split(","):
        found = {name: [] for name in versions}
        for _ in range(arguments.rounds):
            for name, checkout in versions.items():
                found[name].append(run(checkout, [f"--one={case}", f"--repeats={arguments.repeats}"]))
        for name, results in found.items():
            if case == "memory":
                image, masks = (statistics.median(r[key] for r in results) for key in ("image", "masks"))
                print(f"{case} {name}: reading and resizing {image:.0f} MiB, masks {masks:.0f} MiB")
                continue
            times = sorted(r["ms"] for r in results)
            print(
                f"{case} {name}: {statistics.median(times):.1f} ms ({times[0]:.1f} to {times[-1]:.1f}) "
                f"{' '.join(sorted({r['check'] for r in results}))}"
            )


if __name__ == "__main__":
    main()
