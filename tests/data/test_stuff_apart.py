"""Objects in one json and stuff apart, as pictures of labels or as COCO's json of stuff."""

import copy
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from detectors import random_model, small_config
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import Config, DataConfig, SemanticConfig
from jaxmaskrcnn.data import prepare, write_landscapes
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.panoptic import read_panoptic
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.data.importers.numbered import encode_values
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.data.inspection.report import as_text
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.inference.formats import write_segments
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.run_config import model_section
from jaxmaskrcnn.training.setup import prepare_sources
from jaxmaskrcnn.zoo.lookup import model_config

STUFF = ("water", "field", "stones")


class Apart(NamedTuple):
    """The same data set in three forms."""

    panoptic: Path
    images: Path
    objects: Path  # json of objects
    pictures: Path  # folder of pictures of labels
    stuff: Path  # json of stuff


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return written(tmp_path_factory.mktemp("apart"))


def written(folder: Path, count: int = 5) -> Apart:
    """Landscapes in three forms, the second as `prepare_panoptic_fpn.py` makes it of the first."""
    path, images = write_landscapes(folder, count, 32, seed=2)
    content = load_json(path)
    read = read_panoptic(content, path, Problems("stop"))
    (folder / "objects.json").write_text(json.dumps(read.content))
    (folder / "labels").mkdir()
    kinds = {category["id"]: category["isthing"] for category in content["categories"]}
    order = {identity: i for i, identity in enumerate((i for i in sorted(kinds) if not kinds[i]), 1)}
    annotations = []
    for image in content["images"]:
        found = read.images[image["id"]]
        numbers = found.numbers()
        labels = np.full(numbers.shape, 255, np.uint8)
        classes = np.zeros(numbers.shape, int)
        for segment in found.segments:
            mask = numbers == segment.id
            labels[mask] = order.get(segment.category_id, 0)
            classes[mask] = 183 if kinds[segment.category_id] else segment.category_id
        Image.fromarray(labels).save((folder / "labels" / image["file_name"]).with_suffix(".png"))
        for category, rle in encode_values(classes).items():
            annotations.append({"image_id": image["id"], "category_id": category, "segmentation": rle})
            annotations[-1].update(id=len(annotations), iscrowd=0)
    other = {"id": 183, "name": "other", "supercategory": "other"}
    categories = [
        {"id": i, "name": name, "supercategory": "ground"} for i, name in zip(order, STUFF, strict=True)
    ]
    stuff = {"images": content["images"], "annotations": annotations, "categories": [*categories, other]}
    (folder / "stuff.json").write_text(json.dumps(stuff))
    return Apart(path, images, folder / "objects.json", folder / "labels", folder / "stuff.json")


def readings(sets):
    return [Reading(stuff=str(sets.pictures), stuff_names=STUFF), Reading(stuff=str(sets.stuff))]


def test_records_are_those_of_the_panoptic_json(sets, tmp_path):
    whole = prepare(sets.panoptic, sets.images, tmp_path / "cache")
    for reading in readings(sets):
        source = prepare(sets.objects, sets.images, tmp_path / "cache", reading=reading)
        assert [category.name for category in source.stuff] == list(STUFF)
        assert {c.id for c in source.stuff}.isdisjoint(c.id for c in source.categories)
        assert source.reading.stuff == reading.stuff and source.reading.stuff_names == reading.stuff_names
        for i in range(len(whole)):
            maps = [SemanticMap.decode(example.semantic).labels for example in (whole[i], source[i])]
            np.testing.assert_array_equal(*maps)
            assert source[i].rles == whole[i].rles


def test_panoptic_quality_is_that_of_the_panoptic_json(sets):
    """The segments of one image are scored as predictions of the next one."""
    whole = GroundTruth(sets.panoptic).panoptic
    for reading in readings(sets):
        apart = GroundTruth(sets.objects, reading=reading).panoptic
        assert [c.name for c in apart.categories] == [c.name for c in whole.categories]
        renamed = {a.id: b.id for a, b in zip(whole.categories, apart.categories, strict=True)}
        for i in range(1, 5):
            predicted, guess = whole.segments.images[i + 1].numbers(), whole.segments.images[i + 1].segments
            guess = [{"id": s.id, "category": s.category_id} for s in guess]
            own = [{**s, "category": renamed[s["category"]]} for s in guess]
            for ours, theirs in zip(
                apart.count(i, predicted, own), whole.count(i, predicted, guess), strict=True
            ):
                np.testing.assert_allclose(ours, theirs)
            assert whole.count(i, predicted, guess).missed.sum() > 0


