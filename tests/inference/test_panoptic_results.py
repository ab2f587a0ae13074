"""Panoptic results: at the image's scale, of chosen classes, in pictures, and scored by `evaluate`."""

import json

import numpy as np
import pytest
from detectors import random_model, small_config
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import SemanticConfig
from jaxmaskrcnn.data import write_landscapes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.evaluation.panoptic import match_stuff
from jaxmaskrcnn.inference.augmentation import AugmentedPredictor
from jaxmaskrcnn.inference.outputs import Outputs
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.inference.tiles import TiledPredictor
from jaxmaskrcnn.report.segments import read_quality
from jaxmaskrcnn.structures import Category, Detections
from jaxmaskrcnn.visualize.colours import ColourTracker
from jaxmaskrcnn.visualize.panoptic import draw_panoptic, thing_boxes

HEAD = SemanticConfig(
    dim=8, norm="none", stuff=("water", "field", "stones"), ids=(4, 5, 6), stuff_area=40, score_threshold=0.2
)
CATEGORIES = tuple(Category(i, name) for i, name in enumerate(("circle", "square", "triangle"), 1))
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def config(**changes):
    return small_config(semantic=HEAD, categories=CATEGORIES, **changes)


@pytest.fixture(scope="module")
def predictor():
    return jmr.Predictor(random_model(config()), 0.0)


def found_by_hand(things):
    """One detection over the left half of 32 x 64 pixels, of stuff 1 above and of things below."""
    logits = np.zeros((8, 16, 4), np.float32)
    channels = [3, 0, 1, 2] if things == "last" else [0, 1, 2, 3]
    logits[:4, :, channels[2]] = 5
    logits[4:, :, channels[0]] = 5
    return Detections(
        boxes=np.float32([[0, 0, 32, 32], [0, 0, 0, 0]]), scores=np.float32([0.9, 0]),
        labels=np.array([1, 0]), masks=np.ones((2, 28, 28), np.float32), valid=np.array([True, False]),
        semantic_logits=logits,
    )  # fmt: skip


@pytest.mark.parametrize("things", ["first", "last"])
def test_segments_by_hand(things):
    out = postprocess(found_by_hand(things), (32, 64), (16, 32), config(**{"semantic.things": things}))
    expected = np.zeros((16, 32), int)
    expected[:8, 16:] = 2
    expected[:, :16] = 1
    np.testing.assert_array_equal(out["panoptic"], expected)
    assert out["panoptic"].dtype == np.int32
    assert out["segments"] == [
        {"id": 1, "category": 2, "isthing": True, "score": pytest.approx(0.9), "area": 256},
        {"id": 2, "category": 5, "isthing": False, "score": None, "area": 128},
    ]
    json.dumps(out["segments"])


@pytest.mark.slow
def test_predictor_gives_segments_at_the_images_scale(predictor):
    out = predictor(IMAGE)
    assert out["panoptic"].shape == (40, 60) and out["masks"].shape[1:] == (40, 60)
    areas = np.bincount(out["panoptic"].ravel(), minlength=len(out["segments"]) + 1)
    assert [s["area"] for s in out["segments"]] == areas[1:].tolist() and len(out["segments"]) > 1
    for segment in out["segments"]:
        assert segment["category"] in ((1, 2, 3) if segment["isthing"] else (4, 5, 6))


@pytest.mark.slow  # a program of its own
def test_chosen_classes(predictor):
    """Segments of the others cover what is theirs, and are left out."""
    whole = predictor(IMAGE)
    kept = [s for s in whole["segments"] if s["category"] in (1, 5)]
    chosen = jmr.Predictor(random_model(config()), 0.0, classes=["circle", "field"])(IMAGE)
    assert chosen["segments"] == kept and set(chosen["labels"]) <= {1}
    numbers = [s["id"] for s in kept]
    np.testing.assert_array_equal(
        chosen["panoptic"], np.where(np.isin(whole["panoptic"], numbers), whole["panoptic"], 0)
    )


@pytest.mark.slow  # a program of its own
def test_an_image_on_another_canvas_has_the_same_segments(predictor):
    """Alone, and beside a larger one in the same batch."""
    large = np.asarray(Image.fromarray(IMAGE).resize((64, 64)))
    both = jmr.Predictor(random_model(config()), 0.0, max_batch=2)([IMAGE, large])
    assert (both[0]["panoptic"] == predictor(IMAGE)["panoptic"]).mean() > 0.999


def test_what_is_not_supported_is_refused(predictor):
    with pytest.raises(UserError, match="does not merge the classes of pixels"):
        AugmentedPredictor(random_model(config()))
    with pytest.raises(UserError, match="Joined tiles have no panoptic segmentation"):
        TiledPredictor(predictor, 64)


def drawn_scene():
    """Two regions of stuff, and a thing on each."""
    panoptic = np.zeros((64, 64), np.int32)
    panoptic[:20], panoptic[44:] = 1, 2
    panoptic[2:18, 8:24], panoptic[46:62, 8:24] = 3, 4
    kinds = ((5, False, None), (5, False, None), (1, True, 0.9), (1, True, 0.8))
    segments = [
        {"id": i, "category": c, "isthing": thing, "score": score, "area": 1}
        for i, (c, thing, score) in enumerate(kinds, 1)
    ]
    return {"panoptic": panoptic, "segments": segments}, np.full((64, 64, 3), 128, np.uint8)


