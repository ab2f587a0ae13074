"""Annotations that are written as COCO writes them are read by a quicker way to the same end."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.coco import annotations as reading
from jaxmaskrcnn.data.coco.drawing import Drawn
from jaxmaskrcnn.data.coco.entries import TOGETHER, Entries, ids_of
from jaxmaskrcnn.data.coco.load import load_json, load_texts
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.packing import Packed, freed, packed, unpacked
from jaxmaskrcnn.data.coco.plain import read_ahead, read_texts
from jaxmaskrcnn.data.coco.problems import AllProblems
from jaxmaskrcnn.data.fields.packed import vertex_count
from jaxmaskrcnn.data.inspection import inspect_annotations
from jaxmaskrcnn.data.rle import mask_areas

HEIGHT, WIDTH = 48, 64


def random_ring(rng: random.Random) -> list:
    """A polygon of floats and whole numbers around an ellipse, some of it outside of the image or thin."""
    x, y = rng.uniform(7, WIDTH - 7), rng.uniform(7, HEIGHT - 7)
    width, height = rng.choice([0.3, 6, 9, 9, 9]), rng.choice([0.3, 6, 9, 9, 9])
    ring = []
    for angle in sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randint(5, 12))):
        ring += [x + width * math.cos(angle), y + height * math.sin(angle)]
    return [rng.choice([v, round(v, 2), round(v)]) for v in ring]


def random_content(seed: int, count: int) -> dict:
    """Annotations, nearly all well-formed, with boxes and areas of which some do not fit."""
    rng = random.Random(seed)
    entries = []
    for number in range(count):
        rings = [random_ring(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        xs, ys = [x for r in rings for x in r[::2]], [y for r in rings for y in r[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if rng.random() < 0.2:
            box = [side + rng.choice([-2, 0.5, 1, 4, 40]) for side in box]
        mask = mask_utils.merge(mask_utils.frPyObjects(rings, HEIGHT, WIDTH))
        area = float(mask_utils.area(mask)) * rng.choice([0, 0.3, 0.4, 0.5, 0.8, 1, 1, 1, 2, 2.5, 5])
        entries.append({
            "id": number + 1, "image_id": rng.randint(1, 9), "category_id": rng.choice([1, 1, 2, 3]),
            "iscrowd": rng.choice([0, 0, 0, 0, 1]), "bbox": box, "area": area, "segmentation": rings,
        })  # fmt: skip
        odd = rng.random()
        if odd < 0.1:
            entries[-1] |= rng.choice([
                {"bbox": [str(side) for side in box]}, {"area": str(area)}, {"area": None}, {"ignore": 1},
                {"iscrowd": "0"}, {"iscrowd": False}, {"category_id": "1"}, {"image_id": "1"},
                {"segmentation": rings[0]}, {"segmentation": [[0, 0, 4, 4]]}, {"bbox": [1, 1, 0, 3]},
                {"segmentation": [[1, 2, 3, 4, float("nan"), 9]]}, {"bbox": [0, float("nan"), 5, 5]},
                {"bbox": None}, {"id": f"{number + 1}"}, {"segmentation": []}, {"bbox": [-90, 0, 5, 5]},
            ])  # fmt: skip
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(1, 9)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": entries,
    }


def nothing_drawn(function, items):
    """In the place of `map`: no annotation is plain, so that all are read in the general way."""
    counts = (len(columns.lengths) for columns in items)
    return (Drawn(b"", np.zeros(count, np.int64), np.zeros((count, 4))) for count in counts)


def read(content: dict, mapped=map):
    problems = AllProblems()
    boxes = []
    found = reading.parse_annotations(
        content, Path("set.json"), None, problems, each=lambda *each: boxes.append(each[2]), mapped=mapped
    )
    return repr(found[:3]), repr(boxes), problems.found, found


@pytest.mark.parametrize("way", ["texts", "dictionaries"])
@pytest.mark.parametrize("seed", range(3))
def test_both_ways_agree(seed, way, tmp_path):
    path = tmp_path / "set.json"
    given = random_content(seed, 700)
    if way == "texts":  # in which there is no NaN
        given = json.loads(json.dumps(given).replace("NaN", "1e999"), parse_constant=float)
        path.write_text(json.dumps(given).replace("Infinity", "1e999"))
    else:
        path.write_text(json.dumps(given))
    taken = []

    def counted(function, items):
        for found in map(function, items):
            taken.extend(map(bool, getattr(found, "drawn", found).lengths))
            yield found

    content = load_texts(path) if way == "texts" else load_json(path)
    assert isinstance(content["annotations"], Entries) == (way == "texts")
    quick = read(content, counted)
    assert taken.count(True) > 50 and 700 - taken.count(True) > 50
    general = read(json.loads(path.read_text()), nothing_drawn)
    assert quick[:3] == general[:3]
    assert quick[2]
    for item in quick[3].images[0].objects:
        if item.polygons:
            rles = mask_utils.frPyObjects(json.loads(item.polygons), HEIGHT, WIDTH)
            assert item.rle == mask_utils.merge(rles)["counts"]


def test_plain_annotations_take_the_quick_way(tmp_path):
    content = random_content(0, 300)
    for entry in content["annotations"]:
        entry |= {
            "segmentation": [[2, 3, 22.5, 3, 22.5, 33, 2, 33]], "bbox": [2, 3, 20.5, 30], "area": 615.0,
            "iscrowd": 0, "ignore": 0, "category_id": 1, "image_id": 1,
        }  # fmt: skip
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    entries = load_json(path)["annotations"]
    image = AnnotatedImage(1, "1.png", HEIGHT, WIDTH, [])
    assert [plain is not None for _, plain in read_ahead(entries, {1: image})] == [True] * 300
    parts = load_texts(path)["annotations"].parts
    assert [plain is not None for _, plain in read_texts(parts, {1: image})] == [True] * 300


def test_entries_are_parsed_when_they_are_asked_for(tmp_path):
    content = random_content(1, TOGETHER + 300)
    content["annotations"][7]["note"] = "\u00e9, a word that is no ASCII"
    content["annotations"][TOGETHER + 5]["area"] = float("inf")
    path = tmp_path / "set.json"
    text = json.dumps(content, ensure_ascii=False).replace("NaN", "1e999").replace("Infinity", "1e999")
    path.write_text(text, encoding="utf-8")
    expected, entries = json.loads(text)["annotations"], load_texts(path)["annotations"]
    assert isinstance(entries, Entries) and len(entries) == TOGETHER + 300
    assert list(entries) == expected and entries[::97] == expected[::97]
    assert [entries[i] for i in (0, 7, -1, TOGETHER)] == [expected[i] for i in (0, 7, -1, TOGETHER)]
    assert list(ids_of(entries)) == [entry["id"] for entry in expected]
    with pytest.raises(IndexError):
        entries[TOGETHER + 300]


def test_outlines_stand_for_polygons(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(random_content(3, 300)).replace("NaN", "1e999"))
    wanted = read(load_texts(path))[3].images
    for content in (load_texts(path), load_json(path)):
        found = reading.parse_annotations(content, path, None, AllProblems(), outlines=True).images
        pairs = [
            pair
            for a, b in zip(found, wanted, strict=True)
            for pair in zip(a.objects, b.objects, strict=True)
        ]
        drawn = [(a, b) for a, b in pairs if b.polygons]
        assert len(drawn) > 50 and all(a._replace(polygons="") == b._replace(polygons="") for a, b in pairs)
        for item, whole in drawn:
            rings = json.loads(whole.polygons)
            assert vertex_count(item.packed) == sum(len(ring) // 2 + 1 for ring in rings)
            with pytest.raises(TypeError, match="not kept"):
                item.polygons  # noqa: B018 (a property)
        outlines = {item.packed: whole.polygons for item, whole in drawn}
        assert len(outlines) == len(set(outlines.values()))


@pytest.mark.parametrize("value", [
    [[0, 0.5, 4, 0, 4, 4]], [[1, 2, 3], [4]], [[1, "2"]], [[10**30, 1.5, float("inf")]], [[0, {"x": 1}]],
])  # fmt: skip
def test_packed_polygons_come_back_as_they_were(value):
    entry = packed({"id": 1, "segmentation": json.loads(json.dumps(value))})
    assert type(entry["segmentation"]) is Packed
    assert repr(unpacked(entry["segmentation"])) == repr(value)


@pytest.mark.parametrize("value", [[], [[]], [1, 2], {"counts": "a", "size": [1, 2]}, None, "a", b"bytes"])
def test_other_segmentations_stay(value):
    assert packed({"segmentation": value}) == {"segmentation": value}
    assert unpacked(value) is value


def test_a_list_that_is_read_keeps_its_entries():
    entries = [packed({"image_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]})]
    assert [entry for entry, _ in read_ahead(entries, {})] == [
        {"image_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    ]
    assert type(entries[0]["segmentation"]) is Packed
    assert list(freed(entries)) and not entries


def test_images_with_more_than_255_objects_are_inspected(tmp_path):
    content = random_content(0, 300)
    content["annotations"] = [
        {
            "id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100,
            "bbox": [1 + i / 100, 1, 10, 10],
            "segmentation": [[1 + i / 100, 1, 11 + i / 100, 1, 11 + i / 100, 11, 1 + i / 100, 11]],
        }
        for i in range(300)
    ]  # fmt: skip
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    found = inspect_annotations(path)
    assert not found.problems and not found.suspicions and found.summary["objects"] == 300


@pytest.mark.parametrize("count", [0, 1, 255, 256, 700])
def test_areas_of_any_number_of_masks(count):
    masks = [np.asfortranarray(np.arange(900).reshape(30, 30) < i, np.uint8) for i in range(count)]
    rles = [mask_utils.encode(mask) for mask in masks]
    assert mask_areas(rles).tolist() == list(range(count))