def test_records_are_made_anew_when_stuff_changes(sets, tmp_path):
    own = written(tmp_path, 2)
    for reading in readings(own):
        first = prepare(own.objects, own.images, tmp_path / "cache", reading=reading)
        assert (
            prepare(own.objects, own.images, tmp_path / "cache", reading=reading).directory == first.directory
        )
        if Path(reading.stuff).is_dir():
            Image.fromarray(np.full((32, 32), 2, np.uint8)).save(own.pictures / "000000.png")
        else:
            own.stuff.write_text(own.stuff.read_text().replace("field", "meadow"))
        second = prepare(own.objects, own.images, tmp_path / "cache", reading=reading)
        assert second.directory != first.directory


def test_the_smaller_object_is_in_front(tmp_path):
    own = written(tmp_path, 1)
    content = json.loads(own.objects.read_text())
    squares = {"large": (2, 2, 20, 20), "small": (6, 6, 4, 4), "crowd": (0, 0, 30, 30)}
    content["annotations"] = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": int(name == "crowd"),
            "segmentation": rle(x, y, w, h),
        }
        for i, (name, (x, y, w, h)) in enumerate(squares.items(), 1)
    ]
    own.objects.write_text(json.dumps(content))
    Image.fromarray(np.full((32, 32), 3, np.uint8)).save(own.pictures / "000000.png")
    reading = Reading(stuff=str(own.pictures), stuff_names=STUFF)
    segments = GroundTruth(own.objects, reading=reading).panoptic.segments
    numbers = segments.images[1].numbers()
    expected = np.full((32, 32), 3)
    for number, (x, y, w, h) in ((256, squares["crowd"]), (257, squares["large"]), (258, squares["small"])):
        expected[y : y + h, x : x + w] = number
    np.testing.assert_array_equal(numbers, expected)
    assert [(s.id, s.crowd) for s in segments.images[1].segments] == [
        (3, False),
        (256, True),
        (257, False),
        (258, False),
    ]
    # What is learned of a picture is what stands in it.
    assert (segments.semantic(1).labels == 3).all()


def rle(x, y, w, h):
    values = np.zeros((32, 32), int)
    values[y : y + h, x : x + w] = 1
    return encode_values(values)[1]


def test_stuff_may_be_polygons_and_smaller_regions_are_in_front(tmp_path):
    own = written(tmp_path, 1)
    content = json.loads(own.stuff.read_text())
    water, field = (category["id"] for category in content["categories"][:2])
    content["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": field, "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]]},
        {"id": 2, "image_id": 1, "category_id": water, "segmentation": [[0, 0, 32, 0, 32, 16, 0, 16]]},
        {"id": 3, "image_id": 77, "category_id": water, "segmentation": []},  # of an image that is not needed
    ]
    own.stuff.write_text(json.dumps(content))
    content = json.loads(own.objects.read_text())
    own.objects.write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    segments = GroundTruth(own.objects, reading=Reading(stuff=str(own.stuff))).panoptic.segments
    (item,) = segments.images[1].objects
    expected = np.full((32, 32), 255)
    expected[:16], expected[4:8, 4:8] = 1, 2
    labels = segments.semantic(1).labels
    assert (labels == 0).sum() == item.area and set(np.unique(expected[labels == 0])) & {1, 2, 255}
    np.testing.assert_array_equal(labels[labels != 0], expected[labels != 0])


def damage_picture(change):
    def damage(own):
        path = own.pictures / "000000.png"
        change(path)

    return damage


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


def saved(mode, size=(32, 32), value=1):
    return lambda path: Image.new(mode, size, value).save(path)


PICTURE_FAULTS = [
    (lambda path: path.unlink(), "image 1 .000000.png. has no picture of its stuff, .*000000.png; restore"),
    (cut, "image 1 .* has its stuff in .*000000.png, which cannot be read"),
    (lambda path: path.write_bytes(b""), "which cannot be read .UnidentifiedImageError"),
    (saved("RGB"), "has pixels of the mode RGB, and labels of stuff are single values"),
    (saved("I;16"), "has pixels of the mode I;16, and labels"),
    (saved("L", (31, 32)), "000000.png is 31 x 32 pixels, and image 1 .* 32 x 32; give the picture of"),
    (saved("L", value=4), "has the label 4, and the model 3 classes of stuff; give the names of all"),
]  # fmt: skip


