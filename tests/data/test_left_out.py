"""The places of objects that are left out are neither right nor wrong, as pycocotools alone scores them."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from data_helpers import write
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.left_out import LOST_NOTE, REGION_NOTE
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.evaluation.coco import GroundTruth

HEIGHT, WIDTH = 60, 80
BOXES = [[5, 6, 20, 30], [40, 8, 30, 12], [10, 20, 40, 35], [52, 30, 20, 20]]  # x, y, width, height
BAD = 2  # place of the annotation that is made bad
OTHER = {"size": [HEIGHT + 1, WIDTH], "counts": "0"}


def ring(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def good():
    return {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": i + 1, "image_id": 1, "category_id": 1, "bbox": list(box), "area": box[2] * box[3],
                "iscrowd": 0, "segmentation": [ring(box)],
            }
            for i, box in enumerate(BOXES)
        ],
    }  # fmt: skip


# What makes an annotation unusable although its place is known, and the place as polygons.
PLACES = {
    "two points": {"segmentation": [[1, 1, 2, 2]]},
    "not finite": {"segmentation": [[1, 1, 2, 2, float("nan"), 1]]},
    "RLE of another size": {"segmentation": OTHER},
    "RLE with a foreign character": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x7f!"}},
    "runs that do not add up": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2, 3]}},
    "a number as a mask": {"segmentation": 7},
    "iscrowd in unknown words": {"iscrowd": "maybe"},
    "iscrowd of 2, box missing": {"iscrowd": 2, "bbox": None},
}
LOST = {
    "unknown class": {"category_id": 9},
    "no place": {"segmentation": [[1, 1, 2, 2]], "bbox": None},
    "outside": {"segmentation": 7, "bbox": [500, 500, 4, 4]},
    "a flat box": {"segmentation": [[1, 1, 2, 2]], "bbox": [4, 4, 0, 9]},
}


def detections():
    """All objects as a perfect detector finds them, the one that is left out with the best score."""
    found = []
    for i, box in enumerate(BOXES):
        rle = mask_utils.merge(mask_utils.frPyObjects([ring(box)], HEIGHT, WIDTH))
        found.append({
            "image_id": 1, "category_id": 1, "score": 0.99 if i == BAD else 0.5, "bbox": list(box),
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
        })  # fmt: skip
    return found


def plain_aps(content, found):
    """AP of boxes and of masks by pycocotools alone."""
    values = []
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        for kind in ("bbox", "segm"):
            scored = COCOeval(truth, truth.loadRes(copy.deepcopy(found)), kind)
            scored.evaluate(), scored.accumulate(), scored.summarize()
            values.append(scored.stats[0])
    return values


def changed(changes):
    content = good()
    content["annotations"][BAD] |= changes
    content["annotations"][BAD] = {k: v for k, v in content["annotations"][BAD].items() if v is not None}
    return content


@pytest.mark.parametrize("case", PLACES)
def test_a_detection_in_a_known_place_is_not_scored(case, tmp_path, capsys):
    path, images = write(tmp_path, changed(PLACES[case]))
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert any(REGION_NOTE + ": 1 (the first: annotation 3)" in text for text in source.statements())

    expected = good()
    expected["annotations"][BAD]["iscrowd"] = 1
    aps = plain_aps(expected, detections())
    without = good()
    del without["annotations"][BAD]
    assert aps == [1, 1] and max(plain_aps(without, detections())) < 1  # so the region is what matters
    for truth in (GroundTruth.of_source(source), GroundTruth(path, "skip")):
        metrics = truth.score(detections())
        assert [metrics["box_AP"], metrics["mask_AP"]] == aps
    # Elsewhere a detection counts as wrong as before.
    stray = detections()
    stray[BAD]["bbox"] = [60, 0, 18, 18]
    stray[BAD]["segmentation"]["counts"] = mask_utils.merge(
        mask_utils.frPyObjects([ring([60, 0, 18, 18])], HEIGHT, WIDTH)
    )["counts"].decode()
    metrics = GroundTruth.of_source(source).score(stray)
    assert [metrics["box_AP"], metrics["mask_AP"]] == pytest.approx(plain_aps(expected, stray))
    assert metrics["box_AP"] < 1

    (tmp_path / "d.json").write_text(json.dumps(detections()))
    arguments = [str(tmp_path / "d.json"), str(path), f"--images={images}", f"--output={tmp_path / 'page'}"]
    assert command(["report", *arguments, "--pictures=1"]) == 0
    assert "mask AP 1.000" in capsys.readouterr().out


@pytest.mark.parametrize("case", PLACES)
def test_the_place_is_no_background_in_training_and_no_object(case, tmp_path):
    path, images = write(tmp_path, changed(PLACES[case]))
    source = prepare(path, images, tmp_path / "cache", "skip")
    example = source[0]
    assert example.crowd.tolist() == [False, False, False, True]
    assert source.object_counts.tolist() == [3] and source.crowd_counts.tolist() == [1]
    x, y, w, h = BOXES[BAD]
    assert example.boxes[3].tolist() == [x, y, x + w, y + h]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(example.masks()[3], expected)
    # It is counted among what was left out, and not among the annotations.
    assert source.class_counts[0][1:] == (3, 0) and sum(source.skipped.values()) == 1
    assert inspect_annotations(path).summary["crowd_regions"] == 0


@pytest.mark.parametrize("case", LOST)
def test_what_has_no_class_or_place_is_told(case, tmp_path, caplog):
    path, images = write(tmp_path, changed(LOST[case]))
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert any(LOST_NOTE + ": 1 (the first: annotation 3)" in text for text in source.statements())
    assert source.crowd_counts.tolist() == [0]
    without = good()
    del without["annotations"][BAD]
    metrics = GroundTruth.of_source(source).score(detections())
    assert [metrics["box_AP"], metrics["mask_AP"]] == pytest.approx(plain_aps(without, detections()))
    GroundTruth(path, "skip")
    assert "whose class and place are known: 0." in caplog.text


def test_a_class_of_which_most_is_left_out_is_not_called_crowd_regions(tmp_path):
    content = good()
    for entry in content["annotations"][1:]:
        entry["segmentation"] = 7
    path, images = write(tmp_path, content)
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.crowd_counts.tolist() == [3] and not any("'iscrowd': 1" in s for s in source.statements())


@pytest.mark.parametrize("crowd", ["objects", "drop", "ignore"])
def test_the_place_does_not_depend_on_what_crowd_regions_are(crowd, tmp_path):
    path, images = write(tmp_path, changed({"segmentation": 7}))
    source = prepare(path, images, tmp_path / "cache", "skip", reading=Reading(crowd))
    assert source[0].crowd.tolist() == [False, False, False, True]
    assert GroundTruth.of_source(source).score(detections())["mask_AP"] == 1


def test_objects_without_a_mask_are_not_scored_by_masks(tmp_path, caplog):
    content = good()
    del content["annotations"][BAD]["segmentation"]
    path, images = write(tmp_path, content)
    source = prepare(path, images, tmp_path / "cache", masks=False)
    metrics = GroundTruth.of_source(source).score(detections())
    expected = good()
    expected["annotations"][BAD]["iscrowd"] = 1
    assert metrics["mask_AP"] == plain_aps(expected, detections())[1] == 1 and metrics["box_AP"] == 1
    assert "1 of 4 objects have no mask" in caplog.text
    # The box is still looked for.
    assert GroundTruth.of_source(source).score(detections()[:BAD] + detections()[BAD + 1 :])["box_AP"] < 1
