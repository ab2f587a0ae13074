"""Detections in other programs' formats, and back again."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec
from scipy import ndimage

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.rle import decode_mask, decode_window, polygons_to_counts
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.contours import ring_area, simplify, trace
from jaxmaskrcnn.inference.formats import (
    coco_annotations,
    geojson_content,
    instance_legend,
    instance_picture,
    labelme_content,
    segment_legend,
    segment_picture,
)
from jaxmaskrcnn.inference.outputs import parse_formats

NAMES = {3: "cat", 17: "dog"}


def blobs(seed, height=60, width=80, threshold=0.0, smooth=2.0):
    """A random mask with several parts and holes; the less smooth, the more of them."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return ndimage.gaussian_filter(noise, smooth) > threshold if smooth else noise > threshold


def ring(height=40, width=50):
    mask = np.zeros((height, width), bool)
    mask[5:30, 10:40] = True
    mask[12:20, 20:30] = False
    return mask


def result_of(masks, labels=None, scores=None):
    masks = np.asarray(masks, bool)
    rles = [rle_codec.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    boxes = rle_codec.toBbox(rles).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": boxes.astype(np.float32),
        "scores": np.linspace(0.95, 0.5, len(masks)).astype(np.float32) if scores is None else scores,
        "labels": np.full(len(masks), 3) if labels is None else np.array(labels),
        "masks": [{"size": list(r["size"]), "counts": r["counts"].decode()} for r in rles],
    }


def fill(ring, height, width):
    """The pixels inside of a ring, by counting the edges to the right of each centre."""
    inside = np.zeros((height, width), int)
    ends = np.roll(ring, -1, 0)
    for (x, y0), (x1, y1) in zip(ring.tolist(), ends.tolist(), strict=True):
        if x == x1:
            inside[min(y0, y1) : max(y0, y1), :x] += 1
    return inside % 2 == 1


def polygon_pixels(polygon, height, width):
    mask = fill(polygon.shell, height, width)
    for hole in polygon.holes:
        part = fill(hole, height, width)
        assert (part <= mask).all()  # a hole lies in its own shell
        mask &= ~part
    return mask


# -- outlines


@pytest.mark.parametrize("smooth", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_outlines_filled_again_are_the_mask(smooth, seed):
    mask = blobs(seed, *((60, 80) if smooth == 2 else (24, 32)), smooth=smooth)
    polygons = trace(mask)
    together = np.zeros(mask.shape, int)
    for polygon in polygons:
        together += polygon_pixels(polygon, *mask.shape)
    np.testing.assert_array_equal(together, mask)
    assert len(polygons) == ndimage.label(mask)[1] > 1  # four neighbours each
    holes = ndimage.label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))[1] - 1
    assert sum(len(polygon.holes) for polygon in polygons) >= holes >= int(smooth == 2)


def test_rings_are_simple_and_run_as_they_should():
    for seed in range(3):
        for polygon in trace(blobs(seed, 40, 50, smooth=0.6)):
            for ring_, positive in ((polygon.shell, True), *((hole, False) for hole in polygon.holes)):
                assert (ring_area(ring_) > 0) == positive
                assert len(np.unique(ring_, axis=0)) == len(ring_)  # no vertex twice
                steps = np.roll(ring_, -1, 0) - ring_
                assert ((steps == 0).sum(1) == 1).all()  # along an axis
                turned = np.roll(steps, -1, 0)
                assert ((steps * turned).sum(1) == 0).all()  # and none goes on straight


@pytest.mark.parametrize(
    "rows, shells, holes",
    [
        (["#.", ".#"], 2, 0),  # a common corner alone
        ([".#", "#."], 2, 0),
        (["###", "#.#", "###"], 1, 1),
        (["####", "#.##", "##.#", "####"], 1, 2),  # two holes that touch
        (["##.", "#.#", "###"], 1, 1),  # a hole that touches the outline
        (["#####", "#...#", "#.#.#", "#...#", "#####"], 2, 1),  # an island in a lake
        (["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"], 2, 2),  # with a lake
        (["."], 0, 0),
    ],
)
def test_small_masks(rows, shells, holes):
    mask = np.array([[c == "#" for c in row] for row in rows])
    polygons = trace(mask)
    assert (len(polygons), sum(len(polygon.holes) for polygon in polygons)) == (shells, holes)
    np.testing.assert_array_equal(
        np.any([polygon_pixels(p, *mask.shape) for p in polygons] or [mask * 0], axis=0), mask
    )


def rasterised(ring, height, width):
    counts = polygons_to_counts([ring.ravel().astype(float).tolist()], height, width)
    return decode_mask(counts, height, width).T


