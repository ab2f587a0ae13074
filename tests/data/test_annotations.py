"""Bad annotation files: one clear sentence each, or counted and left out."""

import json
import logging

import numpy as np
import pytest
from data_helpers import TRIANGLE, annotation, content, encode, write

from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.coco.left_out import LOST_NOTE, REGION_NOTE
from jaxmaskrcnn.data.rle import check_counts, decode_masks
from jaxmaskrcnn.errors import UserError

MASK = np.zeros((32, 40), bool)
MASK[4:20, 6:30] = True


def rle(**changes):
    return encode(MASK) | changes


# field changes, reason counted, words of the sentence
BAD_ANNOTATIONS = {
    "unknown category": ({"category_id": 9}, "unknown category", "category_id 9"),
    "no category": ({"category_id": None}, "unknown category", "category_id None"),
    "two points": ({"segmentation": [[1, 1, 5, 5]]}, "bad polygon", "2 points; give at least 3"),
    "odd polygon": ({"segmentation": [[1, 1, 5, 5, 9, 9, 3]]}, "bad polygon", "7 numbers"),
    "empty polygon": ({"segmentation": [[]]}, "bad polygon", "0 points"),
    "NaN polygon": ({"segmentation": [[1, 1, 5, float("nan"), 9, 9]]}, "bad polygon", "not a finite number"),
    "no segmentation": ({"segmentation": None}, "missing segmentation", "no segmentation"),
    "empty segmentation": ({"segmentation": []}, "missing segmentation", "no segmentation"),
    "text segmentation": ({"segmentation": "mask.png"}, "bad segmentation", "type str"),
    "RLE without size": ({"segmentation": {"counts": [1280]}}, "bad segmentation", "'size' and 'counts'"),
    "RLE of another size": ({"segmentation": rle(size=[40, 32])}, "RLE size", r"size \[40, 32\]"),
    "short RLE": ({"segmentation": {"size": [32, 40], "counts": [100, 20]}}, "bad RLE", "add up"),
    "negative RLE": ({"segmentation": {"size": [32, 40], "counts": [1300, -20]}}, "bad RLE", "add up"),
    "RLE of text": ({"segmentation": {"size": [32, 40], "counts": ["1280"]}}, "bad RLE", "add up"),
    "RLE number": ({"segmentation": rle(counts=5)}, "bad RLE", "type int"),
    "cut RLE": ({"segmentation": rle(counts=encode(MASK)["counts"][:-3])}, "bad RLE", "malformed RLE"),
    "foreign RLE": ({"segmentation": rle(counts="hello world")}, "bad RLE", "outside of the encoding"),
    "non-ascii RLE": ({"segmentation": rle(counts="\u00e9")}, "bad RLE", "malformed RLE"),
    "unknown image": ({"image_id": 77}, "unknown image", "image_id 77"),
    "number as iscrowd": ({"iscrowd": 2}, "bad iscrowd", "iscrowd 2; give 0"),
    "text as iscrowd": ({"iscrowd": "maybe"}, "bad iscrowd", "iscrowd 'maybe'"),
    "list as image id": ({"image_id": [1]}, "unknown image", r"image_id \[1\]"),
}

# Drawing them would take hours or crash.
FAR_POLYGONS = [
    [[0, 0, 1e9, 0, 1e9, 1e9]],
    [[0, 0, -3e8, 1, 5, 5]],
    [[0, 0, 10**14, 1, 5, 5]],
    [*TRIANGLE, [0, 0, 5, 1e8, 5, 5]],
]

