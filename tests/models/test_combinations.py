"""Parts that make sense together are one configuration; those that do not are refused in one sentence.

Models are traced, for training and for detection, and not compiled: shapes show that the parts fit. What they
compute is compared in `parity/`. One of them also learns two pictures by heart.
"""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from jaxmaskrcnn.config import BoxStageConfig
from jaxmaskrcnn.config.values import ConfigError
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.training.step import init_state, jit_train_step
from jaxmaskrcnn.zoo.conventions import DETECTRON2
from jaxmaskrcnn.zoo.lookup import model_config

NARROW = {
    "backbone.width": 8, "backbone.norm": "frozen_bn", "neck.norm": "none", "neck.channels": 32,
    "box.fc_dim": 8, "mask.convs": 1, "mask.dim": 8, "rpn.post_nms_test": 10, "detections.per_image": 6,
    "input.test_min_size": 64, "input.test_max_size": 64,
}  # fmt: skip
CASCADE = {
    "box.class_agnostic": True,
    "box.stages": tuple(BoxStageConfig(foreground_iou=iou) for iou in (0.5, 0.6, 0.7)),
}
DEFORMABLE = {"backbone.depth": 50, "backbone.deformable_stages": (3, 4, 5)}
REGNET = {
    "backbone": "regnet", "backbone.norm": "frozen_bn", "backbone.w0": 8, "backbone.wa": 10.0,
    "backbone.wm": 2.0, "backbone.depth": 6, "backbone.group_width": 4,
}  # fmt: skip
KEYPOINTS = {"keypoints": "heatmap", "keypoints.convs": 1, "keypoints.dim": 8, "keypoints.points": ("a", "b")}
ONE_MAP = {
    "backbone.depth": 50, "neck": None, "input.pad_divisor": 1,
    "rpn.anchors.sizes": ((8.0, 16.0, 32.0),), "rpn.anchors.ratios": (0.5, 1.0, 2.0),
}  # fmt: skip
C4 = {
    **ONE_MAP, "backbone.outputs": (4,), "trunk": "res5", "box.pool.size": 7, "mask.pool.size": 7,
    "box.fcs": 0, "box.average": True, "mask.convs": 0,
}  # fmt: skip
# With a trunk, keypoints are found in the regions that the boxes' pool gives.
SHARED = {name: DETECTRON2[f"box.pool.{name}"] for name in ("aligned", "level_rule", "scale")}
POOL = {f"keypoints.pool.{name}": value for name, value in {"size": 7, "sampling_ratio": 2, **SHARED}.items()}
DC5 = {**ONE_MAP, "backbone.outputs": (5,), "backbone.dilated_c5": True}
SEMANTIC = {"semantic": "pyramid"}

POINT_REND = {"mask": "point_rend"}
SCORING = {"mask": "mask_scoring"}

TOGETHER = {
    "PointRend on a RegNet": POINT_REND | REGNET,
    "PointRend in a panoptic model with keypoints": POINT_REND | SEMANTIC | KEYPOINTS,
    "PointRend behind a cascade": POINT_REND | CASCADE,
    "masks with scores in a panoptic model with keypoints": SCORING | SEMANTIC | KEYPOINTS,
    "a cascade with keypoints and masks": CASCADE | KEYPOINTS,
    "a cascade with keypoints alone": CASCADE | KEYPOINTS | {"mask": None},
    "a cascade on a deformable RegNet": CASCADE | REGNET | {"backbone.deformable_stages": (4, 5)},
    "a cascade on DC5": CASCADE | DC5,
    "a C4 with a deformable stage": C4 | {"backbone.deformable_stages": (3, 4)},
    "keypoints on C4": C4 | KEYPOINTS | POOL,
    "keypoints on a deformable DC5": DC5 | KEYPOINTS | {"backbone.deformable_stages": (3, 4, 5)},
    "a panoptic cascade with deformable stages": SEMANTIC | CASCADE | DEFORMABLE,
    "a panoptic model with keypoints on a RegNet": SEMANTIC | KEYPOINTS | REGNET,
    "a federated cascade with sigmoid scores": CASCADE | {"box.scores": "sigmoid"},
}
REFUSED = {
    "a trunk with a pyramid": (
        {"trunk": "res5", "backbone.depth": 50, "box.average": True},
        "ModelConfig.trunk is 'res5', the last stage of a ResNet",
    ),
    "a trunk with pools of two sizes": (
        {**C4, "mask.pool.size": 14}, "with a trunk the heads share the regions",
    ),
    "several maps without a neck": (
        {"neck": None, "rpn.anchors.sizes": (8.0, 16.0, 32.0, 64.0)},
        "one region proposal network reads them all",
    ),
    "a dilated C5 under a pyramid": (
        {"backbone.depth": 50, "backbone.dilated_c5": True}, "leave out 4, whose map has the same stride",
    ),
    "deformable stages of basic blocks": (
        {"backbone.deformable_stages": (5,)}, "which is for blocks with one 3x3 convolution",
    ),
    "a deformable stage after a C4's last": (
        {**C4, "backbone.deformable_stages": (5,)}, "leave out the stages after it",
    ),
    "PointRend on C4": (
        {**{path: value for path, value in C4.items() if not path.startswith("mask")}, **POINT_REND},
        "point_rend",
    ),
    "masks with scores behind a cascade": ({**CASCADE, **SCORING}, "mask_scoring"),
    "panoptic segments without masks": ({**SEMANTIC, "mask": None}, "segments of things are made of masks"),
    "a semantic head on C4": ({**C4, **SEMANTIC}, "semantic"),
}  # fmt: skip


