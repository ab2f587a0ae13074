"""Keypoint R-CNN against torchvision's: functions, head, detections, losses and gradients.

What torchvision computed is in `goldens/torchvision_keypoints.npz` (see `record_torchvision_keypoints.py`).
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import seeded_keypoint_weight, seeded_keypoints, seeded_scene
from parity.keypoint_golden import (
    POINTS,
    check_all_gradients,
    check_cells,
    check_decoding,
    check_found,
    check_head,
)
from training_helpers import check, flat, gradient_function

from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")
GOLDEN = np.load(GOLDENS / "torchvision_keypoints.npz")
CONFIG = model_config(
    "torchvision/keypointrcnn_resnet50_fpn",
    **{
        "backbone.width": 4,
        "backbone.freeze_at": 0,
        "neck.channels": 16,
        "rpn.anchors.sizes": (16, 32, 64, 128, 256),
        "box.fc_dim": 32,
        "keypoints.points": POINTS,
        "keypoints.convs": 3,
        "keypoints.dim": 24,
        "input.test_min_size": 224,
        "input.test_max_size": 288,
        "rpn.pre_nms_train": 70,
        "rpn.post_nms_train": 150,
        "rpn.pre_nms_test": 60,
        "rpn.post_nms_test": 100,
        "rpn.batch_size": 64,
        "regions.batch_size": 160,
        "regions.positive_fraction": 0.25,
        "detections.per_image": 10,
    },
)
WEIGHTS = {
    name: seeded_keypoint_weight(name, tuple(shape), "torchvision")
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
SCENES = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]


@pytest.fixture(scope="module")
def model():
    return from_state_dict(WEIGHTS, CONFIG, "torchvision")


def test_decoding():
    check_decoding(GOLDEN, "logit")


def test_cells_of_keypoints():
    check_cells(GOLDEN)


def test_head(model):
    check_head(GOLDEN, model.keypoint_head, 16)


@pytest.mark.slow  # most of a minute of compilation
def test_losses_and_gradients(model):
    targets = [
        {
            "boxes": s["boxes"],
            "labels": np.zeros(len(s["boxes"]), int),
            "keypoints": seeded_keypoints(s["boxes"], len(POINTS)),
        }
        for s in SCENES
    ]
    batch = make_batch(CONFIG, [s["image"] for s in SCENES], targets)
    run, params = gradient_function(model)
    gradient, losses = run(params, batch)
    assert len(losses) == 5 and "loss_keypoint" in losses
    for name, ours in losses.items():
        check(name, abs(float(ours) / GOLDEN[f"losses/{name}"] - 1), 1e-4)
    table = LIBRARIES["torchvision"].table(CONFIG)
    check_all_gradients("torchvision", flat(gradient), GOLDEN, WEIGHTS, table)


@pytest.mark.slow  # as above
def test_detections(model):
    # torchvision infers the scale of a level from the canvas, which the three images share.
    batch = make_batch(CONFIG, [s["image"] for s in SCENES])
    found = jax.jit(lambda model, batch: model.detect(batch))(model, batch)
    outs = postprocess_batch(found, batch.image_sizes, batch.original_sizes, CONFIG)
    for i, out in enumerate(outs):
        check_found(GOLDEN, i, out)