# The same for objects without a mask, which otherwise says where the object is.
BAD_BOXES = {
    "zero-width box": ({"bbox": [2, 2, 0, 5]}, "bad box", "width 0 and height 5"),
    "negative box": ({"bbox": [9, 9, 4, -3]}, "bad box", "height -3"),
    "NaN box": ({"bbox": [2, 2, float("nan"), 5]}, "bad box", "four finite numbers"),
    "infinite box": ({"bbox": [2, 2, float("inf"), 5]}, "bad box", "four finite numbers"),
    "short box": ({"bbox": [2, 2, 5]}, "bad box", "four finite numbers"),
    "text box": ({"bbox": "2 2 5 5"}, "bad box", "four finite numbers"),
    "outside box": ({"bbox": [100, 2, 5, 5]}, "bad box", "outside of its 40 x 32 image"),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_box_without_a_mask_stops_or_is_left_out(case, tmp_path):
    changes, reason, words = BAD_BOXES[case]
    good = [annotation(i, segmentation=None) for i in (1, 8)]
    path, images = write(tmp_path, content([good[0], annotation(7, segmentation=None) | changes, good[1]]))
    with pytest.raises(UserError, match=words) as caught:
        prepare(path, images, tmp_path / "cache", masks=False)
    assert "annotation 7 of image 1 (1.png)" in str(caught.value)
    source = prepare(path, images, tmp_path / "cache", "skip", masks=False)
    assert source.skipped == {reason: 1} and source[0].annotation_ids.tolist() == [1, 8]


@pytest.mark.parametrize("polygons", FAR_POLYGONS)
def test_polygons_far_outside_are_not_drawn(polygons, tmp_path):
    path, images = write(tmp_path, content([annotation(), annotation(7, segmentation=polygons)]))
    with pytest.raises(UserError, match="annotation 7 .* with the coordinate .*, which lies far"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {"bad polygon": 1}
    assert source[0].annotation_ids[~source[0].crowd].tolist() == [1]


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_bad_annotation_stops_or_is_left_out(case, tmp_path, caplog):
    changes, reason, words = BAD_ANNOTATIONS[case]
    bad = annotation(7) | changes
    bad = {key: value for key, value in bad.items() if value is not None or key == "category_id"}
    path, images = write(tmp_path, content([annotation(1), bad, annotation(8)]))
    with pytest.raises(UserError, match=words) as caught:
        prepare(path, images, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith("'skip' to leave it out.")
    if reason != "unknown image":
        assert f"annotation {bad['id']} of image 1 (1.png)" in message
    with caplog.at_level(logging.WARNING, "jaxmaskrcnn"):
        source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {reason: 1}
    ids, crowd = source[0].annotation_ids, source[0].crowd
    assert ids[~crowd].tolist() == [1, 8]
    # What is left out stays a region if it has a class and a box, and is in one of the images.
    lost = reason in ("unknown category", "unknown image")
    assert ids[crowd].tolist() == [] if lost else [7]
    told = [r.getMessage() for r in caplog.records]
    assert told[0] == "left out: " + message.replace(", or set on_error to 'skip' to leave it out", "")
    about_places = {"unknown category": LOST_NOTE, "unknown image": None}.get(reason, REGION_NOTE)
    assert told[1:] == ([f"{path}: {about_places}: 1 (the first: annotation 7)."] if about_places else [])


def drop(key):
    return lambda image: image.pop(key)


def put(**values):
    return lambda image: image.update(values)


BAD_IMAGES = {
    "no name": (drop("file_name"), "bad image entry", "image 2 has no file_name"),
    "no width": (put(width=0), "bad image entry", "height 32 and width 0"),
    "list as id": (put(id=[2]), "bad image entry", r"entry 1 of 'images' has the id \[2\]"),
    "missing file": (put(file_name="gone.png"), "missing image", r"image 2 \(gone.png\) is not in"),
    "wrong size": (put(width=41), "image size", "40 x 32 pixels .* annotations are for 41 x 32"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_stops_or_is_left_out(case, tmp_path):
    change, reason, words = BAD_IMAGES[case]
    data = content([annotation(1)], sizes=[(32, 40)] * 3)
    path, images = write(tmp_path, data)
    change(data["images"][1])
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=words) as caught:
        prepare(path, images, tmp_path / "cache")
    assert str(path) in str(caught.value)
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {reason: 1}
    assert source.image_ids.tolist() == [1, 3] and source.file_names == ("1.png", "3.png")
    assert source.object_counts.tolist() == [1, 0]


@pytest.mark.parametrize("written", [1, "1", "01"])
def test_of_two_images_of_one_id_neither_is_used(written, tmp_path):
    """Whose annotations theirs are is not known."""
    data = content([annotation(1), annotation(2, 1), annotation(3, 3)], sizes=[(32, 40)] * 3)
    path, images = write(tmp_path, data)
    data["images"][1]["id"] = written
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"image 1 \(2.png\) has an id that was used"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {"duplicate image id": 1}
    assert source.file_names == ("3.png",) and source.object_counts.tolist() == [1]


def test_an_image_that_is_missing_is_not_another_one(tmp_path):
    """ "y/1.png" ends like 1.png, which is listed itself."""
    path, images = write(tmp_path, content([annotation(1), annotation(2, 2)], sizes=[(32, 40)] * 2))
    data = json.loads(path.read_text())
    data["images"][1]["file_name"] = "y/1.png"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"image 2 \(y/1.png\) is not in .*1.png would be 2 different images"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.file_names == ("1.png",) and source.object_counts.tolist() == [1]


def test_annotations_of_an_image_left_out_are_not_problems_of_their_own(tmp_path):
    path, images = write(tmp_path, content([annotation(1), annotation(2, 2)], sizes=[(32, 40)] * 2))
    (images / "2.png").unlink()
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {"missing image": 1}


def test_corrupt_image(tmp_path):
    path, images = write(tmp_path, content([annotation(1)], sizes=[(32, 40)] * 2))
    data = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"image 2 \(.*2.png\) cannot be decoded .* replace or remove"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {"corrupt image": 1} and source.image_ids.tolist() == [1]


def test_several_problems_are_counted(tmp_path):
    bad = [
        annotation(1, segmentation=[[1, 1, 5, 5]]),
        annotation(2, category_id=4),
        annotation(3, category_id=5),
    ]
    path, images = write(tmp_path, content([*bad, annotation(4)]))
    with pytest.raises(UserError, match=r"annotation 1 of .* \(one of 3 problems\)"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.skipped == {"bad polygon": 1, "unknown category": 2}


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{not json", "is not valid json"),
        ("[]", "holds a list where a COCO annotation file"),
        ('{"images": [], "categories": []}', "has no 'annotations'"),
        ('{"images": {}, "annotations": [], "categories": []}', "has a dict as 'images'"),
        ('{"images": [3], "annotations": [], "categories": []}', "entry in 'images' that is not an object"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": [1]}]}', r"category with the id \[1\]"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "leaves no usable image"),
    ],
)
def test_files_that_are_no_coco_json(text, words, on_error, tmp_path):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        prepare(path, tmp_path, tmp_path / "cache", on_error)
    assert str(path) in str(caught.value)


def test_missing_files_and_wrong_settings(tmp_path):
    path, images = write(tmp_path, content([]))
    with pytest.raises(UserError, match="none.json cannot be read"):
        prepare(tmp_path / "none.json", images, tmp_path / "cache")
    with pytest.raises(UserError, match="image folder .*nowhere does not exist"):
        prepare(path, tmp_path / "nowhere", tmp_path / "cache")
    with pytest.raises(UserError, match="on_error is 'ignore'"):
        prepare(path, images, tmp_path / "cache", "ignore")


def test_duplicate_category_ids(tmp_path):
    categories = [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]
    path, images = write(tmp_path, content([annotation(category_id=3)], categories=categories))
    with pytest.raises(UserError, match="category id 3 is used for 'cat' and for 'dog'"):
        prepare(path, images, tmp_path / "cache")
    source = prepare(path, images, tmp_path / "cache", "skip")
    assert source.categories == ((3, "cat"),) and source.skipped == {"duplicate category id": 1}


def test_counts_are_checked_as_pycocotools_encodes_them():
    rng = np.random.default_rng(0)
    for trial in range(200):
        height, width = rng.integers(1, 50, 2)
        mask = rng.random((height, width)) < rng.random()
        if trial % 2:
            mask = np.repeat(np.repeat(mask, 30, axis=0), 20, axis=1)
        counts = encode(mask)["counts"].encode()
        assert check_counts(counts, *mask.shape) is None
        np.testing.assert_array_equal(decode_masks([counts], *mask.shape)[0], mask)
        assert check_counts(counts, mask.shape[0] + 1, mask.shape[1]) is not None


def test_malformed_counts():
    assert check_counts(b"", 4, 4) == "its counts are empty"
    assert "character" in check_counts(b" 0", 4, 4)
    assert "within a number" in check_counts(b"P", 4, 4)
    assert "32 bits" in check_counts(b"o" * 8 + b"0", 4, 4)
    assert "negative" in check_counts(b"O", 4, 4)
    assert "cover 5 pixels and not 16" in check_counts(b"5", 4, 4)
