"""COCO's numbers on random scenes, against pycocotools itself, and the memory that they take."""

import tracemalloc

import numpy as np
import pytest
from data_helpers import encode
from plain_pycocotools import NAMES, evaluate

from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics

SIDE = 140  # height and width of every image
EDGES = (31, 32, 33, 95, 96, 97)  # sides around the limits of the size classes; 32 and 96 are on them
CLASSES = (2, 5, 9, 40)


def region(x, y, width, height):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + height, x : x + width] = True
    return {"bbox": [float(v) for v in (x, y, width, height)], "segmentation": encode(mask)}


def scene(seed, *, images=8, crowds=0.2, ties=True, crowded=130):
    """Objects on a coarse grid, so that overlaps are often equal, and detections near to them.

    The last image is empty, the one before has detections only, the class 40 has no object, and the first
    image has more detections of a class than count.
    """
    rng = np.random.default_rng(seed)
    objects, detections = [], []

    def place():
        width, height = (int(rng.choice(EDGES)) if rng.random() < 0.5 else 8 * int(rng.integers(1, 7)), 0)
        height = width if rng.random() < 0.7 else 8 * int(rng.integers(1, 7))
        return [8 * int(rng.integers(0, 5)), 8 * int(rng.integers(0, 5)), width, height]

    def score():
        return float(rng.integers(0, 11)) / 10 if ties else float(rng.random())

    for image in range(1, images - 1):
        for _ in range(int(rng.integers(1, 9))):
            box, category = place(), int(rng.choice(CLASSES[:3]))
            shape = region(*box)
            objects.append(
                {"id": len(objects), "image_id": image, "category_id": category}
                | {"iscrowd": int(rng.random() < crowds), "area": float(box[2] * box[3]), **shape}
            )
            for _ in range(int(rng.integers(0, 5))):
                x, y, width, height = box
                dx, dy, dw, dh = (rng.integers(-6, 7, 4) * (rng.random(4) < 0.4)).tolist()
                near = [max(x + dx, 0), max(y + dy, 0), max(width + dw, 1), max(height + dh, 1)]
                other = int(rng.choice(CLASSES)) if rng.random() < 0.2 else category
                detections.append(
                    {"image_id": image, "category_id": other, "score": score(), **region(*near)}
                )
    for image in range(1, images):
        for _ in range(5):
            entry = {"image_id": image, "category_id": int(rng.choice(CLASSES)), "score": score()}
            detections.append(entry | region(*place()))
    for _ in range(crowded):
        found = objects[int(rng.integers(0, 3))]
        entry = {"image_id": 1, "category_id": found["category_id"], "score": score()}
        detections.append(entry | {key: found[key] for key in ("bbox", "segmentation")})
    order = rng.permutation(len(detections))
    return {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, images + 1)],
        "annotations": objects,
        "categories": [{"id": c, "name": str(c)} for c in CLASSES],
    }, [detections[i] for i in order]


def assert_same(content, detections):
    """All twelve numbers, of boxes and of masks, and the AP of every class."""
    metrics = coco_metrics(content, detections)
    for iou_type, prefix in (("bbox", "box"), ("segm", "mask")):
        expected = evaluate(content, detections, iou_type)
        ours = [metrics[f"{prefix}_{name}"] for name in NAMES]
        ours = [-1 if value is None else value for value in ours]
        np.testing.assert_allclose(ours, expected.stats, rtol=0, atol=1e-9)
        precision = expected.eval["precision"][:, :, :, 0, -1]
        for k, category in enumerate(sorted(c["id"] for c in content["categories"])):
            value = metrics["per_class"][str(category)][f"{prefix}_AP"]
            values = precision[:, :, k][precision[:, :, k] > -1]
            if values.size:
                assert value == pytest.approx(values.mean(), rel=0, abs=1e-9)
            else:
                assert value is None
    return metrics


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_random_scenes(seed, ties):
    metrics = assert_same(*scene(seed, ties=ties))
    assert 0.05 < metrics["mask_AP"] < 0.95
    assert metrics["per_class"]["40"] == {"box_AP": None, "mask_AP": None}


@pytest.mark.parametrize("crowds", [0, 0.6, 1])
def test_few_and_many_crowds(crowds):
    metrics = assert_same(*scene(20, crowds=crowds))
    assert (metrics["box_AP"] is None) == (crowds == 1)


def test_images_without_anything_and_sets_without_objects_or_detections():
    content, detections = scene(30)
    assert_same(content, [])
    assert_same(content, detections[:1])
    no_objects = {**content, "annotations": [{**a, "iscrowd": 1} for a in content["annotations"][:1]]}
    assert_same(no_objects, detections)


def test_a_detection_of_an_unknown_class_counts_nowhere():
    content, detections = scene(31)
    assert coco_metrics(content, [{**detections[0], "category_id": 77}, *detections]) == coco_metrics(
        content, detections
    )
    assert_same(content, [{**detections[0], "category_id": 77, "score": 1.0}, *detections])


def test_more_objects_of_one_class_in_an_image_than_a_byte_counts():
    content, _ = scene(32)
    boxes = [(x, y, 6, 6) for x in range(0, 130, 7) for y in range(0, 130, 7)][:300]
    content["annotations"] = [
        {"id": i, "image_id": 1, "category_id": 5, "iscrowd": int(i % 50 == 7), "area": 36.0, **region(*box)}
        for i, box in enumerate(boxes)
    ]
    detections = [
        {"image_id": 1, "category_id": 5, "score": i % 9 / 9, **region(x, y, 6 - i % 3, 6)}
        for i, (x, y, *_) in enumerate(boxes)
    ]
    assert_same(content, detections)


def test_of_equal_overlaps_the_last_object_is_taken():
    content, _ = scene(33)
    left, right, between = (region(x, 0, 40, 40) for x in (0, 16, 8))
    one = {"image_id": 1, "category_id": 5}
    detections = [{**one, "score": 0.9, **between}, {**one, "score": 0.8, **left}]
    recalls = []
    for objects in ([left, right], [right, left]):
        content["annotations"] = [
            {**one, "id": i, "iscrowd": 0, "area": 1600.0, **shape} for i, shape in enumerate(objects)
        ]
        recalls.append(assert_same(content, detections)["mask_AR100"])
    # `left` is free for the second detection, or the first one has taken it where it overlaps by enough.
    assert recalls[0] > recalls[1]


def test_memory_grows_with_the_detections_and_not_with_images_times_classes():
    classes, images = range(1, 201), range(1, 21)
    shape = {**region(0, 0, 20, 20), "image_id": 0, "category_id": 0}
    pairs = [{**shape, "image_id": i, "category_id": 10 * i + k} for i in images for k in range(-9, 1)]
    truth = GroundTruth(
        {
            "images": [{"id": i, "height": SIDE, "width": SIDE} for i in images],
            "annotations": [{**pair, "id": n, "iscrowd": 0, "area": 400} for n, pair in enumerate(pairs)],
            "categories": [{"id": k, "name": str(k)} for k in classes],
        }
    )
    tracemalloc.start()
    try:
        metrics = truth.score([{**pair, "score": 0.5} for pair in pairs])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert metrics["mask_AP"] == pytest.approx(1, abs=1e-9)
    # The precision of 200 classes at 101 recalls, 10 thresholds and 4 sizes is 6 MB.
    assert peak < 20e6
