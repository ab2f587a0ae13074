"""Numbers beside the protocol's: other limits, one score, thresholds by F1, some of the classes."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from report_helpers import bar, found, random_scene, truth

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.evaluation.own_rules import (
    Limits,
    best_threshold,
    best_thresholds,
    limited_metrics,
    metrics_at_score,
)
from jaxmaskrcnn.evaluation.own_tables import format_at_score, format_limited, format_thresholds
from jaxmaskrcnn.evaluation.results import best_of_each_image
from jaxmaskrcnn.evaluation.some_classes import common_classes
from jaxmaskrcnn.structures import Category

TYPES = ("bbox", "segm")


@pytest.fixture(scope="module")
def scene():
    content, detections = random_scene(3, crowded=150)
    # Of the 150 detections of one class and image that score least, those beyond the hundredth find objects.
    low = [d for d in detections if d["score"] < 0.0405][:20]
    for x, entry in enumerate(low):
        box = bar(4, 4 * x, 80, 5)
        entry.update(found(1, 3, entry["score"], box))
        content["annotations"].append(truth((1, 3, box))["annotations"][0] | {"id": 1000 + x})
    return content, detections


def theirs(content, detections, iou_type, limit, areas):
    """pycocotools' AP and AR by size, with other limits."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        # pycocotools takes an annotation with the id 0 for none.
        coco.dataset = {**content, "info": {}, "annotations": [
            {**a, "id": a["id"] + 1} for a in content["annotations"]]}  # fmt: skip
        coco.createIndex()
        results = [
            {k: v for k, v in d.items() if iou_type == "segm" or k != "segmentation"} for d in detections
        ]
        if iou_type == "segm":
            results = [{k: v for k, v in d.items() if k != "bbox"} for d in results]
        evaluation = COCOeval(coco, coco.loadRes(results), iou_type)
        evaluation.params.maxDets = [limit]
        evaluation.params.areaRng = [[0, 1e10], [0, areas[0]], list(areas), [areas[1], 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
    numbers = {}
    for a, size in enumerate(("", "_small", "_medium", "_large")):
        for name, values in (("AP", evaluation.eval["precision"][:, :, :, a]),
                             ("AR", evaluation.eval["recall"][:, :, a])):  # fmt: skip
            known = values[values > -1]
            key = f"{name}{limit}" if name == "AR" and not size else name + size
            numbers[key] = known.mean() if known.size else None
    return numbers


@pytest.mark.parametrize(
    "limit, areas", [(300, (90.0, 300.0)), (120, (1024.0, 9216.0)), (None, (200.0, 500.0))]
)
def test_other_limits_are_pycocotools_own(scene, limit, areas):
    content, detections = scene
    numbers = limited_metrics(GroundTruth(content), detections, TYPES, Limits(limit, areas))
    assert numbers["max_detections"] == (limit or 100) and numbers["areas"] == list(areas)
    for iou_type, prefix in zip(TYPES, ("box", "mask"), strict=True):
        for name, value in theirs(content, detections, iou_type, limit or 100, areas).items():
            assert numbers[f"{prefix}_{name}"] == pytest.approx(value, abs=1e-12), name
    coco = coco_metrics(content, detections)
    if limit == 300:
        assert numbers["mask_AR300"] > coco["mask_AR100"]  # what COCO's limit hides
    text = format_limited(numbers, coco)
    assert f"{numbers['box_AP']:.3f}" in text and f"{coco['box_AP']:.3f}" in text


def test_coco_numbers_stay_those_of_the_models_own_limit():
    entries = [{"image_id": i, "score": s} for i, s in ((1, 0.9), (1, 0.8), (2, 0.7), (1, 0.6), (2, 0.5))]
    assert [d["score"] for d in best_of_each_image(entries, 2)] == [0.9, 0.8, 0.7, 0.5]


def test_one_score(scene):
    content, detections = scene
    annotated = GroundTruth(content)
    numbers = metrics_at_score(annotated, detections, TYPES, 0.5)
    kept = [d for d in detections if d["score"] > 0.5]
    assert 0 < len(kept) < len(detections)
    coco = coco_metrics(content, kept)
    assert numbers["mask_AP"] == coco["mask_AP"] and numbers["box_AR100"] == coco["box_AR100"]
    assert "class 3" in format_at_score(numbers) and "0.5" in format_at_score(numbers)


def test_rates_by_hand():
    content = truth(
        (1, 3, bar(20)), (1, 3, bar(20, 0, 40)), (1, 17, bar(20, 0, 70)), (1, 17, bar(9, 50, 0), True)
    )
    detections = [
        found(1, 3, 0.9, bar(20)),
        found(1, 3, 0.8, bar(20, 60, 60)),
        found(1, 3, 0.5, bar(20, 0, 40)),  # does not score higher
        found(1, 17, 0.6, bar(9, 50, 0)),  # in a crowd region
    ]
    numbers = metrics_at_score(GroundTruth(content), detections, ("segm",), 0.5)
    assert (numbers["mask_precision"], numbers["mask_recall"]) == (0.5, 1 / 3)
    assert numbers["mask_f1"] == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    own = numbers["per_class"]
    assert (own["class 3"]["mask_precision"], own["class 3"]["mask_recall"]) == (0.5, 0.5)
    assert own["class 17"] == {"mask_precision": None, "mask_recall": 0.0, "mask_f1": 0.0}
    assert own["class 90"] == {"mask_precision": None, "mask_recall": None, "mask_f1": None}


def test_the_best_threshold_is_that_of_a_search(scene):
    """Of all thresholds none has a higher F1, counted anew from the detections above it."""
    content, detections = scene
    annotated = GroundTruth(content)
    best = best_thresholds(annotated, detections, "segm")
    assert best["of"] == "mask" and set(best["classes"]) == {3, 17, 90}
    steps = sorted({d["score"] for d in detections} | {0.0})
    counted = {t: metrics_at_score(annotated, detections, ("segm",), t) for t in steps}
    for identity, row in best["classes"].items():
        name = f"class {identity}"
        others = [counted[t]["per_class"][name]["mask_f1"] for t in steps]
        if row["threshold"] is None:
            assert not any(others)
            continue
        assert row["name"] == name and row["f1"] == pytest.approx(max(others))
        own = metrics_at_score(annotated, detections, ("segm",), row["threshold"])["per_class"][name]
        assert own["mask_f1"] == pytest.approx(row["f1"])
        assert own["mask_precision"] == pytest.approx(row["precision"])
        assert own["mask_recall"] == pytest.approx(row["recall"])
    whole = metrics_at_score(annotated, detections, ("segm",), best["all"]["threshold"])
    assert whole["mask_f1"] == pytest.approx(max(c["mask_f1"] for c in counted.values()))
    assert "class 17" in format_thresholds(best)


def test_equal_scores_are_kept_or_dropped_together():
    best = best_threshold(np.array([0.9, 0.7, 0.7, 0.1]), np.array([True, True, False, False]), 2)
    assert best["threshold"] == pytest.approx(0.4) and best["f1"] == pytest.approx(4 / 5)
    assert best_threshold(np.array([0.9]), np.array([False]), 2)["threshold"] is None


def test_some_classes_alone(scene):
    """The numbers are those of annotations and detections without the others."""
    content, detections = scene
    some = GroundTruth(content).of_classes({3, 90})
    only = {
        **content,
        "categories": [c for c in content["categories"] if c["id"] != 17],
        "annotations": [a for a in content["annotations"] if a["category_id"] != 17],
    }
    kept = [d for d in detections if d["category_id"] != 17]
    assert some.score(detections) == coco_metrics(only, kept)
    assert [c.id for c in some.categories] == [3, 90]
    assert {o["category_id"] for o in some.objects("segm")} == {3}


def test_common_classes_are_found_by_name():
    config = ModelConfig(
        num_classes=3, categories=tuple(Category(k, n) for k, n in ((1, "cat"), (2, "Dog"), (4, "eel")))
    )
    annotated = [Category(7, "dog"), Category(8, "fox"), Category(9, "cat")]
    dog, cat = annotated[0], annotated[2]
    assert common_classes(config, annotated, ["shared"]) == (cat, dog, None)
    assert (
        common_classes(config, annotated, ["DOG"])
        == common_classes(config, annotated, ["7"])
        == (None, dog, None)
    )
    for chosen, said in (
        (["fox"], "The model has no class 'fox' of val.json; its classes are cat, Dog, eel"),
        (["owl"], "val.json has no class 'owl'; its classes are dog, fox, cat"),
        ([], "No class is scored: val.json has dog, fox, cat, and the model cat, Dog, eel"),
    ):
        with pytest.raises(UserError, match=said):
            common_classes(config, annotated, chosen, "val.json")
    with pytest.raises(UserError, match="the model's classes have none"):
        common_classes(ModelConfig(num_classes=3), annotated, ["shared"])
