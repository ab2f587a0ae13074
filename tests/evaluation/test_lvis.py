"""LVIS' numbers against those of its own program, and its rules one by one."""

import copy
import json
import logging

import numpy as np
import pytest
from measured_scenes import LVIS_SEEDS, SIDE, checksum, encode, lvis_scene

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.evaluation.tables import LVIS_STATS, format_metrics

NAMES = [stat.name for stat in LVIS_STATS]
GOLDENS = "tests/goldens/lvis.npz"


@pytest.mark.parametrize("seed", LVIS_SEEDS)
def test_equal_to_its_own_program(seed):
    recorded = np.load(GOLDENS)
    content, detections = scene = lvis_scene(seed)
    assert checksum(scene) == recorded[f"scene_{seed}"]
    metrics = coco_metrics(content, detections)
    assert metrics["protocol"] == "lvis"
    for kind, prefix in (("bbox", "box"), ("segm", "mask")):
        ours = [metrics[f"{prefix}_{name}"] for name in NAMES]
        ours = [-1 if value is None else value for value in ours]
        np.testing.assert_allclose(ours, recorded[f"{kind}_{seed}"], rtol=0, atol=1e-12)
        rows = [row[f"{prefix}_AP"] for row in metrics["per_class"].values()]
        rows = [-1 if value is None else value for value in rows]
        np.testing.assert_allclose(rows, recorded[f"{kind}_precision_{seed}"], rtol=0, atol=1e-12)


def one(*, negative=(), partial=(), frequency="f"):
    """An image with an object of class 1, of the two that there are."""
    objects = [annotation(1, (0, 0, 50, 50))]
    image = {"id": 1, "height": SIDE, "width": SIDE, "neg_category_ids": list(negative)}
    return {
        "images": [{**image, "not_exhaustive_category_ids": list(partial)}],
        "annotations": objects,
        "categories": [{"id": k, "name": str(k), "frequency": frequency} for k in (1, 2)],
    }


def annotation(category, box):
    x, y, width, height = box
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + height, x : x + width] = True
    entry = {"id": 1, "image_id": 1, "category_id": category, "area": float(width * height)}
    return {**entry, "bbox": list(map(float, box)), "segmentation": encode(mask)}


def found(category, box, score):
    entry = annotation(category, box)
    return {"image_id": 1, "category_id": category, "bbox": entry["bbox"], "score": score}


def ap(content, *detections, name="AP"):
    return coco_metrics(content, list(detections), ("bbox",))[f"box_{name}"]


def test_a_class_that_was_not_looked_for_is_left_out():
    content = one()
    content["annotations"].append({**annotation(2, (60, 60, 40, 40)), "image_id": 2, "id": 2})
    content["images"].append({**content["images"][0], "id": 2})
    right, elsewhere = found(2, (60, 60, 40, 40), 0.5), found(2, (90, 90, 30, 30), 0.9)
    right["image_id"] = 2
    hit = found(1, (0, 0, 50, 50), 0.9)
    assert ap(content, hit, right, elsewhere) == pytest.approx(1)  # image 1 says nothing of class 2
    content["images"][0]["neg_category_ids"] = [2]
    assert ap(content, hit, right, elsewhere) == pytest.approx(0.75)  # now it is wrong


def test_what_finds_nothing_is_ignored_where_not_all_objects_are_annotated():
    detections = found(1, (0, 0, 50, 50), 0.5), found(1, (80, 80, 40, 40), 0.9)
    assert ap(one(), *detections) == pytest.approx(0.5)
    assert ap(one(partial=[1]), *detections) == pytest.approx(1)


def test_300_detections_of_an_image_count_of_all_classes_together():
    content = one(negative=[2])
    others = [found(2, (0, 0, 10, 10), 0.9) for _ in range(299)]
    last = found(1, (0, 0, 50, 50), 0.5)
    assert ap(content, *others, last) == pytest.approx(1)
    assert ap(content, *others, found(2, (0, 0, 10, 10), 0.9), last) == 0
    # Those of classes that the image says nothing of take places too.
    content["images"][0]["neg_category_ids"] = []
    assert ap(content, *others, found(2, (0, 0, 10, 10), 0.9), last) == 0


