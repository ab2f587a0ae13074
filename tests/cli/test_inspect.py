"""Inspecting a data set: the same sentences as training, all of them, and figures that are right."""

import json
import logging

import numpy as np
import pytest
from data.test_annotations import BAD_ANNOTATIONS, BAD_IMAGES
from data_helpers import TRIANGLE, annotation, content, encode, random_set, write
from folders import ROOT
from measured_scenes import lvis_scene
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import inspection, prepare
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.visualize import contact_sheet
from jaxmaskrcnn.visualize.comparison import annotated_result
from jaxmaskrcnn.visualize.drawing import palette_colour


def inspect(*arguments) -> int:
    return command(["inspect", *map(str, arguments)])


def of_training(path, images, tmp_path, caplog) -> list[str]:
    """What training says about the same files when it goes on behind every problem."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "jaxmaskrcnn"):
        prepare(path, images, tmp_path / "cache", "skip")
    told = [record.getMessage() for record in caplog.records if record.name.endswith(".problems")]
    return [message.removeprefix("left out: ") for message in told]


def test_every_problem_in_the_words_of_training(tmp_path, caplog, capsys):
    """All bad annotations of the other test file at once, each in an image of its own."""
    entries = []
    for i, (changes, _, _) in enumerate(BAD_ANNOTATIONS.values()):
        bad = annotation(100 + i, i + 1) | changes
        entries.append({k: v for k, v in bad.items() if v is not None or k == "category_id"})
    data = content([annotation(1), *entries], [(32, 40)] * (len(entries) + 1))
    path, images = write(tmp_path, data)
    path.write_text(json.dumps(data))
    assert inspect(path, "--json") == 2
    found = json.loads(capsys.readouterr().out)
    said = [problem["message"] + "." for problem in found["problems"]]
    reasons = [reason for _, reason, _ in BAD_ANNOTATIONS.values()]
    assert [problem["reason"] for problem in found["problems"]] == reasons
    # Both tell five of a kind and count the others.
    told = [sentence for i, sentence in enumerate(said) if reasons[:i].count(reasons[i]) < 5]
    more = reasons.count("bad RLE") - 5
    assert len(said) == len(BAD_ANNOTATIONS) == len(told) + more and more > 0
    assert of_training(path, images, tmp_path, caplog) == [*told, f"{more} more (bad RLE)."]
    by_reason = {problem["reason"]: problem for problem in found["problems"]}
    assert by_reason["bad polygon"]["image_id"] and by_reason["bad polygon"]["annotation_id"] >= 100
    assert by_reason["unknown image"]["image_id"] is None and not found["usable"]
    assert inspect(path) == 2
    text = capsys.readouterr().out
    assert all(sentence in text for sentence in told) and f"{len(said)} problems (" in text
    assert f"and {more} more (bad RLE)" in text and not any(s in text for s in said if s not in told)


def test_every_image_problem_in_the_words_of_training(tmp_path, caplog):
    usable = len(BAD_IMAGES) + 3
    data = content([annotation(1, usable)], [(32, 40)] * (len(BAD_IMAGES) + 5))
    path, images = write(tmp_path, data)
    data["images"][usable - 2]["id"] = 1
    for i, (change, _, _) in enumerate(BAD_IMAGES.values()):
        change(data["images"][i + 1])
    cut, text = images / data["images"][-1]["file_name"], images / data["images"][-2]["file_name"]
    cut.write_bytes(cut.read_bytes()[:2000])
    text.write_text("no image")
    path.write_text(json.dumps(data))
    found = inspect_annotations(path, images)
    said = [problem.message + "." for problem in found.problems]
    assert len(said) == len(BAD_IMAGES) + 3 and said == of_training(path, images, tmp_path, caplog)
    assert usable not in found.unreadable
    assert found.summary["problem_counts"] == {
        "bad image entry": 3, "duplicate image id": 1, "missing image": 1, "image size": 1,
        "corrupt image": 2,
    }  # fmt: skip
    # Headers alone: the cut file is not noticed, all else is.
    quick = inspect_annotations(path, images, decode=False)
    assert [p for p in found.problems if p not in quick.problems] == [found.problems[-1]]
    # The json alone knows nothing of files.
    assert inspect_annotations(path).summary["problem_counts"] == {
        "bad image entry": 3,
        "duplicate image id": 1,
    }


def test_annotations_of_a_missing_image_are_checked_too(tmp_path):
    entries = [annotation(1, segmentation=[[1, 1, 2, 2]]), annotation(2), annotation(3, 2)]
    path, images = write(tmp_path, content(entries, [(32, 40)] * 2))
    (images / "1.png").unlink()
    found = inspect_annotations(path, images)
    assert [problem.reason for problem in found.problems] == ["missing image", "bad polygon"]
    assert found.unreadable == {1} and found.summary["objects"] == 2


def test_bad_categories(tmp_path):
    categories = [{"id": ["a"]}, {"id": 1, "name": "x"}, {"id": 1, "name": "y"}, {"id": 2, "name": "x"}]
    path, images = write(tmp_path, content([annotation(1)], categories=categories))
    found = inspect_annotations(path, images)
    assert [problem.reason for problem in found.problems] == ["bad category", "duplicate category id"]
    assert [entry.message.split(": ")[1] for entry in found.suspicions] == [
        "categories 1 and 2 are both called 'x'"
    ]


def squares(sides, image_id=1, first=1, **changes):
    """Square objects side by side, as polygons."""
    entries, x = [], 0
    for i, side in enumerate(sides):
        polygon = [[x, 0, x + side, 0, x + side, side, x, side]]
        fields = {"bbox": [x, 0, side, side], "segmentation": polygon, "area": side * side} | changes
        entries.append(annotation(first + i, image_id, **fields))
        x += side
    return entries


def test_figures(tmp_path, capsys):
    crowd = np.zeros((400, 800), bool)
    crowd[:, :40] = True
    entries = squares([10, 31, 32, 96, 97])
    entries += squares([4] * 3, 2, 10, category_id=7)
    crowd_entry = annotation(
        20, 2, category_id=9, iscrowd=1, segmentation=encode(crowd), bbox=[0, 0, 40, 400]
    )
    categories = [{"id": i, "name": f"class {i}"} for i in (9, 1, 7, 8)]
    sizes = [(400, 800), (400, 800), (200, 100)]
    path, _ = write(tmp_path, content([*entries, crowd_entry], sizes, categories), files=False)
    entries[5]["area"] = -100  # the mask's counts
    path, _ = write(tmp_path, content([*entries, crowd_entry], sizes, categories), files=False)
    assert inspect_annotations(path).summary["object_sizes"]["sqrt_area"]["1"] == 4
    entries[5]["area"] = 16
    path, _ = write(tmp_path, content([*entries, crowd_entry], sizes, categories), files=False)
    found = inspect_annotations(path, progress=True).summary
    assert "9/9" in capsys.readouterr().err
    assert (found["images"], found["objects"], found["crowd_regions"]) == (3, 8, 1)
    assert found["images_without_objects"] == 1
    assert [(c["id"], c["objects"], c["images"], c["crowd_regions"]) for c in found["classes"]] == [
        (1, 5, 1, 0), (7, 3, 1, 0), (8, 0, 0, 0), (9, 0, 0, 1),
    ]  # fmt: skip
    sizes = found["object_sizes"]
    assert (sizes["small"], sizes["medium"], sizes["large"]) == (5, 2, 1)
    sides = [4, 4, 4, 10, 31, 32, 96, 97]
    assert sizes["sqrt_area"]["50"] == np.median(sides) and sizes["sqrt_area"]["95"] == pytest.approx(
        np.percentile(sides, 95), abs=1e-4
    )
    relative = np.array(sides) / np.sqrt(400 * 800)
    assert sizes["relative"]["75"] == pytest.approx(np.percentile(relative, 75), abs=1e-4)
    per_image = found["objects_per_image"]
    assert (per_image["min"], per_image["median"], per_image["max"]) == (0, 3, 5)
    bars = [(bar["from"], bar["to"], bar["images"]) for bar in per_image["histogram"]]
    assert bars == [(0, 0, 1), (1, 1, 0), (2, 2, 0), (3, 4, 1), (5, 5, 1)]
    assert found["image_sizes"]["common"][0] == {"width": 800, "height": 400, "images": 2}
    assert found["segmentations"] == {"polygons": 8, "rle": 1, "none": 0, "most_vertices": 5}


def brute_fit(width, height, model):
    """The best IoU with an anchor of the same centre, one at a time."""
    best = 0.0
    for (size,) in model.rpn.anchors.sizes:
        for ratio in model.rpn.anchors.ratios:
            w, h = size / ratio**0.5, size * ratio**0.5
            both = min(w, width) * min(h, height)
            best = max(best, both / (w * h + width * height - both))
    return best


def test_fit_of_the_anchors_and_hints(tmp_path):
    rng = np.random.default_rng(0)
    sides = rng.integers(3, 120, (40, 2))
    entries = [
        annotation(i + 1, 1, bbox=[0, 0, int(w), int(h)], segmentation=None, area=None)
        for i, (w, h) in enumerate(sides)
    ]
    path, _ = write(tmp_path, content(entries, [(150, 300)]), files=False)
    model = ModelConfig().replace({"detections.per_image": 30, "rpn.anchors.ratios": (0.4, 1.0)})
    data = DataConfig(min_sizes=(200, 300), max_size=450)
    found = inspect_annotations(path, masks=False, model=model, data=data)
    at = found.summary["training_size"]
    scale = min(300 / 150, 450 / 300)
    assert at["scale"]["50"] == scale
    fits = [brute_fit(w * scale, h * scale, model) for w, h in sides]
    assert at["fit_0.5"] == pytest.approx(np.mean(np.array(fits) >= 0.5), abs=1e-4)
    assert at["fit_0.7"] == pytest.approx(np.mean(np.array(fits) >= 0.7), abs=1e-4)
    lengths = np.sqrt((sides * scale).prod(1))
    assert at["below"]["32"] == pytest.approx(np.mean(lengths < 32), abs=1e-4)
    assert any(
        "more than 30 objects, which is as many as are detected: 1 (up to 40" in hint for hint in found.hints
    )
    assert found.summary["segmentations"]["none"] == 40

    path, _ = write(tmp_path, content(squares([5] * 10 + [50] * 80), [(800, 5000)]), files=False)
    big = DataConfig(max_size=5000)
    hints = inspect_annotations(path, data=big).hints
    assert len(hints) == 1 and hints[0].startswith("11% of the objects are smaller than 16 pixels")
    assert "--config.model.rpn.anchors.sizes=16,32,64,128,256" in hints[0]
    assert not inspect_annotations(path, data=DataConfig(min_sizes=(3200,), max_size=20000)).hints
    thin = [annotation(i + 1, bbox=[0, 0, 20, 200], segmentation=None) for i in range(9)]
    path, _ = write(tmp_path, content(thin, [(800, 800)]), files=False)
    (hint,) = inspect_annotations(path, masks=False).hints
    assert "from 10 to 10" in hint and "rpn.anchors.ratios" in hint


def test_what_looks_wrong_but_is_taken(tmp_path, capsys):
    far = annotation(4, 2, bbox=[20, 20, 15, 10], segmentation=TRIANGLE)
    hidden = annotation(5, 2, segmentation=[[3, 3, 3, 3, 3, 3]], bbox=[3, 3, 1, 1])
    other = annotation(6, 2, bbox=[2, 2, 18, 16], category_id=2)
    entries = [annotation(1), annotation(2), annotation(3, 2), far, hidden, other]
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}, {"id": 3, "name": "none"}]
    data = content(entries, [(32, 40)] * 4, categories)
    path, images = write(tmp_path, data)
    data["images"][2]["file_name"] = "2.png"
    (images / "4.png").write_bytes((images / "1.png").read_bytes())
    path.write_text(json.dumps(data))
    assert inspect(path, f"--images={images}", "--json", "--count=0") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(e["reason"], e["image_id"], e["annotation_id"]) for e in found["suspicions"]] == [
        ("same object twice", 1, 2), ("empty mask", 2, 5),
        ("same file twice", 3, None), ("same picture twice", 4, None),
    ]  # fmt: skip
    assert found["usable"] and found["contact_sheet"] is None
    assert found["hints"] == ["Classes without an object, which will not be learned: 1 (none)."]
    # A box beside its mask is not taken: the mask's is.
    assert found["notes"] == [
        f"{path}: boxes that do not fit the objects' masks, whose own boxes are taken: 1 (the first: "
        "annotation 4)",
        f"{path}: areas that are no numbers or do not fit the objects' masks, whose own areas are "
        "taken: 1 (the "
        "first: annotation 5)",
    ]


def test_the_text_has_it_all(tmp_path, capsys):
    path, images = random_set(tmp_path, [(40, 60), (60, 40), (40, 60)], counts=[3, 0, 2])
    assert inspect(path, f"--images={images}", f"--output={tmp_path / 'out' / 'sheet.png'}", "--count=2") == 0
    text = capsys.readouterr().out
    for words in (
        "images          3, 1 of them without objects", "objects         5 of 3 classes",
        "60 x 40 (2), 40 x 60 (1)",
        "0 of polygons, 5 as RLE", "Object sizes: small 100.0%", "Objects per image: 0 to 3, median 2",
        "At the training size (--min_size=800", "No problems", "A sample of the images is in",
    ):  # fmt: skip
        assert words in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("  class ")][0] == [
        "class",
        "id",
    ]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size[0] == 2 * contact_sheet.TILE + 36
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sheet.png"]


def test_no_images_no_sheet_and_an_empty_set(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, images = write(tmp_path, content([]))
    assert inspect(path) == 2 and not list(tmp_path.glob("*.png"))
    text = capsys.readouterr().out
    assert "without its images" in text and "set.json has no object to learn: 1 image" in text
    assert inspect(path, f"--images={images}") == 2 and (tmp_path / "contact_sheet.png").is_file()
    path, _ = write(tmp_path, content([], sizes=()))
    assert inspect(path, f"--images={images}") == 2
    assert "images          0" in capsys.readouterr().out


def test_what_cannot_be_inspected(tmp_path, capsys):
    path, images = write(tmp_path, content([annotation(1)]))
    assert inspect(path, "--count=-1") == 2 and "--count is -1" in capsys.readouterr().err
    assert inspect(tmp_path / "none.json") == 2 and "none.json cannot be read" in capsys.readouterr().err
    assert inspect(path, "--images=nowhere") == 2
    assert "image folder nowhere does not exist" in capsys.readouterr().err
    assert inspect(path, f"--images={__file__}") == 2
    assert f"the image folder {__file__} is a file; give the folder of the images." in capsys.readouterr().err
    path.write_text("[]")
    with pytest.raises(UserError, match="holds a list"):
        inspect_annotations(path)


def test_the_sheet_shows_the_sample_in_the_colours_of_the_classes(tmp_path):
    square = [[10, 10, 50, 10, 50, 50, 10, 50]]
    entries = [
        annotation(1, 1, segmentation=square, bbox=[10, 10, 40, 40], category_id=3),
        annotation(2, 3, segmentation=square, bbox=[10, 10, 40, 40], category_id=3),
        annotation(3, 3, segmentation=[[60, 10, 90, 10, 90, 50]], bbox=[60, 10, 30, 40], category_id=5),
    ]
    categories = [{"id": 3, "name": "a"}, {"id": 5, "name": "b"}, {"id": 8, "name": "c"}]
    path, images = write(tmp_path, content(entries, [(60, 100)] * 4, categories), files=False)
    for i in range(4):
        Image.new("RGB", (100, 60), (90, 90, 90)).save(images / f"{i + 1}.png")
    (images / "4.png").write_bytes(b"")
    found = inspect_annotations(path, images)
    # Images with objects come first; what cannot be read does not come at all.
    for seed in range(5):
        assert [i.id for i in sorted(contact_sheet._sample(found, seed)[:2])] == [1, 3]
    sheets = [contact_sheet.draw_sheet(found, images, count, 0) for count in (2, 4)]
    pixels = np.asarray(sheets[0]).astype(int)
    where = {k: (np.abs(pixels - palette_colour(k)) <= 3).all(-1) for k in (3, 5, 8)}
    half = pixels.shape[1] // 2
    counts = {k: sorted([mask[:, :half].sum(), mask[:, half:].sum()]) for k, mask in where.items()}
    assert counts[3][0] > 500 and counts[5][0] < 20 and counts[5][1] > 500 and counts[8][1] < 20
    assert sheets[1].size[0] == sheets[0].size[0] and sheets[1].size[1] > 1.5 * sheets[0].size[1]
    again = contact_sheet.draw_sheet(found, images, 2, 0)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(sheets[0]))


def test_a_crowd_region_is_drawn_as_one(tmp_path):
    entries = [annotation(1), annotation(2, iscrowd=1)]
    path, images = write(
        tmp_path, content(entries, categories=[{"id": -1, "name": "a"}, {"id": 1, "name": "b"}])
    )
    annotations = inspect_annotations(path, images).annotations
    out, names = annotated_result(annotations.images[0], annotations.categories)
    assert [names[label] for label in out["labels"]] == ["b", "b (crowd)"]


@pytest.mark.parametrize(
    ("annotations", "folder"), [("balloon/val.json", "balloon/val"), ("coco/instances.json", "coco/images")]
)
def test_real_sets_have_no_problems(annotations, folder):
    shared = ROOT / ".." / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the real data sets are not beside the checkout")
    found = inspect_annotations(shared / annotations, shared / folder, decode=False)
    assert not found.problems and not [s for s in found.suspicions if s.reason != "same object twice"]


def test_large_files_are_given_back_while_they_are_read(tmp_path):
    """The entries of the json are gone when the objects are made."""
    entries = [{"id": i} for i in range(3)]
    iterator = inspection.inspect._consume(entries, progress=False)
    assert next(iterator) == {"id": 0} and len(entries) == 2
    assert [entry["id"] for entry in iterator] == [1, 2] and not entries


def test_what_lvis_files_have_beside_cocos(tmp_path, capsys):
    data, _ = lvis_scene(0)
    path = tmp_path / "lvis.json"
    for i, image in enumerate(data["images"]):
        image["file_name"] = f"{i}.png"
    path.write_text(json.dumps(data))
    assert inspect(str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    counts = [entry["frequency"] for entry in data["categories"]]
    shown = {entry["category_id"] for entry in data["annotations"]}
    for letter, name in (("r", "rare"), ("c", "common"), ("f", "frequent")):
        with_objects = sum(e["id"] in shown for e in data["categories"] if e["frequency"] == letter)
        expected = {"classes": counts.count(letter), "with_objects": with_objects}
        assert found["lvis"]["frequencies"][name] == expected
    sizes = [len(image["neg_category_ids"]) for image in data["images"]]
    assert found["lvis"]["negative_classes_per_image"] == pytest.approx(np.mean(sizes), abs=1e-3)

    first = data["annotations"][0]
    data["images"][first["image_id"] - 1]["neg_category_ids"].append(first["category_id"])
    path.write_text(json.dumps(data))
    assert inspect(str(path)) == 0
    text = capsys.readouterr().out
    assert "LVIS: classes are" in text and "which its neg_category_ids say it does not show" in text
    data["images"][1]["neg_category_ids"] = [99]
    path.write_text(json.dumps(data))
    assert inspect(str(path)) == 2
    assert "image 2 has the neg_category_ids [99]; give a list of category ids" in capsys.readouterr().out
