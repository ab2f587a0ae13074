"""Keypoint AP against pycocotools as anyone would run it, on files."""

import contextlib
import json

import numpy as np
import pytest
from data_helpers import annotation, content
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import coco_metrics
from jaxmaskrcnn.evaluation.tables import KEYPOINT_STATS, format_metrics
from jaxmaskrcnn.training.early_stopping import score

COUNT = 5
POINTS = [f"point {i}" for i in range(COUNT)]
CATEGORIES = [
    {"id": 3, "name": "cat", "keypoints": POINTS, "skeleton": []},
    {"id": 7, "name": "dog", "keypoints": POINTS, "skeleton": []},
]
SIGMAS = (0.03, 0.05, 0.07, 0.09, 0.11)


def scene(seed=0):
    """Annotations of eight images, some of whose objects have no keypoints, and detections near them."""
    rng = np.random.default_rng(seed)
    entries, found = [], []
    for image in range(1, 9):
        for _ in range(rng.integers(1, 4)):
            x, y = rng.integers(0, 60, 2).tolist()
            w, h = rng.integers(40, 130, 2).tolist()
            points = np.zeros((COUNT, 3))
            points[:, 2] = rng.integers(0, 3, COUNT) if rng.random() < 0.8 else 0
            points[:, :2] = (rng.random((COUNT, 2)) * [w, h] + [x, y]).round(1)
            points[points[:, 2] == 0] = 0
            category = int(rng.choice([3, 7]))
            entries.append(annotation(
                len(entries) + 1, image, category_id=category, bbox=[x, y, w, h], area=w * h * 0.7,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]], keypoints=points.ravel().tolist(),
                num_keypoints=int((points[:, 2] > 0).sum()), iscrowd=int(rng.random() < 0.1),
            ))  # fmt: skip
            for _ in range(2):
                moved = points[:, :2] + rng.normal(scale=rng.choice([1, 6, 20]), size=(COUNT, 2))
                found.append({
                    "image_id": image, "category_id": category, "bbox": [x + 1, y - 1, w, h],
                    "score": float(rng.random()),
                    "keypoints": np.concatenate([moved, rng.random((COUNT, 1))], 1).ravel().tolist(),
                })  # fmt: skip
    return content(entries, [(200, 200)] * 8, CATEGORIES), found


def original(data, found, sigmas, folder):
    """pycocotools' ten numbers, and its AP of each class."""
    path = folder / "gt.json"
    path.write_text(json.dumps(data))
    with contextlib.redirect_stdout(None):
        truth = COCO(path)
        evaluation = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return evaluation.stats, [precision[:, :, k].mean() for k in range(len(data["categories"]))]


def test_numbers_are_those_of_pycocotools(tmp_path):
    data, found = scene()
    ours = coco_metrics(data, found, ("bbox", "keypoints"), SIGMAS)
    stats, classes = original(data, found, SIGMAS, tmp_path)
    names = [f"keypoint_{name}" for name, *_ in KEYPOINT_STATS]
    numbers = [-1 if ours[name] is None else ours[name] for name in names]  # pycocotools' -1 is nothing
    np.testing.assert_allclose(numbers, stats, atol=1e-12)
    assert 0.1 < ours["keypoint_AP"] < 0.9 and len(set(stats.tolist())) > 5
    found_classes = [ours["per_class"][name]["keypoint_AP"] for name in ("cat", "dog")]
    np.testing.assert_allclose(found_classes, classes, atol=1e-12)
    assert "box_AP" in ours["per_class"]["cat"]
    text = format_metrics(ours)
    assert "Keypoints (OKS)" in text and "maxDets= 20" in text and "keypoint AP" in text


def test_sigmas_decide(tmp_path):
    data, found = scene(1)
    narrow, wide = (coco_metrics(data, found, ("keypoints",), (s,) * COUNT) for s in (0.02, 0.1))
    assert narrow["keypoint_AP"] < wide["keypoint_AP"]
    without = coco_metrics(data, found, ("keypoints",))  # 0.05 for keypoints that are not COCO's
    stats, _ = original(data, found, (0.05,) * COUNT, tmp_path)
    np.testing.assert_allclose(without["keypoint_AP"], stats[0], atol=1e-12)


def test_nothing_found_and_nothing_to_find():
    data, _ = scene()
    assert coco_metrics(data, [], ("keypoints",), SIGMAS)["keypoint_AP"] == 0
    hidden = json.loads(json.dumps(data))
    for entry in hidden["annotations"]:
        entry["keypoints"][2::3], entry["num_keypoints"] = [0] * COUNT, 0
    metrics = coco_metrics(hidden, [], ("keypoints",), SIGMAS)
    assert metrics["keypoint_AP"] is None and metrics["per_class"]["cat"]["keypoint_AP"] is None


def test_results_without_keypoints_are_refused():
    data, found = scene()
    del found[3]["keypoints"]
    with pytest.raises(UserError, match="Detection 3 .* has no list of 5 keypoints"):
        coco_metrics(data, found, ("keypoints",), SIGMAS)
    plain = content([annotation()])
    with pytest.raises(UserError, match="annotations have no keypoints"):
        coco_metrics(plain, [], ("keypoints",))


def test_models_are_compared_by_the_last_of_their_tasks():
    assert score({"box_AP": 0.1, "mask_AP": 0.2, "keypoint_AP": 0.3}) == 0.3
    assert score({"box_AP": 0.1, "mask_AP": 0.2, "keypoint_AP": None}) == 0.2
    assert score({"eval/box_AP": 0.1}, "eval/") == 0.1 and score({}) == 0
