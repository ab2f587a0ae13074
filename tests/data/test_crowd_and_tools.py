"""Masks that arrive as crowd regions, data with nothing to learn, and files of other tools."""

import json
import logging

import numpy as np
import pytest
from data.test_spellings import good, saved, truth
from data_helpers import annotation, content, encode, write

from jaxmaskrcnn.cli.import_ import FORMATS
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.reading import CROWD, Reading
from jaxmaskrcnn.data.coco.tools import TOOLS, other_tool
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.training.dry_run import class_lines, dry_run
from jaxmaskrcnn.training.loop import train_and_evaluate


def painted(*, crowds):
    """The good set with the masks of some annotations as CVAT exports them."""
    data = good()
    for entry, crowd in zip(data["annotations"], crowds, strict=True):
        x, y, w, h = entry["bbox"]
        mask = np.zeros((60, 80), bool)
        mask[y : y + h, x : x + w] = True
        flat = np.concatenate([[0], mask.T.reshape(-1).astype(int), [1 - int(mask[-1, -1])]])
        edges = np.flatnonzero(np.diff(flat))
        runs = np.diff(np.concatenate([[0], edges])).tolist()
        runs[-1] += mask.size - sum(runs)
        entry["segmentation"] = {"size": [60, 80], "counts": runs}
        entry["iscrowd"] = crowd
    return data


def test_all_masks_as_crowd_are_refused_or_learned_as_the_setting_says(tmp_path, capsys):
    path, images = saved(tmp_path, painted(crowds=(1, 1, 1)))
    for mode in ("stop", "skip"):
        with pytest.raises(UserError, match="no object to learn: all 3 .*--config.data.crowd=objects"):
            prepare(path, images, tmp_path / "cache", mode)
    assert command(["inspect", str(path), f"--images={images}", "--count=0"]) == 2
    text = capsys.readouterr().out
    assert text.startswith(f"Note: {path}: all 2 annotations of 'a' are crowd regions")
    assert "1 problem (nothing to learn: 1)" in text
    source = prepare(path, images, tmp_path / "cache", reading=Reading(crowd="objects"))
    assert source.object_counts.tolist() == [2, 1] and not source.crowd_counts.any()
    assert source[0].masks().sum() == 20 * 30 + 30 * 12
    assert "crowd regions that are taken as objects (crowd is 'objects'): 3" in source.statements()[0]
    assert GroundTruth.of_source(source).score(truth())["mask_AP"] == 1.0
    assert command(["inspect", str(path), f"--images={images}", "--count=0", "--crowd=objects"]) == 0
    assert "objects         3 of 2 classes" in capsys.readouterr().out
    (tmp_path / "found.json").write_text(json.dumps(truth()))
    arguments = ["report", str(tmp_path / "found.json"), str(path), f"--images={images}", "--pictures=0"]
    assert command([*arguments, f"--output={tmp_path}", "--crowd=objects"]) == 0
    assert "mask AP 1.000" in capsys.readouterr().out
    with pytest.raises(UserError, match="no object to learn"):
        prepare(path, images, tmp_path / "cache", reading=Reading(crowd="drop"))


def test_a_class_that_is_mostly_crowd_is_told_each_time(tmp_path, caplog):
    path, images = saved(tmp_path, painted(crowds=(0, 1, 0)))
    for _ in range(2):  # the second time from the records that are there
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jaxmaskrcnn"):
            source = prepare(path, images, tmp_path / "cache")
        assert "all 1 annotations of 'b' are crowd regions" in caplog.text and "of 'a'" not in caplog.text
    # The table of a dry run counts what is learned.
    assert [line.split() for line in class_lines(source, source)[2:]] == [
        ["0", "0", "b", "(no", "training", "data)"],
        ["2", "2", "a"],
    ]
    assert source.image_labels.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert source.learned_labels.tolist() == [[0, 0], [1, 0]]
    assert inspect_annotations(path).statements[0].startswith(f"{path}: all 1 annotations of 'b'")
    # Half of them are not most of them, as in COCO.
    path, images = saved(tmp_path, painted(crowds=(1, 0, 0)))
    assert prepare(path, images, tmp_path / "cache").statements() == []


