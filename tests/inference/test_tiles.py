"""Tiles of large pictures, and objects joined across their seams, without a model."""

import tracemalloc

import numpy as np
import pytest
from detectors import Stub
from pycocotools import mask as rle_codec
from scipy import ndimage

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.join_tiles import join_tiles, shift_rle
from jaxmaskrcnn.inference.postprocess import encode_window
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.inference.stream import Prediction, StreamingPredictor
from jaxmaskrcnn.inference.tiles import TiledPredictor, make_tiles
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.lookup import model_config


def encode(mask):
    rle = rle_codec.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def decode(rle):
    return decode_mask(rle["counts"].encode(), *rle["size"]).T


def result_of(masks, labels=None, scores=None):
    masks = [np.asarray(mask, bool) for mask in masks]
    boxes = np.array([[*np.argwhere(m.T).min(0), *(np.argwhere(m.T).max(0) + 1)] for m in masks], np.float32)
    return {
        "boxes": boxes.reshape(-1, 4),
        "scores": np.float32(np.linspace(0.9, 0.5, len(masks)) if scores is None else scores),
        "labels": np.ones(len(masks), np.int64) if labels is None else np.array(labels),
        "masks": [encode(mask) for mask in masks],
    }


class Seer(StreamingPredictor):
    """Finds every connected object of a picture whose red says which one, and whose green its class.

    Args:
        edit: Changes each mask, as a network's errors would; may leave it empty.
    """

    config = ModelConfig()
    categories = (Category(1, "cat"), Category(2, "dog"))

    def __init__(self, edit=lambda mask: mask):
        self.edit, self.seen = edit, []

    def _stream(self, images, masks, on_error, name="images[{}]"):
        assert masks == "rle"
        for index, pixels in enumerate(images):
            self.seen.append(pixels.shape[:2])
            found, labels, scores = [], [], []
            for value in set(np.unique(pixels[..., 0])) - {0}:
                parts, count = ndimage.label(pixels[..., 0] == value)
                for k in range(count):
                    mask = self.edit(parts == k + 1)
                    if mask.any():
                        found.append(mask)
                        labels.append(int(pixels[parts == k + 1][0, 1]))
                        scores.append(mask.mean())
            order = np.argsort(-np.array(scores), kind="stable")
            result = result_of([found[i] for i in order], [labels[i] for i in order], np.array(scores)[order])
            yield Prediction(index, pixels, result)


