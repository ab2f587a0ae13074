"""Time and memory of LVIS' evaluation of as many detections as its validation set can have.

    python benchmarks/lvis_evaluation.py

Random boxes and masks: 5,000 images with 300 detections each, of 1,203 classes; ten objects an image.
"""

import argparse
import resource
import sys
import time

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.evaluation.coco import GroundTruth

HEIGHT, WIDTH = 480, 640


def random_data(images: int, detections: int, classes: int, objects: int) -> tuple[dict, list[dict]]:
    """An LVIS json and COCO results with boxes and masks.

    Args:
        images: Number of images.
        detections: Of each image.
        classes: Number of classes.
        objects: Of each image.
    """
    rng = np.random.default_rng(0)
    content = {
        "images": [], "annotations": [],
        "categories": [
            {"id": k, "name": f"class {k}", "frequency": "rcf"[k % 3]} for k in range(1, classes + 1)
        ],
    }  # fmt: skip
    found = []
    for image in range(1, images + 1):
        corners = rng.uniform(0, 300, (detections, 2))
        boxes = np.concatenate([corners, rng.uniform(5, 150, (detections, 2))], 1)
        x, y, w, h = boxes.T
        polygons = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1)
        masks = rle_codec.frPyObjects(polygons.tolist(), HEIGHT, WIDTH)
        own = rng.integers(1, classes + 1, detections)
        scores = rng.random(detections)
        for k in range(detections):
            rle = {"size": [HEIGHT, WIDTH], "counts": masks[k]["counts"].decode()}
            entry = {"image_id": image, "category_id": int(own[k]), "bbox": boxes[k].tolist()}
            found.append({**entry, "score": float(scores[k]), "segmentation": rle})
        for k in range(objects):
            entry = {"id": len(content["annotations"]) + 1, "image_id": image, "category_id": int(own[k])}
            entry |= {"bbox": boxes[k].tolist(), "area": float(w[k] * h[k])}
            content["annotations"].append({**entry, "segmentation": [polygons[k].tolist()]})
        negative, partial = (rng.choice(classes, size, replace=False) + 1 for size in (10, 3))
        lists = {"neg_category_ids": negative.tolist(), "not_exhaustive_category_ids": partial.tolist()}
        content["images"].append({"id": image, "height": HEIGHT, "width": WIDTH, **lists})
    return content, found


def _gigabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("images", 5000), ("detections", 300), ("classes", 1203), ("objects", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    content, found = random_data(**vars(parser.parse_args()))
    print(f"{len(found)} detections in memory: {_gigabytes():.2f} GiB")
    start = time.perf_counter()
    truth = GroundTruth(content)
    print(f"annotations read in {time.perf_counter() - start:.1f} s")
    for kind in ("bbox", "segm"):
        start = time.perf_counter()
        metrics = truth.score(found, (kind,))
        name = {"bbox": "box", "segm": "mask"}[kind]
        seconds = time.perf_counter() - start
        print(f"{kind}: {seconds:.1f} s, AP {metrics[f'{name}_AP']:.4f}, most memory {_gigabytes():.2f} GiB")


if __name__ == "__main__":
    main()
