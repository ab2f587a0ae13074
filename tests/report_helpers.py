"""Small scenes for the tests of reports: objects and detections whose overlaps are plain to see."""

import numpy as np
from data_helpers import encode

SIZE = 100  # height and width of every image


def bar(width, x=0, y=0, height=10):
    """A box; two bars from one corner overlap by the smaller width over the larger one."""
    return [float(v) for v in (x, y, width, height)]


def truth(*objects, images=1, categories=(3, 17, 90)):
    """Annotations of objects (image, category, box) or (image, category, box, crowd), with masks."""
    annotations = []
    for i, (image, category, box, *crowd) in enumerate(objects):
        annotations.append(
            {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            | {"iscrowd": int(any(crowd)), "segmentation": mask_of(box)}
        )
    return {
        "images": [
            {"id": i + 1, "file_name": f"{i + 1}.png", "height": SIZE, "width": SIZE} for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in reversed(categories)],
    }


def found(image, category, score, box, *, masks=True):
    """One detection."""
    entry = {"image_id": image, "category_id": category, "score": score, "bbox": box}
    return entry | {"segmentation": mask_of(box)} if masks else entry


def mask_of(box):
    x, y, width, height = map(round, box)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y : y + height, x : x + width] = True
    return encode(mask)


def random_scene(seed, images=14, *, classes=(3, 17), crowds=0.15, crowded=110):
    """Every kind of error, crowds, equal scores and overlaps, a class and an image without objects."""
    rng = np.random.default_rng(seed)
    objects, detections = [], []
    for image in range(1, images):
        for _ in range(rng.integers(3, 7)):
            category = int(rng.choice(classes))
            x, y, width, height = (int(v) for v in rng.integers((0, 0, 8, 8), (70, 70, 30, 30)))
            crowd = bool(rng.random() < crowds)
            objects.append((image, category, bar(width, x, y, height), crowd))
            for _ in range(rng.integers(0, 4)):
                dx, dy = rng.integers(-6, 7, 2) * (rng.random() < 0.7)
                other = int(rng.choice([3, 17, 90])) if rng.random() < 0.3 else category
                box = bar(width, int(np.clip(x + dx, 0, 70)), int(np.clip(y + dy, 0, 70)), height)
                detections.append(found(image, other, float(rng.integers(1, 20)) / 20, box))
        corner = bar(6, *rng.integers(0, 90, 2).tolist(), 6)
        detections.append(found(image, 17, float(rng.random()), corner))
    detections.append(found(images, 3, 0.85, bar(5)))
    # More than count of one class and image.
    for x in range(crowded):
        detections.append(found(1, 3, 0.04 + x / 1e4, bar(3, x % 90, 95, 3)))
    return truth(*objects, images=images), detections