def test_dropped_crowd_regions_are_in_no_score(tmp_path):
    path, images = saved(tmp_path, painted(crowds=("1", [True], 0)))
    dropped = prepare(path, images, tmp_path / "cache", reading=Reading(crowd="drop"))
    ignored = prepare(path, images, tmp_path / "cache")
    assert dropped.object_counts.tolist() == ignored.object_counts.tolist() == [0, 1]
    assert dropped.crowd_counts.tolist() == [0, 0] and ignored.crowd_counts.tolist() == [2, 0]
    # What is found there is ignored, or false.
    assert GroundTruth.of_source(ignored).score(truth())["mask_AP"] == pytest.approx(1)
    assert GroundTruth.of_source(dropped).score(truth())["mask_AP"] == pytest.approx(0.5, abs=0.01)


def test_the_values_of_the_setting(tmp_path):
    assert CROWD == ("ignore", "objects", "drop")
    path, images = saved(tmp_path, good())
    with pytest.raises(UserError, match="data.crowd is 'keep'; choose one of 'ignore', 'objects', 'drop'"):
        prepare(path, images, tmp_path / "cache", reading=Reading(crowd="keep"))


OUTSIDE = [[50, 50, 60, 50, 60, 60, 50, 60]]  # of an image of 32 x 40


@pytest.mark.parametrize("entries", [
    [], [annotation(1, iscrowd=1, segmentation=encode(np.eye(32, 40) > 0))],
    [annotation(1, segmentation=OUTSIDE), annotation(2, segmentation=encode(np.zeros((32, 40), bool)))],
])  # fmt: skip
def test_nothing_to_learn_is_refused_everywhere(entries, tmp_path, capsys):
    path, images = write(tmp_path, content(entries))
    assert command(["inspect", str(path), f"--images={images}", "--count=0"]) == 2
    assert "set.json has no object to learn" in capsys.readouterr().out
    config = find_config("shapes").load()
    config.data.source = "coco"
    config.data.train_annotations = config.data.eval_annotations = str(path)
    config.data.train_images = config.data.eval_images = str(images)
    for start in (train_and_evaluate, dry_run):
        with pytest.raises(UserError, match="set.json has no object to learn"):
            start(config, tmp_path / "run")
    assert len(prepare(path, images, tmp_path / "cache", allow_empty=True)) == 1


