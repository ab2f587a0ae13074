"""Keypoints of predictions: at the image's scale, in pictures, and in COCO's json."""

import json

import numpy as np
import pytest
from detectors import random_model, small_config
from PIL import Image

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data import write_figures
from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.figures import POINTS
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.results import coco_results
from jaxmaskrcnn.inference.augmentation import AugmentedPredictor
from jaxmaskrcnn.inference.outputs import Outputs, json_results
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.inference.tiles import TiledPredictor
from jaxmaskrcnn.ops.keypoints import decode_keypoints
from jaxmaskrcnn.structures import Category, Detections
from jaxmaskrcnn.visualize.drawing import draw_detections

HEAD = KeypointConfig(
    points=("head", "foot"), skeleton=((0, 1),), convs=1, dim=8, pool=small_config().mask.pool
)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return jmr.Predictor(random_model(small_config(keypoints=HEAD)), 0.0)


@pytest.mark.slow
def test_predictor_gives_keypoints_at_the_images_scale(predictor):
    out = predictor(IMAGE)
    count = len(out["boxes"])
    assert count and out["keypoints"].shape == (count, 2, 3) and out["keypoints"].dtype == np.float32
    assert out["masks"].shape == (count, 40, 60)
    # Each is inside of its box, up to the rounding of the boxes.
    low, high = out["boxes"][:, None, :2], out["boxes"][:, None, 2:]
    assert (out["keypoints"][..., :2] >= low - 0.01).all() and (
        out["keypoints"][..., :2] <= high + 0.01
    ).all()


def test_keypoints_of_the_network_are_scaled_by_each_axis():
    config = small_config(mask=None, keypoints=HEAD)
    rng = np.random.default_rng(1)
    found = Detections(
        boxes=np.float32([[10, 20, 40, 50], [0, 0, 0, 0]]), scores=np.float32([0.9, 0]),
        labels=np.zeros(2, int), masks=None, valid=np.array([True, False]),
        keypoint_logits=rng.normal(size=(2, 2, 8, 8)).astype(np.float32),
    )  # fmt: skip
    out = postprocess(found, (50, 100), (100, 50), config)
    own = decode_keypoints(found.keypoint_logits[:1], found.boxes[:1], "logit")
    np.testing.assert_allclose(out["keypoints"], own * [0.5, 2, 1], rtol=1e-6)


def test_results_and_jsons_subtract_the_offset(tmp_path):
    points = np.float32([[[10.5, 4.5, 0.25], [20.5, 30.5, 0.75]]])
    out = {
        "boxes": np.float32([[5, 2, 30, 34]]), "scores": np.float32([0.8]), "labels": np.array([1]),
        "keypoints": points,
    }  # fmt: skip
    config = KeypointConfig(points=HEAD.points, skeleton=HEAD.skeleton, offset=0.5)
    result = coco_results(out, 7, config)[0]
    assert result["keypoints"] == [10, 4, 0.25, 20, 30, 0.75] and "keypoints" not in coco_results(out, 7)[0]
    categories = (Category(1, "person"),)
    outputs = Outputs(tmp_path, ("json", "png"), categories, keypoints=config)
    with json_results(outputs, categories) as results:
        entry = outputs.write(IMAGE, out, tmp_path / "a.png", "a")
        results.add({"file_name": "a.png", **entry}, out)
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["categories"] == [
        {"id": 1, "name": "person", "keypoints": ["head", "foot"], "skeleton": [[1, 2]]}
    ]
    entry = content["annotations"][0]
    assert entry["keypoints"] == [10, 4, 2, 20, 30, 2] and entry["num_keypoints"] == 2
    assert entry["keypoint_scores"] == [0.25, 0.75]
    # It is read back as annotations.
    path = tmp_path / "predictions.json"
    read = parse_annotations(load_json(path), path, None, Problems("stop"), masks=False, keypoints=True)
    assert read.skeleton.points == HEAD.points and json.loads(read.images[0].objects[0].keypoints)[2] == 2
    assert (tmp_path / "a.png").is_file()


def test_drawing_has_dots_and_lines():
    grey = np.full((640, 640, 3), 128, np.uint8)
    out = {
        "boxes": [[10, 10, 630, 630]], "labels": [1],
        "keypoints": [[[100, 100, 1], [500, 100, 1], [300, 500, 0.01]]],
    }  # fmt: skip
    lines = ((0, 1), (1, 2))
    drawn = np.asarray(draw_detections(grey, out, {1: ""}, skeleton=lines, colours=[(0, 200, 0)]))
    without = np.asarray(draw_detections(grey, {**out, "keypoints": None}, {1: ""}, colours=[(0, 200, 0)]))
    changed = (drawn != without).any(-1)
    assert changed[95:106, 95:106].any() and changed[97:104, 100:500].any(0).all()
    assert not changed[120:].any()  # a keypoint below the threshold has neither a dot nor a line
    assert tuple(drawn[100, 300]) == (0, 200, 0)


def test_what_is_not_supported_is_refused(predictor):
    model = random_model(small_config(keypoints=HEAD))
    with pytest.raises(UserError, match="does not merge keypoints"):
        AugmentedPredictor(model)
    with pytest.raises(UserError, match="Joined tiles have no keypoints"):
        TiledPredictor(predictor, 64)


@pytest.mark.slow
def test_an_image_on_another_canvas_has_the_same_keypoints(predictor):
    """Alone, and beside a larger one in the same batch."""
    model = random_model(small_config(keypoints=HEAD))
    large = np.asarray(Image.fromarray(IMAGE).resize((64, 64)))
    both = jmr.Predictor(model, 0.0, max_batch=2)([IMAGE, large])
    np.testing.assert_allclose(both[0]["keypoints"], predictor(IMAGE)["keypoints"], rtol=1e-4, atol=1e-3)


@pytest.mark.slow  # a program of its own
def test_evaluate_scores_keypoints(tmp_path, capsys):
    config = small_config(
        keypoints=KeypointConfig(points=POINTS, convs=1, dim=8, pool=HEAD.pool), num_classes=1
    )
    jmr.save_model(random_model(config), tmp_path / "model")
    annotations, images = write_figures(tmp_path, 2, 64, seed=0)
    arguments = ["--checkpoint", tmp_path / "model", "--annotations", annotations, "--images", images]
    assert command(["evaluate", *map(str, arguments), "--output", str(tmp_path / "out")]) == 0
    assert "Keypoints (OKS)" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 0 <= metrics["keypoint_AP"] <= 1
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert all(len(entry["keypoints"]) == 3 * len(POINTS) for entry in found)
