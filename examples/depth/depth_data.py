"""Writes pictures of shapes whose annotations have a depth, and measures estimated depths.

    python examples/depth/depth_data.py data
    python examples/depth/depth_data.py data/eval.json results/detections.json

The second prints the mean error of the depths of the objects that were found.
"""

import json
import sys
from pathlib import Path

import numpy as np

from jaxmaskrcnn.data import write_shapes
from jaxmaskrcnn.ops.boxes import box_iou


def write(folder: str, train: int = 1000, evaluation: int = 200, size: int = 128) -> None:
    """Writes ``train.json``, ``eval.json`` and their images.

    Args:
        folder: Where they are written.
        train: Number of training images.
        evaluation: Number of images to evaluate on.
        size: Height and width in pixels.
    """
    for seed, (part, count) in enumerate((("train", train), ("eval", evaluation))):
        annotations, images = write_shapes(Path(folder) / "shapes", count, size, seed)
        content = json.loads(Path(annotations).read_text())
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["depth"] = 100 / max(width, height)  # the nearer, the larger
        Path(folder, f"{part}.json").write_text(json.dumps(content))
        link = Path(folder, part)
        if not link.exists():
            link.symlink_to(Path(images).resolve())


def error(annotations: str, detections: str) -> float:
    """The mean relative error of the depths of detections that overlap with an object.

    Args:
        annotations: The json of the objects.
        detections: ``detections.json`` of an evaluation.
    """
    objects = json.loads(Path(annotations).read_text())["annotations"]
    errors = []
    for found in json.loads(Path(detections).read_text()):
        if found["score"] < 0.5:
            continue
        own = [x for x in objects if x["image_id"] == found["image_id"]]
        overlap = np.asarray(box_iou(_corners([found]), _corners(own)))[0] if own else np.zeros(1)
        if overlap.max() >= 0.5:
            wanted = own[int(overlap.argmax())]["depth"]
            errors.append(abs(found["extra"]["depth"] - wanted) / wanted)
    return float(np.mean(errors)) if errors else float("nan")


def _corners(entries) -> np.ndarray:
    x, y, width, height = np.asarray([entry["bbox"] for entry in entries], np.float32).T
    return np.stack([x, y, x + width, y + height], 1)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write(sys.argv[1])
    else:
        print(f"mean error of the depths: {error(*sys.argv[1:]):.3f}")