NOTHING = {"boxes": np.zeros((0, 4)), "scores": [], "labels": [], "masks": []}


def test_drawing(tmp_path):
    """A class of stuff has one colour, and each thing its own."""
    out, grey = drawn_scene()
    segments = out["segments"]
    silent = {**out, "segments": [{**s, "score": None} for s in segments]}  # without labels
    drawn = np.asarray(draw_panoptic(grey, silent, {1: "", 5: ""}, long_side=64)).astype(int)
    assert (drawn[32] == 128).all(-1).mean() > 0.9  # what belongs to no segment
    np.testing.assert_allclose(drawn[10, 45], drawn[53, 45], atol=2)
    assert np.abs(drawn[10, 16] - drawn[54, 16]).max() > 20 and np.abs(drawn[10, 45] - 128).max() > 20
    outputs = Outputs(tmp_path, ("png",), CATEGORIES, stuff=(Category(5, "field"),))
    outputs.write(grey, out | NOTHING, tmp_path / "a.png", "a")
    written = np.asarray(Image.open(tmp_path / "a.png"))
    expected = draw_panoptic(grey, out, {1: "circle", 2: "square", 3: "triangle", 5: "field"})
    np.testing.assert_array_equal(written, expected)


def test_things_have_the_colours_of_their_classes_if_that_is_asked_for():
    out, grey = drawn_scene()
    silent = {**out, "segments": [{**s, "score": None} for s in out["segments"]]}
    drawn = np.asarray(draw_panoptic(grey, silent, {1: "", 5: ""}, colour_by="class", long_side=64)).astype(
        int
    )
    np.testing.assert_allclose(drawn[10, 16], drawn[54, 16], atol=2)
    with pytest.raises(UserError, match="colour_by is 'size'"):
        draw_panoptic(grey, out, colour_by="size")


def test_frames_of_videos_show_segments_whose_things_keep_their_colours(tmp_path):
    out, grey = drawn_scene()
    outputs = Outputs(tmp_path, ("png",), CATEGORIES, stuff=(Category(5, "field"),))
    tracker = ColourTracker()
    names = {1: "circle", 2: "square", 3: "triangle", 5: "field"}
    first = tracker(thing_boxes(out))
    frame, _ = outputs.write_frame(grey, out | NOTHING, "a", first)
    np.testing.assert_array_equal(frame, np.asarray(draw_panoptic(grey, out, names)))
    # The second thing comes first in the next frame.
    other = {**out, "segments": [out["segments"][i] for i in (0, 1, 3, 2)]}
    assert tracker(thing_boxes(other)) == first[::-1]
    frame, _ = outputs.write_frame(grey, other | NOTHING, "b", first[::-1])
    np.testing.assert_array_equal(
        frame, np.asarray(draw_panoptic(grey, other, names, thing_colours=first[::-1]))
    )
    # Without labels both frames have the same colours everywhere.
    silent = [{**x, "segments": [{**s, "score": None} for s in x["segments"]]} for x in (out, other)]
    plain = [
        draw_panoptic(grey, x, {1: "", 5: ""}, thing_colours=colours, long_side=64)
        for x, colours in zip(silent, (first, first[::-1]), strict=True)
    ]
    np.testing.assert_array_equal(*map(np.asarray, plain))


def test_stuff_is_matched_by_name_or_id():
    annotated = (Category(14, "field"), Category(15, "water"), Category(6, "rocks"))
    assert match_stuff(config(), annotated, "val.json") == (annotated[1], annotated[0], annotated[2])
    with pytest.raises(UserError, match="val.json lack the model's class of stuff 'stones' and have field"):
        match_stuff(config(), annotated[:2], "val.json")


@pytest.mark.slow  # a program of its own
def test_evaluate_scores_panoptic_quality(tmp_path, capsys):
    jmr.save_model(random_model(config()), tmp_path / "model")
    annotations, images = write_landscapes(tmp_path, 3, 64, seed=0)
    arguments = ["--checkpoint", tmp_path / "model", "--annotations", annotations, "--images", images]
    assert command(["evaluate", *map(str, arguments), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Panoptic (PQ)" in out and "\nstones " in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 0 <= metrics["PQ"] <= 1 and "detections.json, segments.json and its pictures are in" in out
    written = read_quality(tmp_path / "out" / "segments.json", GroundTruth(annotations), annotations)
    assert written.metrics["PQ"] == metrics["PQ"] and written.metrics["SQ_stuff"] == metrics["SQ_stuff"]
    assert 0 <= metrics["PQ"] <= 1 and metrics["per_class"]["water"].keys() == {"PQ", "SQ", "RQ"}
    assert metrics["per_class"]["circle"].keys() == {"box_AP", "mask_AP", "PQ", "SQ", "RQ"}