def test_more_than_100_detections_of_a_class_count():
    others = [found(1, (90, 90, 10, 10), 0.9) for _ in range(150)]
    assert ap(one(), *others, found(1, (0, 0, 50, 50), 0.5)) == pytest.approx(1 / 151)


def test_an_ignored_object_takes_one_detection_and_is_not_missed():
    content = one()
    content["annotations"].append({**annotation(1, (60, 60, 40, 40)), "id": 2, "ignore": 1})
    hit, there = found(1, (0, 0, 50, 50), 0.5), found(1, (60, 60, 40, 40), 0.9)
    assert ap(content, hit) == ap(content, hit, there) == pytest.approx(1)
    assert ap(content, hit, there, there) == pytest.approx(0.5)


def test_classes_by_their_frequency():
    content, detections = lvis_scene(0)
    metrics = coco_metrics(content, detections)
    rows = list(metrics["per_class"].values())
    for letter, name in (("r", "rare"), ("c", "common"), ("f", "frequent")):
        own = [
            row["box_AP"]
            for row, entry in zip(rows, content["categories"], strict=True)
            if entry["frequency"] == letter and row["box_AP"] is not None
        ]
        assert metrics[f"box_AP_{name}"] == pytest.approx(np.mean(own))
    text = format_metrics(metrics)
    assert "measured as LVIS" in text and "classes=rare" in text and "maxDets=300" in text
    for entry in content["categories"]:
        entry["frequency"] = "c"
    assert coco_metrics(content, detections)["box_AP_rare"] is None


def test_which_protocol_is_taken():
    content, detections = lvis_scene(0)
    plain = copy.deepcopy(content)
    for entry in plain["categories"]:
        entry.pop("frequency")
    assert GroundTruth(content).protocol.name == "lvis"
    assert GroundTruth(plain).protocol.name == "coco"
    by_coco = coco_metrics(content, detections, protocol="coco")
    assert "protocol" not in by_coco and "box_AR100" in by_coco
    assert by_coco["box_AP"] != coco_metrics(content, detections)["box_AP"]
    with pytest.raises(
        UserError, match="cannot be scored as LVIS, because its categories have no 'frequency'"
    ):
        GroundTruth(plain, protocol="lvis")
    with pytest.raises(UserError, match="protocol is 'LVIS'; choose one of 'auto', 'coco'"):
        GroundTruth(content, protocol="LVIS")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c["categories"][0].update(frequency="x"),
            "category 1 has the frequency 'x'; give 'r', 'c'",
        ),
        (
            lambda c: c["images"][2].pop("neg_category_ids"),
            "image 3 has the neg_category_ids None; give a list",
        ),
        (
            lambda c: c["images"][0].update(not_exhaustive_category_ids=[99]),
            r"image 1 has the not_exhaustive_category_ids \[99\]; give a list of category ids",
        ),
    ],
)
def test_what_lvis_json_files_have_is_checked(change, message):
    content, _ = lvis_scene(0)
    change(content)
    with pytest.raises(UserError, match=message):
        GroundTruth(content)


def test_one_class_for_all_objects_is_not_lvis(tmp_path, caplog):
    from jaxmaskrcnn.data.coco.reading import Reading

    caplog.set_level(logging.ERROR)
    content, _ = lvis_scene(0)
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    assert GroundTruth(path, reading=Reading(class_name="thing")).protocol.name == "coco"
    with pytest.raises(UserError, match="because all objects get the one class that class_name gives"):
        GroundTruth(path, reading=Reading(class_name="thing"), protocol="lvis")


@pytest.mark.parametrize("value", [None, "x", ["r"], {}, 1])
def test_a_category_without_a_frequency_is_named(value):
    content = one()
    content["categories"][0]["frequency"] = value
    for broken in (content, {**content, "categories": [{"id": 1, "name": "1"}, content["categories"][1]]}):
        with pytest.raises(UserError, match="category 1 has the frequency .*; give 'r', 'c' or 'f'"):
            GroundTruth(broken)
