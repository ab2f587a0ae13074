"""Training against torchvision: the five losses, every gradient as a whole, and twenty steps of SGD.

What torchvision computed is in `goldens/torchvision_losses.npz` (see `record_torchvision_losses.py`): a
narrow Mask R-CNN with all 16 blocks of ResNet-50. The batch has two images with several objects and one
without any, and every image a crowd region, which torchvision's training leaves out. ``pytest -s`` prints
the largest errors; docs/parity.md has them.
"""

import json

import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import seeded_detector_weight, seeded_scene
from training_helpers import check, check_gradients, flat, gradient_function, twenty_steps

from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")
GOLDEN = np.load(GOLDENS / "torchvision_losses.npz")
STEPS = json.loads(str(GOLDEN["steps"]))
# What the recording script builds, in this library's words.
CONFIG = model_config(
    "torchvision/maskrcnn_resnet50_fpn",
    num_classes=3,
    **{
        "backbone.width": 4,
        "backbone.freeze_at": 0,
        "neck.channels": 16,
        "rpn.anchors.sizes": (16, 32, 64, 128, 256),
        "box.fc_dim": 32,
        "mask.convs": 2,
        "mask.dim": 16,
        "input.test_min_size": 224,
        "input.test_max_size": 288,
        "rpn.pre_nms_train": 70,
        "rpn.post_nms_train": 150,
        "rpn.batch_size": 64,
        "regions.batch_size": 160,
        "regions.positive_fraction": 0.25,
        "rpn.crowd": "drop",
        "regions.crowd": "drop",
    },
)
WEIGHTS = {
    name: seeded_detector_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
NAMES = [name for name in WEIGHTS if f"gradient/{name}" in GOLDEN]


def target_of(scene):
    """A scene's objects, and a crowd region as its second object."""
    height, width = scene["image"].shape[:2]
    crowd = np.zeros((1, height, width), bool)
    crowd[:, 2:90, 3:80] = True
    parts = {"boxes": np.float32([[3, 2, 80, 90]]), "labels": np.array([1]), "masks": crowd}
    joined = {k: np.concatenate([scene[k][:1], part, scene[k][1:]]) for k, part in parts.items()}
    place = min(1, len(scene["labels"]))
    return joined | {"crowd": np.arange(len(joined["labels"])) == place}


@pytest.fixture(scope="module")
def training():
    """The compiled gradient, the parameters and the batch."""
    scenes = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
    targets = [target_of(scene) for scene in scenes]
    assert [len(target["labels"]) for target in targets] == [6, 5, 1]
    batch = make_batch(CONFIG, [scene["image"] for scene in scenes], targets)
    return *gradient_function(from_state_dict(WEIGHTS, CONFIG, "torchvision")), batch


@pytest.mark.slow
def test_losses_and_gradients(training):
    run, params, batch = training
    gradient, losses = run(params, batch)
    assert set(losses) == set(LOSS_NAMES)
    for name, theirs in zip(LOSS_NAMES, GOLDEN["losses"], strict=True):
        check(name, abs(float(losses[name]) / theirs - 1), 1e-4)
    expected = {
        name: [*GOLDEN[f"gradient/{name}"].astype(np.float64).ravel(), float(GOLDEN[f"norm/{name}"])]
        for name in NAMES
    }
    weights = {name: WEIGHTS[name] for name in NAMES}
    table = LIBRARIES["torchvision"].table(CONFIG)
    check_gradients("torchvision", flat(gradient), expected, weights, table, whole=True)


@pytest.mark.slow
def test_twenty_steps(training):
    run, params, batch = training
    curve, moved = twenty_steps(run, params, batch, CONFIG, STEPS["rate"], STEPS["weight_decay"])
    check("20 steps, five losses", np.abs(curve / GOLDEN["curve"] - 1), 0.01)
    table = LIBRARIES["torchvision"].table(CONFIG)
    ours = [np.linalg.norm(moved[table.translate(name)[0]].astype(np.float64)) for name in NAMES]
    check("20 steps, way of each parameter", np.abs(ours / GOLDEN["moved"] - 1), 1e-3)
    assert curve[-1].sum() < 0.7 * curve[0].sum()