@pytest.mark.parametrize("change, said", PICTURE_FAULTS)
def test_faults_of_pictures_are_one_sentence(change, said, tmp_path):
    own = written(tmp_path, 2)
    damage_picture(change)(own)
    reading = Reading(stuff=str(own.pictures), stuff_names=STUFF)
    check_faults(own, reading, "bad segments", said, tmp_path)


def check_faults(own, reading, reason, said, folder):
    """Inspection lists the fault, a run stops at it, or leaves the image out."""
    found = inspect_annotations(own.objects, own.images, reading=reading)
    assert [problem.reason for problem in found.problems] == [reason]
    with pytest.raises(UserError, match=said) as error:
        prepare(own.objects, own.images, folder / "cache", reading=reading)
    assert "\n" not in str(error.value)
    source = prepare(own.objects, own.images, folder / "cache", "skip", reading=reading)
    assert len(source) == 1 and source.skipped == {reason: 1} and source.image_ids.tolist() == [2]
    assert set(GroundTruth(own.objects, "skip", reading=reading).images) == {2}


def changed_first(**values):
    return lambda content: content["annotations"][0].update(values)


def without_first(content):
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]


JSON_FAULTS = [
    (changed_first(category_id=99), "bad segments", "annotation 1 .entry 0. of image 1 has the category_id"),
    (changed_first(category_id=None), "bad segments", "has the category_id None, which 'categories' lacks"),
    (changed_first(segmentation=None), "bad segments", "image 1 has no segmentation; add polygons or an RLE"),
    (changed_first(segmentation={"size": [3, 3], "counts": "04"}), "bad segments", "has an RLE of size"),
    (changed_first(segmentation={"size": [32, 32], "counts": "?"}), "bad segments", "has a malformed RLE"),
    (changed_first(segmentation=[[1, 2, 3]]), "bad segments", "annotation 1 .* polygon"),
    (changed_first(segmentation=7), "bad segments", "has a segmentation of type int"),
    (without_first, "no segments", r"has no stuff of image 1 \(000000.png\); add its regions, or remove"),
]  # fmt: skip


@pytest.mark.parametrize("change, reason, said", JSON_FAULTS)
def test_faults_of_regions_are_one_sentence(change, reason, said, tmp_path):
    own = written(tmp_path, 2)
    content = json.loads(own.stuff.read_text())
    change(content)
    own.stuff.write_text(json.dumps(content))
    check_faults(own, Reading(stuff=str(own.stuff)), reason, said, tmp_path)


def category(**values):
    return lambda content: content["categories"][0].update(values)


