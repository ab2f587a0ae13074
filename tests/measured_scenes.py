"""Random data sets of LVIS and of Cityscapes, with what a detector might find in them.

The scripts that record the goldens of their own programs use them too, so this needs neither JAX nor the
package.
"""

import hashlib
import json

import numpy as np
from pycocotools import mask as rle_codec

SIDE = 140  # of LVIS' images
EDGES = (31, 32, 33, 95, 96, 97)  # sides around the limits of the size classes; 32 and 96 are on them
CLASSES = 12  # of LVIS; the last three have no object
LVIS_SEEDS = (0, 1, 2, 3)
CITYSCAPES_SEEDS = (0, 1, 2, 3, 4)

SIZE = 64, 128  # of Cityscapes' images
THINGS = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
          33: "bicycle"}  # fmt: skip
_VOID = (0, 1, 4, 6, 9, 14, 18, 29)
_STUFF = (7, 11, 23)


def encode(mask):
    """Compressed RLE that json can hold."""
    rle = rle_codec.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def checksum(scene):
    """Of everything in a scene, so that a golden is not compared with another one."""
    return hashlib.sha256(json.dumps(scene, sort_keys=True).encode()).hexdigest()


def _rectangle(box, size):
    x, y, width, height = box
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def lvis_scene(seed, *, images=7, crowded=330, ignores=0.15):
    """An LVIS json and COCO results for it.

    Objects lie on a coarse grid, so that overlaps are often equal, and so are scores. The last image is
    empty, the one before has detections only, and the first one more detections than count.

    Returns:
        The json's content, and results with boxes and masks.
    """
    rng = np.random.default_rng(seed)
    objects, detections = [], []

    def place():
        width, height = (int(rng.choice(EDGES)) if rng.random() < 0.5 else 8 * int(rng.integers(1, 7)), 0)
        height = width if rng.random() < 0.7 else 8 * int(rng.integers(1, 7))
        return [8 * int(rng.integers(0, 5)), 8 * int(rng.integers(0, 5)), width, height]

    def score():
        return float(rng.integers(0, 11)) / 10

    def region(box):
        x, y, width, height = box
        mask = _rectangle(box, (SIDE, SIDE))
        if rng.random() < 0.3:  # so that the areas of mask and box differ
            mask[y : y + height // 3, x : x + width // 2] = False
        return {"bbox": [float(v) for v in box], "segmentation": encode(mask)}

    def category():
        return int(rng.integers(1, CLASSES + 1))

    for image in range(1, images - 1):
        for _ in range(int(rng.integers(2, 9))):
            box, own = place(), int(rng.integers(1, CLASSES - 2))
            x, y, width, height = box
            entry = {"id": len(objects) + 1, "image_id": image, "category_id": own, **region(box)}
            entry["area"] = float(width * height)
            if rng.random() < 0.4:
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                entry["segmentation"] = [[float(v) for v in corners]]
            if rng.random() < ignores:
                entry["ignore"] = 1
            objects.append(entry)
            for _ in range(int(rng.integers(0, 5))):
                dx, dy, dw, dh = (rng.integers(-6, 7, 4) * (rng.random(4) < 0.4)).tolist()
                near = [max(x + dx, 0), max(y + dy, 0), max(width + dw, 1), max(height + dh, 1)]
                other = category() if rng.random() < 0.2 else own
                detections.append({"image_id": image, "category_id": other, "score": score(), **region(near)})
    for image in range(1, images):
        for _ in range(12):
            entry = {"image_id": image, "category_id": category(), "score": score()}
            detections.append(entry | region(place()))
    for _ in range(crowded):
        found = objects[int(rng.integers(0, len(objects)))]
        entry = {"image_id": 1, "category_id": found["category_id"], "score": score()}
        detections.append(entry | region([int(v) for v in found["bbox"]]))
    order = rng.permutation(len(detections))
    listed = []
    for image in range(1, images + 1):
        shown = {entry["category_id"] for entry in objects if entry["image_id"] == image}
        others = [k for k in range(1, CLASSES + 1) if k not in shown]
        partial = [k for k in range(1, CLASSES + 1) if rng.random() < 0.2]
        listed.append(
            {"id": image, "height": SIDE, "width": SIDE, "not_exhaustive_category_ids": partial}
            | {"neg_category_ids": [k for k in others if rng.random() < 0.4]}
        )
    return {
        "images": listed,
        "annotations": objects,
        "categories": [
            {"id": k, "name": f"class {k}", "frequency": "rcf"[int(rng.integers(0, 3))]}
            for k in range(1, CLASSES + 1)
        ],
    }, [detections[i] for i in order]


def cityscapes_scene(seed, *, images=6):
    """Pictures of Cityscapes' ids, and masks that a detector might find.

    There are groups, void, objects of less than 100 pixels, caravans (objects that are not evaluated), equal
    scores, several masks of an object, empty masks, an image without objects and one without masks. There is
    no train, and no mask of a bus.

    Returns:
        The values of each picture, int lists [H, W], and of each image a list of class id, score and RLE.
    """
    rng = np.random.default_rng(100 + seed)
    pictures, found = [], []
    kinds = [kind for kind in THINGS if kind != 31]
    for image in range(images):
        ids, masks = np.full(SIZE, int(rng.choice(_STUFF))), []
        for _ in range(4):
            box = _box(rng, 40, 60)
            ids[_rectangle(box, SIZE)] = int(rng.choice((*_VOID, *_STUFF)))
            masks.append((int(rng.choice((24, 26))), _rectangle(box, SIZE)))
        if image != images - 1:
            for number in range(int(rng.integers(6, 14))):
                kind, box = int(rng.choice((*kinds, 24, 26, 29))), _box(rng, 9 if number % 3 else 25, 40)
                group = kind != 29 and rng.random() < 0.2
                ids[_rectangle(box, SIZE)] = kind if group else 1000 * kind + number
                masks += [
                    (kind, _rectangle(_shifted(rng, box), SIZE)) for _ in range(int(rng.integers(0, 4)))
                ]
        for kind in (24, 26):
            masks.append((kind, _rectangle(_box(rng, 30, 30), SIZE)))
        masks.append((26, np.zeros(SIZE, bool)))
        if image == 0:  # a wrong mask of each class, because the program fails for a class without an entry
            ids[44:] = 7
            masks += [(kind, _rectangle((4 * kind - 90, 44, 8, 20), SIZE)) for kind in kinds]
        pictures.append(ids.tolist())
        kept = [entry for entry in masks if entry[0] in THINGS and entry[0] != 28 and image != 1]
        found.append([[kind, float(rng.integers(1, 11)) / 10, encode(mask)] for kind, mask in kept])
    return pictures, found


def _box(rng, height, width):
    height, width = int(rng.integers(4, height)), int(rng.integers(4, width))
    return [int(rng.integers(0, SIZE[1] - width)), int(rng.integers(0, SIZE[0] - height)), width, height]


def _shifted(rng, box):
    dx, dy, dw, dh = (rng.integers(-3, 4, 4) * (rng.random(4) < 0.5)).tolist()
    x, y, width, height = box
    return [max(x + dx, 0), max(y + dy, 0), max(width + dw, 1), max(height + dh, 1)]
