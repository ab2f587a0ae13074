"""Training against Detectron2: the five losses, every gradient, and twenty steps of SGD.

What Detectron2 computed is in `goldens/detectron2_losses.npz` (see `record_detectron2_losses.py`). ``pytest
-s`` prints the largest errors; docs/parity.md has them.
"""

import json

import jax
import numpy as np
import pytest
from folders import GOLDENS
from goldens.seeded_weights import seeded_detectron2_weight, seeded_polygons, seeded_scene
from training_helpers import check, check_gradients, flat, gradient_function, twenty_steps

from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.losses import LOSS_NAMES
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.zoo.lookup import model_config

GOLDEN = np.load(GOLDENS / "detectron2_losses.npz")
STEPS = json.loads(str(GOLDEN["steps"]))

# What the recording script tells Detectron2, in this library's words.
CONFIG = model_config(
    "detectron2/mask_rcnn_R_50_FPN_3x",
    num_classes=3,
    **{
        "backbone.depth": 18,
        "backbone.freeze_at": 0,
        "neck.channels": 32,
        "neck.norm": "gn",
        "rpn.anchors.sizes": (10.0, 20.0, 40.0, 80.0, 160.0),
        "box.fc_dim": 32,
        "mask.convs": 2,
        "mask.dim": 32,
        "input.test_min_size": 158,
        "input.test_max_size": 200,
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
    name: seeded_detectron2_weight(name, tuple(shape))
    for name, shape in json.loads(str(GOLDEN["names"])).items()
}
NAMES = [k for k in WEIGHTS if f"objects/gradient/{k}" in GOLDEN]


@pytest.fixture(scope="module", autouse=True)
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


def target_of(scene, order=slice(None)):
    """A scene's objects, and a crowd region, which Detectron2's mapper leaves out."""
    polygons = seeded_polygons(scene["boxes"])
    count = len(polygons)
    return {
        "boxes": np.concatenate([scene["boxes"], [[1, 1, 100, 90]]])[order],
        "labels": np.append(scene["labels"], 1)[order],
        "polygons": np.array([*polygons, None], object)[order].tolist(),
        "crowd": np.append(np.zeros(count, bool), True)[order],
    }


@pytest.fixture(scope="module")
def training():
    """The compiled gradient, the parameters, and a batch for each case."""
    scenes = [seeded_scene(*scene) for scene in json.loads(str(GOLDEN["scenes"]))]
    images = [scene["image"] for scene in scenes]
    empty = seeded_scene(*images[1].shape[:2], [])
    reverse = slice(None, None, -1)
    cases = {
        "objects": [target_of(scene) for scene in scenes],
        "one_empty": [target_of(scenes[0]), target_of(empty)],
        "other order": [target_of(scene, reverse) for scene in scenes],
    }
    batches = {case: make_batch(CONFIG, images, targets, max_objects=6) for case, targets in cases.items()}
    return *gradient_function(from_state_dict(WEIGHTS, CONFIG, "detectron2")), batches


def test_targets_are_polygons(training):
    for batch in training[2].values():
        assert batch.targets.masks is None and batch.targets.crowd.any()


@pytest.mark.slow  # a minute of compilation; test_detectron2_c4.py has a quicker one
@pytest.mark.parametrize("case", ["objects", "one_empty", "other order"])
def test_losses_and_gradients(training, case):
    run, params, batches = training
    # Another length of the polygons' axis would be another program.
    slots = batches["objects"].targets.polygons.shape[2]
    assert batches[case].targets.polygons.shape[2] == slots
    gradient, losses = run(params, batches[case])
    expected = "objects" if case == "other order" else case
    assert set(losses) == set(LOSS_NAMES)
    for name, ours in losses.items():
        check(f"{case}, {name}", abs(float(ours) / GOLDEN[f"{expected}/{name}"] - 1), 1e-4)
    golden = {name: GOLDEN[f"{expected}/gradient/{name}"] for name in NAMES}
    weights = {name: WEIGHTS[name] for name in NAMES}
    check_gradients(case, flat(gradient), golden, weights, LIBRARIES["detectron2"].table(CONFIG))


@pytest.mark.slow
def test_twenty_steps(training):
    """With the stem and the first stage frozen, as Detectron2's recipes have them."""
    config = CONFIG.replace({"backbone.freeze_at": STEPS["freeze_at"]})
    model = from_state_dict(WEIGHTS, config, "detectron2")
    run, params = gradient_function(model, trainable(model))
    batch = training[2]["objects"]
    curve, moved = twenty_steps(run, params, batch, config, STEPS["rate"], STEPS["weight_decay"])
    check("20 steps, five losses", np.abs(curve / GOLDEN["curve"] - 1), 0.01)
    assert curve[-1].sum() < 0.7 * curve[0].sum()
    paths = [LIBRARIES["detectron2"].table(CONFIG).translate(name)[0] for name in NAMES]
    assert {path for path, way in zip(paths, GOLDEN["moved"], strict=True) if way} == moved.keys()
    ways = [
        abs(np.linalg.norm(moved[p].astype(np.float64)) / w - 1)
        for p, w in zip(paths, GOLDEN["moved"], strict=True)
        if w
    ]
    check("20 steps, way of each parameter", ways, 1e-3)
