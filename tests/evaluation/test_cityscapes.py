"""Cityscapes' AP against that of its own program, on pictures that are imported, and its rules one by one."""

import json

import numpy as np
import pytest
from measured_scenes import CITYSCAPES_SEEDS, SIZE, THINGS, checksum, cityscapes_scene, encode
from PIL import Image

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.cityscapes import average_precision
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.evaluation.tables import format_metrics


def imported(folder, pictures, **arguments):
    """The json that the importer makes of pictures of ids."""
    for kind in ("leftImg8bit", "gtFine"):
        (folder / kind / "val" / "ulm").mkdir(parents=True, exist_ok=True)
    for i, ids in enumerate(pictures):
        stem = f"val/ulm/ulm_{i:06}_000019"
        ids = np.array(ids, np.uint16)
        Image.fromarray(ids).save(folder / f"gtFine/{stem}_gtFine_instanceIds.png")
        Image.new("RGB", ids.shape[::-1]).save(folder / f"leftImg8bit/{stem}_leftImg8bit.png")
    output = folder / "val.json"
    assert main(["import", str(folder), "--format=cityscapes", f"--output={output}"]) == 0
    return json.loads(output.read_text())


def results(content, found):
    """COCO results of class ids, scores and masks of each image."""
    ids = {entry["name"]: entry["id"] for entry in content["categories"]}
    images = [entry["id"] for entry in sorted(content["images"], key=lambda entry: entry["file_name"])]
    return [
        {"image_id": image, "category_id": ids[THINGS[kind]], "score": score, "segmentation": rle}
        for image, masks in zip(images, found, strict=True)
        for kind, score, rle in masks
    ]


@pytest.mark.parametrize("seed", CITYSCAPES_SEEDS)
def test_equal_to_its_own_program(seed, tmp_path, capsys):
    recorded = np.load("tests/goldens/cityscapes.npz")
    pictures, found = scene = cityscapes_scene(seed)
    assert checksum(scene) == recorded[f"scene_{seed}"]
    content = imported(tmp_path, pictures)
    metrics = coco_metrics(content, results(content, found), ("segm",), protocol="cityscapes")
    np.testing.assert_allclose(
        [metrics["mask_AP"], metrics["mask_AP50"]], recorded[f"mean_{seed}"], rtol=0, atol=1e-12
    )
    for name, own in zip(recorded["classes"].tolist(), recorded[f"ap_{seed}"], strict=True):
        row = metrics["per_class"][name]
        ours = [np.nan if row[key] is None else row[key] for key in ("mask_AP", "mask_AP50")]
        np.testing.assert_allclose(ours, [own.mean(), own[0]], rtol=0, atol=1e-12)
    assert "measured as Cityscapes" in format_metrics(metrics)


ROAD, SKY_VOID = 7, 0


def street(objects, void=None):
    """A picture of road with objects, x0, y0, x1, y1 by id, and void."""
    ids = np.full(SIZE, ROAD)
    for value, (x0, y0, x1, y1) in objects.items():
        ids[y0:y1, x0:x1] = value
    if void is not None:
        x0, y0, x1, y1 = void
        ids[y0:y1, x0:x1] = SKY_VOID
    return ids


