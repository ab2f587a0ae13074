"""Small COCO-format data sets on disk for the tests of the data pipeline."""

import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from jaxmaskrcnn.ops.masks import unpack_masks

TRIANGLE = [[2.0, 2.0, 20.0, 3.0, 10.0, 18.0]]


def encode(mask):
    """Compressed RLE of a bool mask, as json holds it."""
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def annotation(identity=1, image_id=1, **changes):
    """A good annotation, with some fields changed; None removes a field."""
    entry = {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [2, 2, 18, 16],
        "segmentation": TRIANGLE,
        "iscrowd": 0,
        "area": 144,
    } | changes
    return {key: value for key, value in entry.items() if value is not None}


def content(annotations, sizes=((32, 40),), categories=({"id": 1, "name": "thing"},)):
    """A json's content; images are numbered from 1 and called 1.png, 2.png, ..."""
    images = [
        {"id": i + 1, "file_name": f"{i + 1}.png", "height": h, "width": w} for i, (h, w) in enumerate(sizes)
    ]
    return {"images": images, "annotations": list(annotations), "categories": list(categories)}


def write(directory, data, *, files=True, name="set.json") -> tuple[Path, Path]:
    """Writes the json, and random PNG files of the sizes it gives."""
    folder = directory / "images"
    folder.mkdir(exist_ok=True)
    for image in data["images"] if files else ():
        pixels = np.random.default_rng(image["id"]).integers(
            0, 256, (image["height"], image["width"], 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / image["file_name"])
    path = directory / name
    path.write_text(json.dumps(data))
    return path, folder


def rectangles(rng, count, height, width):
    """Random filled rectangles: masks [count, height, width] and their boxes."""
    masks, boxes = np.zeros((count, height, width), bool), []
    for mask in masks:
        x1, y1 = rng.integers(0, width - 6), rng.integers(0, height - 6)
        x2, y2 = rng.integers(x1 + 4, width + 1), rng.integers(y1 + 4, height + 1)
        mask[y1:y2, x1:x2] = True
        boxes.append([x1, y1, x2, y2])
    return masks, np.array(boxes, np.float32).reshape(-1, 4)


def random_set(directory, sizes, *, seed=0, counts=None, formats=("png",)) -> tuple[Path, Path]:
    """Images of the given sizes with random rectangles; by default one to four each."""
    rng = np.random.default_rng(seed)
    annotations = []
    for i, (height, width) in enumerate(sizes):
        count = int(rng.integers(1, 5)) if counts is None else counts[i]
        for mask, (x1, y1, x2, y2) in zip(*rectangles(rng, count, height, width), strict=True):
            box = [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]
            changes = {"bbox": box, "segmentation": encode(mask), "area": int(mask.sum())}
            changes["category_id"] = int(rng.integers(1, 4))
            annotations.append(annotation(len(annotations) + 1, i + 1, **changes))
    categories = [{"id": k, "name": f"class {k}"} for k in (1, 2, 3)]
    data = content(annotations, sizes, categories)
    for i, image in enumerate(data["images"]):
        image["file_name"] = f"{i + 1}.{formats[i % len(formats)]}"
    return write(directory, data)


def same(a, b):
    """Asserts that two trees have equal arrays."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def masks_of(batch):
    """The masks of a batch, bool [B, G, H, W]."""
    return np.asarray(unpack_masks(batch.targets.masks, batch.images.shape[2])).astype(bool)