def test_masks_without_a_pixel_are_nothing_to_learn_unless_boxes_are(tmp_path, capsys):
    path, images = write(tmp_path, content([annotation(1, segmentation=OUTSIDE)]))
    said = "the masks of all 1 objects are without a pixel"
    with pytest.raises(UserError, match=said):
        prepare(path, images, tmp_path / "cache")
    options = ["--format=coco", f"--images={images}", f"--output={tmp_path / 'out.json'}"]
    assert command(["import", str(path), *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.json").exists()
    assert command(["import", str(path), *options, "--boxes_only"]) == 0
    assert command(["inspect", str(path), "--count=0", "--boxes_only"]) == 0
    assert prepare(path, images, tmp_path / "cache", masks=False).object_counts.tolist() == [1]
    path, images = write(tmp_path, content([annotation(1, segmentation=OUTSIDE), annotation(2)]))
    assert command(["inspect", str(path), "--count=0"]) == 0
    assert prepare(path, images, tmp_path / "cache").object_counts.tolist() == [2]


# The beginning of what other tools write.
FILES = {
    "labelme": ({"version": "5.0.1", "shapes": [], "imagePath": "a.jpg"}, "labelme"),
    "VIA 2": ({"_via_settings": {}, "_via_img_metadata": {}}, "via"),
    "VIA 1": ({"a.jpg123": {"filename": "a.jpg", "regions": [], "size": 123}}, "via"),
    "results": ([{"image_id": 1, "category_id": 1, "score": 0.5}], ""),
    "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "label-studio"),
    "Label Studio's tasks of old": ([{"id": 1, "data": {}, "completions": []}], "label-studio"),
    "Label Studio's short json": (
        [{"id": 1, "image": "a.jpg", "annotator": 1, "annotation_id": 1}],
        "label-studio",
    ),
    "Datumaro": ({"info": {}, "categories": {}, "items": []}, "datumaro"),
    "Supervisely": ({"description": "", "tags": [], "size": {}, "objects": []}, "supervisely"),
    "Supervisely's classes": ({"classes": [], "tags": [], "projectType": "images"}, "supervisely"),
    "Cityscapes": ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "cityscapes"),
    "ISAT": ({"info": {"description": "ISAT"}, "objects": []}, "isat"),
    "Segment Anything": ({"image": {}, "annotations": []}, "sam"),
    "Create ML": ([{"image": "a.jpg", "annotations": []}], ""),
    "GeoJSON": ({"type": "FeatureCollection", "features": []}, ""),
    "BDD": ({"frames": []}, ""),
    "panoptic": ({"annotations": [{"segments_info": []}]}, "panoptic"),
    "CVAT": ('<?xml version="1.0" encoding="utf-8"?>\n<annotations>', "cvat"),
    "VOC": ("<annotation>\n", "voc"),
    "YOLO": ("0 0.5 0.5 0.1 0.25 0.3 0.3\n", "yolo-seg"),
    "YOLO's boxes": ("0 0.5 0.5 0.1 0.25\n", "yolo"),
    "Kaggle": ("ImageId,EncodedPixels\na.jpg,1 3\n", "rle-csv"),
    "Kaggle with classes": ("ImageId_ClassId, EncodedPixels,Height\na.jpg_1,1 3,4\n", "rle-csv"),
}


@pytest.mark.parametrize("tool", FILES)
def test_files_of_other_tools_are_named(tool, tmp_path, capsys):
    found, name = FILES[tool]
    path = tmp_path / "other.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    said = f"{path} {other_tool(found)}."
    assert command(["inspect", str(path)]) == 2
    assert capsys.readouterr().err == f"jaxmaskrcnn inspect: {said}\n"
    assert (
        (f"--format={name}" in said) if name else ("; export" in said or "; give" in said or "; conv" in said)
    )
    with pytest.raises(UserError, match="other.json"):
        prepare(path, tmp_path, tmp_path / "cache")


def test_files_of_numpy_are_named(tmp_path, capsys):
    """As Cellpose's are; what is in them is not looked at."""
    path = tmp_path / "a_seg.npy"
    np.save(path, {"masks": np.zeros((3, 4), np.uint16)}, allow_pickle=True)
    assert command(["inspect", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"jaxmaskrcnn inspect: {path} is a file of NumPy, as Cellpose's")
    assert "--format=cellpose" in said
    with pytest.raises(UserError, match="--format=cellpose"):
        prepare(path, tmp_path, tmp_path / "cache")


def test_every_format_that_needs_it_is_named():
    """A picture has no json that training could be given, and VOC's folders have their xml files."""
    assert set(FORMATS) - {tool.format for tool in TOOLS} <= {"masks", "coco"}


def test_the_formats_that_are_named_can_be_imported():
    assert {tool.format for tool in TOOLS} - {""} <= set(FORMATS)


def test_brackets_without_end_are_one_sentence(tmp_path):
    path, images = saved(tmp_path, "[" * 200_000)
    with pytest.raises(UserError, match="brackets in each other|not valid json"):
        prepare(path, images, tmp_path / "cache")


def test_images_that_are_missing_count_among_those_without_an_object(tmp_path, capsys):
    path, _ = write(tmp_path, content([annotation(1)]))
    (tmp_path / "elsewhere").mkdir()
    assert command(["inspect", str(path), f"--images={tmp_path / 'elsewhere'}", "--count=0"]) == 2
    assert "has no object to learn: 1 images and" in capsys.readouterr().out