@pytest.mark.parametrize(
    "change, said",
    [
        (category(id=None), "has the category .'id': None.*; give each an id and a name of its own"),
        (category(id=183), "has the category .'id': 183.*; give each"),
        (category(name=" "), "give each an id and a name"),
        (category(name=["water"]), "give each an id and a name"),
        (category(name="\ud800"), "give each an id and a name"),
        (category(isthing="perhaps"), "and 'isthing' .0 or 1. or none"),
        (lambda c: [x.update(isthing=1) for x in c["categories"]], "has no class of stuff; give COCO's"),
        (
            lambda c: c["categories"].extend({"id": 1000 + i, "name": str(i)} for i in range(252)),
            "has 255 classes of stuff, and a label of pixels is one of at most 254; join",
        ),
        (changed_first(segments_info=[]), "is a panoptic json, which has the objects too"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_learned(sets, change, said, tmp_path):
    content = json.loads(sets.stuff.read_text())
    change(content)
    (tmp_path / "stuff.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        inspect_annotations(sets.objects, sets.images, reading=Reading(stuff=str(tmp_path / "stuff.json")))
    assert "\n" not in str(error.value)


def test_other_paths_are_refused(sets, tmp_path):
    with pytest.raises(UserError, match="nowhere cannot be read"):
        inspect_annotations(sets.objects, sets.images, reading=Reading(stuff=str(tmp_path / "nowhere")))
    with pytest.raises(
        UserError, match="is a panoptic json, whose segments tell the stuff too; leave out the"
    ):
        inspect_annotations(sets.panoptic, sets.images, reading=Reading(stuff=str(sets.stuff)))
    own = written(tmp_path, 1)
    Image.new("L", (32, 32), 0).save(own.pictures / "000000.png")
    with pytest.raises(UserError, match="have no label of stuff, which begin at 1; give the folder"):
        inspect_annotations(own.objects, own.images, reading=Reading(stuff=str(own.pictures)))


def test_ids_that_are_those_of_things_too(sets, tmp_path):
    """A json of stuff may count its classes from 1, as that of the objects does."""
    content = json.loads(sets.stuff.read_text())
    new = {entry["id"]: i for i, entry in enumerate(content["categories"], 1)}
    for entry in content["categories"]:
        entry["id"] = new[entry["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = new[entry["category_id"]]
    (tmp_path / "stuff.json").write_text(json.dumps(content))
    reading = Reading(stuff=str(tmp_path / "stuff.json"))
    source = prepare(sets.objects, sets.images, tmp_path / "cache", reading=reading)
    assert [c.name for c in source.stuff] == list(STUFF)
    assert min(c.id for c in source.stuff) > max(c.id for c in source.categories)
    first = prepare(sets.objects, sets.images, tmp_path / "cache", reading=readings(sets)[1])
    assert all(source[i].semantic == first[i].semantic for i in range(len(source)))


def test_one_json_may_have_both(sets, tmp_path):
    """As panopticapi's panoptic2detection_coco_format.py writes it, with 'isthing' of the classes."""
    objects, stuff = (json.loads(path.read_text()) for path in (sets.objects, sets.stuff))
    regions = [entry for entry in stuff["annotations"] if entry["category_id"] != 183]
    categories = [{**c, "isthing": 1} for c in objects["categories"]]
    categories += [{**c, "isthing": 0} for c in stuff["categories"] if c["id"] != 183]
    for number, entry in enumerate(regions, 1000):
        entry |= {"id": number, "bbox": [0, 0, 1, 1], "area": 1}
    content = {"images": objects["images"], "categories": categories}
    path = tmp_path / "both.json"
    path.write_text(json.dumps({**content, "annotations": [*regions, *objects["annotations"]]}))
    source = prepare(path, sets.images, tmp_path / "cache", reading=Reading(stuff=str(path)))
    whole = prepare(sets.panoptic, sets.images, tmp_path / "cache")
    assert (source.categories, source.stuff) == (whole.categories, whole.stuff)
    for i in range(len(whole)):
        assert source[i].semantic == whole[i].semantic and source[i].rles == whole[i].rles
    one = inspect_annotations(path, reading=Reading(class_name="x", stuff=str(path)))
    assert one.summary["objects"] == sum(whole.object_counts) and not one.problems
    plain = inspect_annotations(path)
    assert [c.name for c in plain.annotations.categories][3:] == list(STUFF)
    assert "classes of stuff ('isthing' 0) that are taken as objects" in plain.annotations.notes[0]


def test_names_of_pictures_in_folders(sets, tmp_path):
    """The picture of train/a.jpg is train/a.png, or a.png where all are in one folder."""
    own = written(tmp_path, 2)
    content = json.loads(own.objects.read_text())
    (own.images / "part").mkdir()
    for entry in content["images"]:
        name = entry["file_name"]
        (own.images / name).rename(own.images / "part" / name)
        entry["file_name"] = f"part/{name}"
    own.objects.write_text(json.dumps(content))
    (own.pictures / "part").mkdir()
    (own.pictures / "000000.png").rename(own.pictures / "part" / "000000.png")
    source = prepare(own.objects, own.images, tmp_path / "cache", reading=readings(own)[0])
    assert len(source) == 2


def test_inspection_counts_stuff(sets, capsys):
    found = inspect_annotations(sets.objects, sets.images, reading=readings(sets)[1])
    whole = inspect_annotations(sets.panoptic, sets.images)
    assert found.problems == [] and found.summary["stuff"] == whole.summary["stuff"]
    lines = ["inspect", str(sets.objects), f"--images={sets.images}", "--count=0"]
    assert command([*lines, f"--stuff={sets.pictures}"]) == 0
    assert re.search(r"Stuff\n +class +id +images\n +stuff 3 +6 +4\n", capsys.readouterr().out)
    assert "stuff 1" in as_text(
        inspect_annotations(sets.objects, sets.images, reading=Reading(stuff=str(sets.pictures)))
    )


def test_a_run_takes_stuff_that_is_apart(sets, tmp_path):
    given = {"annotations": sets.objects, "images": sets.images, "stuff": sets.pictures}
    paths = {f"{part}_{name}": str(path) for part in ("train", "eval") for name, path in given.items()}
    config = Config(model=model_section("jaxmaskrcnn/landscapes"), data=DataConfig(**paths))
    train, evaluation = prepare_sources(config, tmp_path)
    assert [c.name for c in train.stuff] == [c.name for c in evaluation.stuff] == list(STUFF)
    config.data.eval_stuff = str(sets.stuff)
    assert [c.id for c in prepare_sources(config, tmp_path)[1].stuff] == [4, 5, 6]
    without = copy.deepcopy(config)
    without.data.train_stuff = ""
    with pytest.raises(
        UserError, match="or the stuff as data.train_stuff, or set config.model.semantic to None"
    ):
        prepare_sources(without, tmp_path)
    config.model.architecture = model_config(
        "jaxmaskrcnn/landscapes", **{"semantic.stuff": ("water", "field")}
    )
    with pytest.raises(
        UserError, match="has the label 3, and the model 2 classes of stuff; give the names of all"
    ):
        prepare_sources(config, tmp_path)


def test_the_report_takes_names_of_stuff_from_the_segments(tmp_path, capsys):
    """Pictures have none, and may lack the last class, which the model finds."""
    own = written(tmp_path, 1)
    Image.new("L", (32, 32), 1).save(own.pictures / "000000.png")
    segments = [{"id": 1, "category": 6, "isthing": False}]
    entry = write_segments(
        {"panoptic": np.ones((32, 32), int), "segments": segments}, 1, tmp_path / "segments"
    )
    kinds = [*((name, 1) for name in ("circle", "square", "triangle")), *((name, 0) for name in STUFF)]
    listed = [{"id": i, "name": name, "isthing": thing} for i, (name, thing) in enumerate(kinds, 1)]
    (tmp_path / "found.json").write_text("[]")
    report = [
        "report",
        str(tmp_path / "found.json"),
        str(own.objects),
        f"--images={own.images}",
        "--pictures=0",
    ]
    report += [f"--stuff={own.pictures}", f"--segments={tmp_path / 'segments.json'}", f"--output={tmp_path}"]
    for content, code in (({"categories": listed}, 0), ({}, 2), ({"categories": [7, {"isthing": 0}]}, 2)):
        (tmp_path / "segments.json").write_text(json.dumps({"annotations": [entry], **content}))
        assert command(report) == code
    assert "category_id 6, which the annotations do not have" in capsys.readouterr().err
    row = re.search('<th scope="row">stones</th>(.*?)</tr>', (tmp_path / "report.html").read_text())[1]
    assert re.findall(r"<td>([^<]*)</td>", row) == ["0.000"] * 3 + ["0", "1", "0"]


@pytest.mark.slow  # a program of its own
def test_evaluation_is_that_of_the_panoptic_json(sets, tmp_path, capsys):
    """The command scores a model alike on the three forms, and writes the same segments."""
    head = SemanticConfig(dim=8, norm="none", stuff=STUFF, stuff_area=20, score_threshold=0.1)
    things = tuple(Category(i, name) for i, name in enumerate(("circle", "square", "triangle"), 1))
    jmr.save_model(random_model(small_config(semantic=head, categories=things)), tmp_path / "model")
    found, pictures = [], []
    for i, (path, *stuff) in enumerate(
        [(sets.panoptic,), (sets.objects, sets.pictures), (sets.objects, sets.stuff)]
    ):
        arguments = [f"--checkpoint={tmp_path / 'model'}", f"--annotations={path}", f"--images={sets.images}"]
        arguments += [f"--output={tmp_path / str(i)}", *(f"--stuff={place}" for place in stuff)]
        assert command(["evaluate", *arguments]) == 0
        found.append(json.loads((tmp_path / str(i) / "metrics.json").read_text()))
        pictures.append([path.read_bytes() for path in sorted((tmp_path / str(i) / "segments").iterdir())])
    assert found[0] == found[1] == found[2] and found[0]["PQ_stuff"] is not None
    assert pictures[0] == pictures[1] == pictures[2] and len(pictures[0]) == 5
    report = [
        f"{tmp_path / '1' / 'detections.json'}",
        f"{sets.objects}",
        f"--images={sets.images}",
        "--pictures=0",
    ]
    report += [
        f"--stuff={sets.pictures}",
        f"--segments={tmp_path / '1' / 'segments.json'}",
        f"--output={tmp_path}",
    ]
    assert command(["report", *report]) == 0
    assert f"PQ {found[0]['PQ']:.3f}; the page is" in capsys.readouterr().out