def test_outlines_rasterised_by_pycocotools_are_the_mask():
    """Shells minus holes, as its rasteriser (its own, and not by pixels' centres) draws them."""
    for seed in range(3):
        mask = blobs(seed, 120, 160, smooth=4.0)
        drawn = np.zeros(mask.shape, bool)
        for polygon in trace(mask):
            drawn |= rasterised(polygon.shell, 120, 160)
            for hole in polygon.holes:
                drawn &= ~rasterised(hole, 120, 160)
        # Nothing lies in the holes here but what another polygon fills.
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.99


@pytest.mark.parametrize("tolerance", [0.75, 1.5])
def test_simple_outlines_stay_within_their_tolerance(tolerance):
    rows, columns = np.mgrid[:120, :160]
    mask = (rows - 60) ** 2 + ((columns - 70) * 0.8) ** 2 < 50**2
    (shell, _), *others = trace(mask)
    fewer = simplify(shell, tolerance)
    assert not others and 10 < len(fewer) < len(shell) / 2
    assert {tuple(v) for v in fewer} <= {tuple(v) for v in shell}
    ends = np.roll(fewer, -1, 0)
    for vertex in shell:  # the distance to the nearest edge
        along = ((vertex - fewer) * (ends - fewer)).sum(1) / ((ends - fewer) ** 2).sum(1)
        nearest = fewer + np.clip(along, 0, 1)[:, None] * (ends - fewer)
        assert np.hypot(*(nearest - vertex).T).min() <= tolerance + 1e-9
    drawn = rasterised(fewer, 120, 160)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.98
    assert simplify(shell, 0) is shell
    assert len(simplify(np.array([[0, 0], [9, 0], [9, 1], [0, 1]]), 5)) == 4  # never a line


def test_a_window_of_a_mask_is_decoded_alone():
    for mask in (
        blobs(0),
        ring(),
        np.zeros((7, 9), bool),
        np.ones((7, 9), bool),
        blobs(1) & (blobs(2, smooth=9.0)),
    ):
        height, width = mask.shape
        counts = rle_codec.encode(np.asfortranarray(mask, np.uint8))["counts"]
        window, (y, x) = decode_window(counts, height, width)
        whole = np.zeros(mask.shape, bool)
        whole[y : y + window.shape[0], x : x + window.shape[1]] = window
        np.testing.assert_array_equal(whole, mask)
        if mask.any():
            assert window.any(0)[[0, -1]].all() and window.any(1)[[0, -1]].all()


# -- GeoJSON


def test_geojson_has_rings_with_holes():
    masks = [ring(), blobs(5, 40, 50, 0.05)]
    content = json.loads(
        json.dumps(geojson_content(result_of(masks, [3, 17]), NAMES, {3: (9, 8, 7), 17: (1, 2, 3)}))
    )
    assert content["type"] == "FeatureCollection" and len(content["features"]) == 2
    first, second = content["features"]
    assert first["geometry"]["type"] == "Polygon" and len(first["geometry"]["coordinates"]) == 2
    assert second["geometry"]["type"] == "MultiPolygon"
    assert first["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "cat", "color": [9, 8, 7]},
        "category_id": 3,
        "score": pytest.approx(0.95),
    }
    for feature, mask in zip(content["features"], masks, strict=True):
        coordinates = feature["geometry"]["coordinates"]
        parts = [coordinates] if feature["geometry"]["type"] == "Polygon" else coordinates
        drawn = np.zeros(mask.shape, bool)
        for part in parts:
            assert all(line[0] == line[-1] for line in part)  # closed
            shell, *holes = (np.array(line[:-1]) for line in part)
            assert ring_area(shell) > 0 and all(ring_area(hole) < 0 for hole in holes)  # RFC 7946, 3.1.6
            drawn ^= fill(shell, *mask.shape)
            for hole in holes:
                drawn ^= fill(hole, *mask.shape)
        np.testing.assert_array_equal(drawn, mask)


def test_objects_without_a_pixel_have_no_outline():
    result = result_of([np.zeros((40, 50), bool), ring()])
    assert len(geojson_content(result, NAMES)["features"]) == 1
    assert len(labelme_content(result, NAMES, "a.png", ".", (40, 50))["shapes"]) == 1
    assert [entry["area"] for entry in coco_annotations(result, {"id": 1, "file_name": "a"}, NAMES, 1)] == [
        0,
        670,
    ]


def test_boxes_stand_for_masks_that_a_model_does_not_have():
    result = result_of([ring()])
    del result["masks"]
    shape = labelme_content(result, NAMES, "a.png", ".", (40, 50))["shapes"][0]
    assert shape["points"] == [[10, 5], [40, 5], [40, 30], [10, 30]]
    geometry = geojson_content(result, NAMES)["features"][0]["geometry"]
    assert geometry["coordinates"] == [[[10, 5], [40, 5], [40, 30], [10, 30], [10, 5]]]
    assert "segmentation" not in coco_annotations(result, {"id": 1, "file_name": "a"}, NAMES, 1)[0]


# -- labelme and mask pictures, back through the importers


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