def rle(x0, y0, x1, y1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return encode(mask)


@pytest.fixture
def car_ap(tmp_path, capsys):
    def measure(ids, *found, name="mask_AP50"):
        content = imported(tmp_path, [ids])
        masks = [[26, score, rle(*box)] for score, box in found]
        metrics = coco_metrics(content, results(content, [masks]), ("segm",), protocol="cityscapes")
        return metrics["per_class"]["car"][name]

    return measure


CAR = (10, 10, 30, 30)


def test_an_iou_that_equals_the_threshold_is_too_small(car_ap):
    ids = street({26000: CAR})
    assert car_ap(ids, (0.9, (10, 10, 30, 20))) == 0  # IoU 0.5
    assert car_ap(ids, (0.9, (10, 10, 30, 21))) == 1


def test_what_lies_on_void_groups_or_small_objects_is_not_wrong(car_ap):
    hit, other = (0.5, CAR), (0.9, (60, 10, 80, 30))
    assert car_ap(street({26000: CAR}), hit, other) == pytest.approx(0.25)  # a wrong one before the right one
    assert car_ap(street({26000: CAR}, void=(60, 10, 72, 30)), hit, other) == 1
    assert car_ap(street({26000: CAR}, void=(60, 10, 70, 30)), hit, other) == pytest.approx(0.25)  # just half
    assert car_ap(street({26000: CAR, 26: (60, 10, 72, 30)}), hit, other) == 1
    assert car_ap(street({26000: CAR, 27: (60, 10, 72, 30)}), hit, other) == pytest.approx(0.25)  # of trucks
    small = {26001: (60, 10, 69, 20), 26002: (71, 10, 80, 20), 26003: (60, 22, 69, 30)}
    assert car_ap(street({26000: CAR, **small}), hit, other) == 1
    # Caravans are no void, but a group of them is.
    assert car_ap(street({26000: CAR, 29001: (60, 10, 72, 30)}), hit, other) == pytest.approx(0.25)
    assert car_ap(street({26000: CAR, 29: (60, 10, 72, 30)}), hit, other) == 1


def test_small_objects_need_not_be_found(car_ap):
    ids = street({26000: CAR, 26001: (60, 10, 69, 21)})  # 99 pixels
    assert car_ap(ids, (0.5, CAR)) == 1
    ids[20, 69] = 26001
    assert car_ap(ids, (0.5, CAR)) == 0.5
    assert car_ap(street({26001: (60, 10, 69, 21)}), (0.5, CAR)) is None


def test_the_best_of_several_masks_of_an_object_is_right(car_ap):
    ids = street({26000: CAR})
    near = (10, 10, 30, 29)
    assert car_ap(ids, (0.9, CAR), (0.5, near)) == car_ap(ids, (0.5, near), (0.9, CAR)) == pytest.approx(1)
    assert car_ap(ids, (0.5, CAR), (0.5, near)) == pytest.approx(0.75)  # equal scores are one step


def test_nothing_found(car_ap):
    assert car_ap(street({26000: CAR})) == 0
    ids = street({26000: CAR}, void=(60, 10, 80, 30))
    assert car_ap(ids, (0.9, (60, 10, 80, 30))) == 0  # its own program fails here
    assert average_precision(np.zeros(0, bool), np.zeros(0), 3) == 0


def test_precision_is_summed_over_the_steps_in_recall():
    right, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.7])
    # From the lowest score: precision 2/4, 1/2, 1/1, 1 at recall 2/4, 1/4, 1/4, 0.
    widths = np.array([0.125, 0.125, 0.125, 0.125])
    assert average_precision(right, scores, 2) == pytest.approx(np.array([0.5, 0.5, 1, 1]) @ widths)


@pytest.mark.parametrize(
    "void, said",
    [
        ({"size": [3, 3], "counts": "04"}, "it is no compressed RLE of size"),
        ({"size": [100, 100], "counts": "?"}, "is no mask of it"),
        ("everything", "it is no compressed RLE of size"),
        ([[1, 2, 3, 4, 5, 6]], "it is no compressed RLE of size"),
        (7, "it is no compressed RLE of size"),
        (None, "image 1 has no 'void', which others have; make the json with import"),
    ],
)
def test_a_malformed_void_is_found_by_inspect_and_stops_training(void, said, tmp_path):
    content = imported(tmp_path, [street({26000: CAR}), street({26000: CAR})])
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    assert not inspect_annotations(path).problems
    content["images"][0]["void"] = void
    path.write_text(json.dumps(content))
    (problem,) = inspect_annotations(path).problems
    assert problem.reason == "bad void" and said in problem.message
    with pytest.raises(UserError, match="image 1 has (a|no) 'void'"):
        prepare(path, tmp_path, tmp_path / "cache")


def test_what_it_needs(tmp_path, capsys):
    content = imported(tmp_path, [street({26000: CAR})])
    truth = GroundTruth(content, protocol="cityscapes")
    with pytest.raises(UserError, match="'cityscapes' measures masks alone"):
        truth.score([], ("bbox",))
    with pytest.raises(UserError, match="with crowd 'drop', because groups of objects"):
        GroundTruth(content, reading=Reading(crowd="drop"), protocol="cityscapes")
    content["images"][0]["void"]["size"] = [3, 3]
    with pytest.raises(UserError, match="image 1 has a 'void' that is no mask of it"):
        GroundTruth(content, protocol="cityscapes")
    del content["images"][0]["void"]
    with pytest.raises(UserError, match="has no 'void', the region that is left out"):
        GroundTruth(content, protocol="cityscapes")
    assert GroundTruth(content).protocol.name == "coco"