def config_of(changes):
    """A narrow model, without the settings of parts that it does not have or has others for."""
    absent = {
        path.split(".")[0]
        for path, value in changes.items()
        if value in (None, "regnet", "point_rend", "mask_scoring")
    }
    usual = {path: value for path, value in NARROW.items() if path.split(".")[0] not in absent}
    return model_config("jaxmaskrcnn/shapes", **usual | changes)


def batch_of(config):
    """Two images with an object each."""
    images = [np.zeros((64, 48, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)]
    target = {"boxes": [[4, 8, 40, 30]], "labels": [0], "masks": np.ones((1, 64, 48), bool)}
    if config.keypoints is not None:
        target["keypoints"] = np.ones((1, len(config.keypoints.points), 3), np.float32)
    targets = [target, {**target, "masks": np.ones((1, 48, 64), bool)}]
    if config.semantic is not None:
        for given, image in zip(targets, images, strict=True):
            given["semantic"] = np.zeros(image.shape[:2], np.uint8)
    if config.mask is None:
        for given in targets:
            del given["masks"]
    return make_batch(config, images, targets)


def traced(config):
    """The detections and the losses of two images, as shapes."""
    model, batch = abstract_model(config), batch_of(config)
    found = jax.eval_shape(lambda model: model.detect(batch), model)
    return found, jax.eval_shape(lambda model: model.losses(batch, jax.random.key(0)), model)


QUICK = ("a cascade with keypoints and masks",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TOGETHER]
)
def test_together(name):
    config = config_of(TOGETHER[name])
    found, losses = traced(config)
    assert found.boxes.shape == (2, 6, 4)
    assert (found.keypoint_logits is None) == (config.keypoints is None)
    assert (found.semantic_logits is None) == (config.semantic is None)
    assert (found.masks is None) == (config.mask is None)
    stages = len(config.box.stages)
    assert sum(name.startswith("loss_classifier") for name in losses) == stages
    named = {"mask": "loss_mask", "keypoints": "loss_keypoint", "semantic": "loss_semantic"}
    for part, name in named.items():
        assert any(loss.startswith(name) for loss in losses) == (config.get(part) is not None), losses.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message) as error:
        config_of(changes)
    assert str(error.value).count("; ") >= 1 and "\n" not in str(error.value)


@pytest.mark.slow  # programs of its own
def test_steps_of_training_and_a_detection():
    """PointRend on a RegNet: the loss of a batch falls, the mask head is trained, detections have masks."""
    small = {"mask.dim": 16, "mask.fc_dim": 32, "mask.point_dim": 32, "mask.train_points": 49}
    small |= {"mask.subdivisions": 3, "mask.subdivision_points": 100, "detections.score_threshold": 0.0}
    config = config_of(TOGETHER["PointRend on a RegNet"] | small)
    model, batch = MaskRCNN(config, rngs=nnx.Rngs(0)), batch_of(config)
    before = parameters(model)
    graphdef, optimizer, state = init_state(model, trainable(model), lambda params: optax.adam(3e-3))
    step = jit_train_step(graphdef, optimizer, optax.constant_schedule(3e-3))
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(0))
        assert metrics["finite"]
        losses.append({name: float(value) for name, value in metrics.items() if name.startswith("loss")})
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"], (losses[0], losses[-1])
    assert losses[-1]["loss_mask_point"] < losses[0]["loss_mask_point"]
    model = nnx.merge(graphdef, state["params"], state["rest"])
    after = parameters(model)
    unchanged = [path for path in after if np.array_equal(before[path], after[path])]
    assert not [path for path in unchanged if "mask" in path], unchanged
    found = nnx.jit(lambda model: model.detect(batch))(model)
    assert found.masks.shape == (2, 6, 56, 56) and bool(found.valid.any(1).all())
    masks = np.asarray(found.masks)[np.asarray(found.valid)]
    assert np.isfinite(masks).all() and 0 <= masks.min() and masks.max() <= 1
    # The one object of each image is found, where it is.
    best = np.asarray(found.boxes)[:, 0]
    assert np.abs(best[0] - [4, 8, 40, 30]).max() < 12, best


def parameters(model):
    """The trained arrays by path."""
    _, params, _ = nnx.split(model, trainable(model), ...)
    return {"/".join(map(str, path)): np.array(leaf[...]) for path, leaf in nnx.to_flat_state(params)}