def imported(tmp_path, folder, name, *options):
    output = tmp_path / "back.json"
    assert (
        command(
            [
                "import",
                str(folder),
                f"--format={name}",
                f"--images={tmp_path / 'images'}",
                f"--output={output}",
                *options,
            ]
        )
        == 0
    )
    source = prepare(output, tmp_path / "images", tmp_path / "cache")
    return source, source[0]


def test_labelme_goes_back_in(tmp_path, picture, capsys):
    masks = [ring(60, 80), ndimage.binary_fill_holes(blobs(2, threshold=0.15))]
    masks[0][40:55, 50:70] = True
    folder = tmp_path / "labelme"
    folder.mkdir()
    content = labelme_content(result_of(masks, [3, 17]), NAMES, picture, folder, (60, 80))
    assert content["imagePath"] == "../images/one.png"
    (folder / "one.json").write_text(json.dumps(content))
    source, example = imported(tmp_path, folder, "labelme")
    assert [source.categories[k].name for k in example.labels] == ["cat", "dog"]
    filled = np.any([fill(p.shell, 60, 80) for p in trace(masks[0])], axis=0)
    assert (filled & ~masks[0]).any()  # the first has holes, which labelme's polygons do not
    for back, mask in zip(example.masks(), (filled, masks[1]), strict=True):
        assert (back & mask).sum() / (back | mask).sum() > 0.99
    notes = [shape["description"] for shape in content["shapes"]]
    holes = [len(polygon.holes) for mask in masks for polygon in trace(mask)]
    assert notes == [
        f"score {0.95 if shape['label'] == 'cat' else 0.5:.3f}" + (f", holes filled: {n}" if n else "")
        for shape, n in zip(content["shapes"], holes, strict=True)
    ]
    groups = {shape["label"]: shape["group_id"] for shape in content["shapes"]}
    assert groups == {"cat": 1, "dog": 2}  # both have several parts


def test_mask_pictures_go_back_in(tmp_path, picture, capsys):
    masks = [blobs(1, threshold=0.1), blobs(2, threshold=0.1)]
    result = result_of(masks, [3, 17])
    values = instance_picture(result, (60, 80))
    assert values.dtype == np.uint8
    # The first has the higher score and is seen where they overlap.
    np.testing.assert_array_equal(values, np.where(masks[0], 1, np.where(masks[1], 2, 0)))
    assert instance_legend(result, NAMES) == [
        {"value": 1, "category_id": 3, "category_name": "cat", "score": pytest.approx(0.95)},
        {"value": 2, "category_id": 17, "category_name": "dog", "score": 0.5},
    ]
    (tmp_path / "masks").mkdir()
    Image.fromarray(values).save(tmp_path / "masks" / "one.png")
    _, example = imported(tmp_path, tmp_path / "masks", "masks", "--class_name=thing")
    np.testing.assert_array_equal(example.masks(), [values == 1, values == 2])


def test_more_than_255_objects_take_16_bits(tmp_path):
    masks = np.zeros((300, 20, 30), bool)
    for i in range(300):
        masks[i, i // 30, i % 30] = True
    values = instance_picture(result_of(masks), (20, 30))
    assert values.dtype == np.uint16
    Image.fromarray(values).save(tmp_path / "many.png")
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "many.png"))[:10].ravel(), np.arange(1, 301)
    )


def test_coco_entries_carry_the_masks():
    mask = ring()
    entry = coco_annotations(result_of([mask], [17]), {"id": 5, "file_name": "a.png"}, NAMES, 8)[0]
    assert entry["id"] == 8 and entry["image_id"] == 5 and entry["category_name"] == "dog"
    assert entry["bbox"] == [10, 5, 30, 25] and entry["area"] == mask.sum()
    rle = entry["segmentation"]
    np.testing.assert_array_equal(decode_mask(rle["counts"].encode(), *rle["size"]).T, mask)


def test_formats_are_named():
    assert parse_formats(" masks,png, png") == ("masks", "png")
    for text, said in (
        ("png,jpg", "has 'jpg'; choose some of png, json, csv, labelme, geojson, masks"),
        (",", "is empty"),
    ):
        with pytest.raises(UserError, match=said):
            parse_formats(text)


def test_segments_are_written_in_cocos_colours():
    numbers = np.array([[0, 1, 300], [70000, 1, 255]], np.int32)
    stuff = {"id": 300, "category": 17, "isthing": False, "score": None, "area": 1}
    thing = {"id": 1, "category": 3, "isthing": True, "score": 0.5, "area": 2}
    result = {"panoptic": numbers, "segments": [thing, stuff]}
    picture = segment_picture(result)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture.astype(int) @ [1, 256, 65536], numbers)
    assert segment_legend(result, NAMES) == [
        {"id": 1, "category_id": 3, "category_name": "cat", "isthing": 1, "score": 0.5, "area": 2},
        {"id": 300, "category_id": 17, "category_name": "dog", "isthing": 0, "score": None, "area": 1},
    ]