def scene(seed, height=300, width=420, count=40, largest=90):
    """Objects that touch each other, some larger than a tile, and their classes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3), np.uint8)
    for value in range(1, count + 1):
        y, x = rng.integers(height), rng.integers(width)
        radius, squeeze = rng.integers(4, largest) ** rng.uniform(0.7, 1), rng.uniform(0.3, 1)
        if value == count:  # one is seen as a whole by no tile
            y, x, radius = height // 2, width // 2, largest
        inside = (rows - y) ** 2 + (columns - x) ** 2 * squeeze < radius**2
        picture[inside] = value, 1 + value % 2, 0
    # What is left of each is one connected object, so that the truth is known.
    truth = []
    for value in range(1, count + 1):
        parts, _ = ndimage.label(picture[..., 0] == value)
        if not parts.any():
            continue
        largest_part = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
        picture[(parts > 0) & ~largest_part] = 0
        truth.append(largest_part)
    return picture, truth


# -- cutting


@pytest.mark.parametrize("length", [1, 99, 100, 101, 180, 181, 260, 999])
@pytest.mark.parametrize("overlap", [0, 20, 50])
def test_tiles_cover_the_picture_and_overlap(length, overlap):
    tiles = make_tiles(length, 70, 100, overlap)
    assert {(t.x0, t.x1) for t in tiles} == {(0, 70)}
    starts, ends = [t.y0 for t in tiles], [t.y1 for t in tiles]
    assert starts[0] == 0 and ends[-1] == length
    assert {e - s for s, e in zip(starts, ends, strict=True)} == {min(length, 100)}  # one compiled size
    shared = np.array(ends[:-1]) - starts[1:]
    assert (shared >= overlap).all() and (len(tiles) < 3 or np.ptp(shared) <= 1)
    assert len(tiles) == max(1, -(-(length - overlap) // (100 - overlap)))


@pytest.mark.parametrize("seed", range(5))
def test_masks_of_windows_move_into_the_picture(seed):
    rng = np.random.default_rng(seed)
    h, w = rng.integers(3, 20, 2)
    mask = rng.random((h, w)) < rng.choice([0, 0.2, 0.9, 1])
    y, x = rng.integers(0, 9, 2)
    height, width = h + y + rng.integers(0, 5), w + x + rng.integers(0, 5)
    whole = np.zeros((height, width), bool)
    whole[y : y + h, x : x + w] = mask
    assert shift_rle(encode(mask), (y, x), (height, width)) == encode(whole)


# -- joining


@pytest.mark.parametrize("seed", range(4))
def test_joined_tiles_are_the_objects_of_the_picture(seed):
    picture, truth = scene(seed)
    seer = Seer()
    out = TiledPredictor(seer, 128, 40)(picture)
    assert set(seer.seen) == {(128, 128)} and len(seer.seen) > 9
    assert any(min(mask.any(0).sum(), mask.any(1).sum()) > 128 for mask in truth)  # larger than a tile
    assert len(out["masks"]) == len(truth)
    unmatched = [mask.tobytes() for mask in truth]
    for mask, box, label in zip(out["masks"], out["boxes"], out["labels"], strict=True):
        unmatched.remove(mask.tobytes())
        assert label == picture[mask][0, 1]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert (np.diff(out["scores"]) <= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_objects_of_a_network_that_errs_are_joined_too(seed):
    """Masks that are too small or too large by chance, in every tile anew."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:300, :420]
    picture, truth = np.zeros((300, 420, 3), np.uint8), []
    for value in range(12):  # apart from each other, of many sizes
        y, x = 50 + 100 * (value // 4), 52 + 105 * (value % 4)
        radius = rng.integers(6, 45)
        truth.append((rows - y) ** 2 + (columns - x) ** 2 < radius**2)
        picture[truth[-1]] = value + 1, 1, 0

    def edit(mask):
        shift = rng.integers(-2, 3)
        if shift < 0:
            return ndimage.binary_erosion(mask, iterations=-shift, border_value=1)
        return ndimage.binary_dilation(mask, iterations=shift) if shift else mask

    out = TiledPredictor(Seer(edit), 128, 40)(picture)
    overlap = np.array([[(a & b).sum() / (a | b).sum() for b in truth] for a in out["masks"]])
    assert len(overlap) == 12 and sorted(overlap.argmax(1)) == list(range(12))
    assert overlap.max(1).min() > 0.5


TILES = [(0, 0, 100, 100), (0, 60, 100, 160)]  # they share the columns from 60 to 99


def rectangle(x0, x1, y0=20, y1=50, width=100):
    mask = np.zeros((100, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def joined(left, right):
    """Results of two tiles, each a list of (mask, label, score)."""
    results = [result_of(*(list(part) for part in zip(*one, strict=True))) for one in (left, right)]
    return join_tiles(results, TILES, (100, 160))


@pytest.mark.parametrize("scores", [(0.7, 0.8), (0.8, 0.7)])
def test_an_object_cut_by_the_seam_is_one(scores):
    out = joined([(rectangle(30, 100), 1, scores[0])], [(rectangle(0, 70), 1, scores[1])])
    assert out["boxes"].tolist() == [[30, 20, 130, 50]] and out["scores"] == np.float32([0.8])
    np.testing.assert_array_equal(decode(out["masks"][0]), rectangle(30, 130, width=160))


def test_an_object_that_both_tiles_show_whole_is_taken_once():
    out = joined([(rectangle(70, 90), 1, 0.7)], [(rectangle(9, 30), 1, 0.6)])
    np.testing.assert_array_equal(decode(out["masks"][0]), rectangle(70, 90, width=160))  # no union
    assert len(out["masks"]) == 1 and out["scores"] == np.float32([0.7])


def test_a_sliver_of_an_object_that_the_other_tile_shows_whole_is_dropped():
    """What the right tile sees of it is five columns, of which it gets little right."""
    out = joined([(rectangle(20, 65), 1, 0.7)], [(rectangle(0, 3, 30, 50), 1, 0.9)])
    np.testing.assert_array_equal(decode(out["masks"][0]), rectangle(20, 65, width=160))
    assert out["scores"] == np.float32([0.7])


@pytest.mark.parametrize(
    "right",
    [
        [(rectangle(0, 70), 2, 0.8)],  # another class
        [(rectangle(0, 70, 50, 80), 1, 0.8)],  # touches it
        [(rectangle(0, 70, 40, 80), 1, 0.8)],  # overlaps it a little: a fifth of what either says
    ],
)
def test_what_is_not_the_same_object_stays_two(right):
    out = joined([(rectangle(30, 100), 1, 0.7)], right)
    assert out["scores"].tolist() == np.float32([0.8, 0.7]).tolist() and len(out["masks"]) == 2
    np.testing.assert_array_equal(decode(out["masks"][1]), rectangle(30, 100, width=160))


def test_two_whole_objects_of_a_tile_stay_two_where_the_other_tile_took_them_for_one():
    """Cut off by the seam in the right tile, which has all of what it shows in common with the left one."""
    left = [(rectangle(60, 78), 1, 0.9), (rectangle(79, 95), 1, 0.8)]
    out = joined(left, [(rectangle(0, 35), 1, 0.7)])
    expected = [rectangle(60, 78, width=160), rectangle(79, 95, width=160)]
    np.testing.assert_array_equal([decode(mask) for mask in out["masks"]], expected)


def test_legs_that_one_tile_shows_apart_are_joined_by_the_other():
    left = [(rectangle(30, 100, 10, 30), 1, 0.9), (rectangle(30, 100, 60, 80), 1, 0.8)]
    horseshoe = rectangle(0, 70, 10, 80) & ~rectangle(0, 55, 30, 60)
    out = joined(left, [(horseshoe, 1, 0.7)])
    expected = rectangle(30, 130, 10, 80, 160) & ~rectangle(30, 115, 30, 60, 160)
    assert len(out["masks"]) == 1
    np.testing.assert_array_equal(decode(out["masks"][0]), expected)


def test_boxes_are_joined_where_there_are_no_masks():
    results = [result_of([rectangle(30, 100)]), result_of([rectangle(0, 70), rectangle(50, 90, 60, 90)])]
    for result in results:
        del result["masks"]
    out = join_tiles(results, TILES, (100, 160))
    assert sorted(out) == ["boxes", "labels", "scores"]
    assert sorted(out["boxes"].tolist()) == [[30, 20, 130, 50], [110, 60, 150, 90]]


def test_nothing_found_is_joined_to_nothing():
    empty = {
        "boxes": np.zeros((0, 4), np.float32),
        "scores": np.zeros(0, np.float32),
        "labels": np.zeros(0, int),
    }
    out = join_tiles([{**empty, "masks": []}] * 2, TILES, (100, 160))
    assert out["boxes"].shape == (0, 4) and out["masks"] == [] and out["labels"].dtype == np.int64


def test_the_order_within_a_tile_does_not_matter():
    picture, _ = scene(7)
    tiles = make_tiles(*picture.shape[:2], 128, 40)
    results = [p.result for p in Seer().stream((picture[t.y0 : t.y1, t.x0 : t.x1] for t in tiles), "rle")]
    expected = join_tiles(results, tiles, picture.shape[:2])
    rng = np.random.default_rng(0)
    shuffled = []
    for result in results:
        order = rng.permutation(len(result["labels"]))
        shuffled.append({k: [v[i] for i in order] if k == "masks" else v[order] for k, v in result.items()})
    out = join_tiles(shuffled, tiles, picture.shape[:2])
    assert sorted(m["counts"] for m in out["masks"]) == sorted(m["counts"] for m in expected["masks"])


@pytest.mark.slow
def test_many_objects_of_a_large_picture_take_little_memory():
    height, width = 4000, 6000
    tiles = make_tiles(height, width, 1024, 64)
    rows, columns = np.mgrid[:1024, :1024]
    masks = [
        (rows - y) ** 2 + (columns - x) ** 2 < r * r
        for y, x, r in [(500, 500, 480), (40, 300, 30), (900, 990, 60)]
    ]
    result = result_of(masks * 5)
    tracemalloc.start()
    out = join_tiles([result] * len(tiles), tiles, (height, width))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(out["masks"]) > 100 and peak < 50e6  # as bool [N, H, W] they would be gigabytes


# -- the predictor


@pytest.fixture(scope="module")
def predictor():
    categories = (Category(3, "cat"), Category(17, "dog"))
    config = model_config("jaxmaskrcnn/shapes", num_classes=2, categories=categories)
    return Predictor(Stub(config), 0.2)


def picture(seed, height=75, width=100):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_a_picture_of_one_tile_gives_what_it_gives_untiled(predictor):
    images = [picture(0), picture(1, 100, 30)]
    tiled = TiledPredictor(predictor, 100)
    for masks in ("bool", "rle"):
        for out, expected in zip(tiled(images, masks), predictor(images, masks), strict=True):
            assert_same(out, expected)
    assert tiled.categories == predictor.categories


def test_pictures_of_one_and_of_several_tiles_come_in_order(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    images = [
        picture(0),
        tmp_path / "broken.png",
        picture(1, 150, 210),
        picture(2, 40, 40),
        tmp_path / "no.png",
    ]
    errors = []
    tiled = TiledPredictor(predictor, 100, 10)
    found = list(tiled.stream(iter(images), on_error=lambda *error: errors.append(error)))
    assert [p.index for p in found] == [0, 2, 3] and [i for i, _ in errors] == [1, 4]
    assert "broken.png" in str(errors[0][1])
    assert [p.result["masks"].shape[1:] for p in found] == [(75, 100), (150, 210), (40, 40)]
    np.testing.assert_array_equal(found[1].pixels, images[2])
    assert_same(found[2].result, predictor(images[3]))
    with pytest.raises(UserError, match="broken.png"):
        tiled(images)


def test_mistakes_are_named(predictor):
    for options, said in (
        ((20,), "tile size is 20"),
        ((100, 51), "overlap is 51; give 6 to 50"),
        ((100, 5), "is 5"),
    ):
        with pytest.raises(UserError, match=said):
            TiledPredictor(predictor, *options)
    with pytest.raises(UserError, match="'probs'"):
        TiledPredictor(predictor, 100)(picture(0), masks="probs")


def test_windows_at_the_lower_border_are_one_run_where_columns_meet():
    whole = np.zeros((6, 5), bool)
    whole[:, 1:3] = True
    assert encode_window(whole[:, 1:3], (0, 1), (6, 5)) == encode(whole)
