"""Panoptic quality in the report, of segments in COCO's format."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import write_landscapes
from jaxmaskrcnn.data.coco.panoptic import segment_numbers
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.evaluation.panoptic import PanopticCounts, panoptic_metrics
from jaxmaskrcnn.inference.formats import write_segments
from jaxmaskrcnn.report.segments import read_quality

COUNT, SIZE = 4, 32


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    return write_landscapes(tmp_path_factory.mktemp("landscapes"), COUNT, SIZE, seed=4)


def entries(landscapes):
    """By image id the annotated numbers, and class ids by number."""
    content = json.loads(landscapes[0].read_text())
    return {
        entry["image_id"]: (
            segment_numbers(landscapes[0].with_suffix("") / entry["file_name"], "x", None),
            {s["id"]: s["category_id"] for s in entry["segments_info"]},
        )
        for entry in content["annotations"]
    }


def written(folder, landscapes, shift=3, images=COUNT):
    """Segments as evaluate writes them: those that are annotated, moved to the right."""
    found = []
    for image_id, (numbers, classes) in list(entries(landscapes).items())[:images]:
        moved = np.roll(numbers, shift, 1)
        segments = [{"id": i, "category": c, "isthing": c <= 3} for i, c in classes.items()]
        found.append(write_segments({"panoptic": moved, "segments": segments}, image_id, folder / "segments"))
    (folder / "segments.json").write_text(json.dumps({"annotations": found}))
    return folder / "segments.json"


def test_segments_that_are_annotated_are_perfect(landscapes, tmp_path):
    path = written(tmp_path, landscapes, shift=0)
    quality = read_quality(path, GroundTruth(landscapes[0]), landscapes[0])
    assert (quality.metrics["PQ"], quality.metrics["SQ"], quality.metrics["RQ"]) == (1, 1, 1)
    assert quality.names[3:] == ["water", "field", "stones"] and quality.things == 3
    assert quality.counts.wrong.sum() == quality.counts.missed.sum() == 0 < quality.counts.matched.sum()


def overlap(found, annotated, labelled):
    """The IoU of two masks; what of the first is not annotated does not count."""
    return (found & annotated).sum() / ((found & labelled) | annotated).sum()


def test_quality_by_plain_loops(landscapes, tmp_path):
    """Every pair of segments of one class is compared, pixel by pixel."""
    path = written(tmp_path, landscapes, images=3)
    quality = read_quality(path, GroundTruth(landscapes[0]), landscapes[0])
    counts = PanopticCounts.none(6)
    for image_id, (numbers, classes) in entries(landscapes).items():
        moved = np.roll(numbers, 3, 1) if image_id < COUNT else np.zeros_like(numbers)
        left = {i for i in classes if (moved == i).any()}
        for g, label in classes.items():
            best = [
                (overlap(moved == p, numbers == g, numbers > 0), p) for p in classes if classes[p] == label
            ]
            iou, partner = max(best)
            if iou > 0.5:
                counts.iou[label - 1] += iou
                counts.matched[label - 1] += 1
                left.discard(partner)
            else:
                counts.missed[label - 1] += 1
        for p in left:
            if (numbers[moved == p] == 0).mean() <= 0.5:
                counts.wrong[classes[p] - 1] += 1
    for ours, theirs in zip(quality.counts, counts, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert 0 < counts.matched.sum() and counts.wrong.sum() and counts.missed.sum()
    expected = panoptic_metrics(counts, GroundTruth(landscapes[0]).panoptic.categories, 3)
    assert quality.metrics["PQ"] == pytest.approx(expected["PQ"])


def page(folder, landscapes, *more):
    found = [{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [1, 1, 9, 9]}]
    (folder / "found.json").write_text(json.dumps(found))
    lines = ["report", str(folder / "found.json"), str(landscapes[0]), f"--images={landscapes[1]}"]
    code = command([*lines, f"--output={folder / 'out'}", "--pictures=1", *more])
    return (folder / "out" / "report.html").read_text() if code == 0 else code


def test_the_page_has_it(landscapes, tmp_path, caplog):
    path = written(tmp_path, landscapes, images=3)
    quality = read_quality(path, GroundTruth(landscapes[0]), landscapes[0])
    text = page(tmp_path, landscapes, f"--segments={path}")
    assert f"<b>{quality.metrics['PQ']:.3f}</b>PQ" in text and 'href="#segments"' in text
    assert "not measured" not in text
    assert (
        "images without an entry, in which no segment counts as found: 1 (the first: image 4)" in caplog.text
    )
    for title, suffix in (("all classes", ""), ("things", "_things"), ("stuff", "_stuff")):
        row = re.search(rf'<th scope="row">{title}</th>(.*?)</tr>', text)[1]
        values = [quality.metrics[name + suffix] for name in ("PQ", "SQ", "RQ")]
        assert re.findall(r"<td>([^<]*)</td>", row) == [f"{value:.3f}" for value in values]
    k = quality.names.index("water")
    row = re.search(r'<th scope="row">water</th><td class="words">stuff</td>(.*?)</tr>', text)[1]
    own = quality.metrics["per_class"][k]
    assert re.findall(r"<td>([^<]*)</td>", row) == [
        *(f"{own[name]:.3f}" for name in ("PQ", "SQ", "RQ")),
        *(str(int(column[k])) for column in quality.counts[1:]),
    ]


def test_what_is_not_measured_is_said(landscapes, tmp_path, capsys):
    said = "Panoptic quality is not measured: the annotations have segments, but --segments was not given."
    assert said in page(tmp_path, landscapes) and said in capsys.readouterr().out


def test_annotations_without_segments_are_refused(landscapes, tmp_path, capsys):
    path = written(tmp_path, landscapes)
    plain = {"images": [{"id": 1, "file_name": "000000.jpg", "height": SIZE, "width": SIZE}],
             "annotations": [], "categories": [{"id": 1, "name": "circle"}]}  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps(plain))
    assert page(tmp_path, (tmp_path / "val.json", landscapes[1]), f"--segments={path}") == 2
    assert "val.json has no segments to measure those of" in capsys.readouterr().err


def first(**changes):
    return lambda content, folder: content["annotations"][0].update(changes)


def first_segment(**changes):
    return lambda content, folder: content["annotations"][0]["segments_info"][0].update(changes)


def picture(change):
    return lambda content, folder: change(folder / "segments" / "000000000001.png")


@pytest.mark.parametrize(
    "change, said",
    [
        (first(image_id=77), "the entry 0 of 'annotations' is of the image 77, which .* does not have; give"),
        (first(image_id=[1]), "is of the image .1., which"),
        (first(image_id=2), "the entry 1 of 'annotations' is the second one of image 2; leave one of them"),
        (first(file_name=None), "has no file_name; give the name of its picture in .*segments"),
        (first(file_name="b.png"), "which cannot be read .FileNotFoundError"),
        (first(segments_info={}), "has no list 'segments_info'; write the segments again"),
        (first(segments_info=[]), "has pixels of the segment 1, which .* does not list; give the picture"),
        (first_segment(id="a"), "has the segment 'a'; give each a number of its own from 1 on"),
        (first_segment(id=2), "has the segment 2; give each a number of its own from 1 on"),
        (first_segment(category_id=99), "has the segment 1 with the category_id 99, which the annotations"),
        (first_segment(category_id=None), "has the segment 1 with the category_id None"),
        (picture(lambda path: path.write_bytes(b"x")), "which cannot be read .UnidentifiedImageError"),
        (picture(lambda path: Image.new("RGB", (9, 9)).save(path)), "is 9 x 9 pixels, and its image 32 x 32"),
        (picture(lambda path: shutil.rmtree(path.parent)), "needs the folder of its pictures, .*segments"),
        (lambda content, _: content.pop("annotations"), "has no list 'annotations' of objects; give the"),
    ],
)  # fmt: skip
def test_faults_are_one_sentence(change, said, landscapes, tmp_path):
    path = written(tmp_path, landscapes)
    content = json.loads(path.read_text())
    change(content, tmp_path)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        read_quality(path, GroundTruth(landscapes[0]), landscapes[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"annotations": [1]}'])
def test_other_files_are_refused(text, landscapes, tmp_path):
    path = written(tmp_path, landscapes)
    path.write_text(text)
    with pytest.raises(UserError, match="segments.json (is not valid json|has no list 'annotations')"):
        read_quality(path, GroundTruth(landscapes[0]), landscapes[0])
