"""A detector with masks and keypoints against Detectron2's: head, detections, losses and gradients.

What Detectron2 computed is in `goldens/detectron2_keypoints.npz` (see `record_detectron2_keypoints.py`). Its
settings are read from its own yaml.
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import (
    seeded_keypoint_weight,
    seeded_keypoints,
    seeded_polygons,
    seeded_scene,
)
from parity.keypoint_golden import (
    POINTS,
    check_all_gradients,
    check_cells,
    check_decoding,
    check_found,
    check_head,
)
from training_helpers import check, flat, gradient_function

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.preprocess import eval_size, make_batch
from jaxmaskrcnn.data.transforms import Geometry

pytestmark = pytest.mark.usefixtures("highest_precision")
GOLDEN = np.load(GOLDENS / "detectron2_keypoints.npz")
READ = config_from_yaml_text(str(GOLDEN["yaml"]), "the yaml")
CONFIG = READ.replace({"keypoints.points": POINTS, "rpn.crowd": "drop", "regions.crowd": "drop"})
WEIGHTS = {
    name: seeded_keypoint_weight(name, tuple(shape), "detectron2")
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]


@pytest.fixture(scope="module")
def model():
    return from_state_dict(WEIGHTS, CONFIG, "detectron2")


def test_settings_of_the_yaml():
    part = READ.keypoints
    assert (part.convs, part.dim, len(part.points), part.offset) == (3, 24, 5, 0.5)
    assert READ.mask is not None and part.pool == READ.mask.pool and isinstance(part, KeypointConfig)


def test_decoding():
    check_decoding(GOLDEN, "softmax")


def test_cells_of_keypoints():
    check_cells(GOLDEN)


def test_head(model):
    check_head(GOLDEN, model.keypoint_head, 32)


@pytest.mark.parametrize("name, flip", [("targets", False), ("mirrored", True)])
def test_keypoints_follow_their_image(name, flip):
    for i, scene in enumerate(SCENES):
        size = scene["image"].shape[:2]
        points = seeded_keypoints(scene["boxes"], len(POINTS)).astype(np.float64)
        new = eval_size(CONFIG, *size)
        moved = Keypoints(points).transform(Geometry.resize(size, new, flip), CONFIG).clip(new)
        np.testing.assert_allclose(moved.points, GOLDEN[f"{name}/{i}"], atol=1e-3)


def batch_of():
    targets = [
        {
            "boxes": s["boxes"],
            "labels": np.zeros(len(s["boxes"]), int),
            "polygons": seeded_polygons(s["boxes"]),
            "keypoints": seeded_keypoints(s["boxes"], len(POINTS)),
        }
        for s in SCENES
    ]
    return make_batch(CONFIG, [s["image"] for s in SCENES], targets)


@pytest.mark.slow  # a minute of compilation
def test_losses_and_gradients(model):
    run, params = gradient_function(model)
    gradient, losses = run(params, batch_of())
    assert len(losses) == 6
    for name, ours in losses.items():
        check(name, abs(float(ours) / GOLDEN[f"losses/{name}"] - 1), 1e-4)
    table = LIBRARIES["detectron2"].table(CONFIG)
    check_all_gradients("detectron2", flat(gradient), GOLDEN, WEIGHTS, table)


@pytest.mark.slow  # as above
def test_loss_with_a_constant_count():
    config = CONFIG.replace({"keypoints.loss_count": "constant", "keypoints.loss_weight": 4.0})
    model = from_state_dict(WEIGHTS, config, "detectron2")
    losses = jax.jit(lambda model, batch: model.losses(batch))(model, batch_of())
    check("loss_keypoint", abs(float(losses["loss_keypoint"]) / GOLDEN["constant"] - 1), 1e-4)


@pytest.mark.slow  # as above
def test_detections(model):
    predictor = jmr.Predictor(model, CONFIG.detections.score_threshold)
    for i, scene in enumerate(SCENES):
        check_found(GOLDEN, i, predictor(scene["image"]))
