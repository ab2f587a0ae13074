"""Parts, losses, predictions and a training step run in code bases that set JAX's strict modes."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import BoxStageConfig
from jaxmaskrcnn.models.new_models import abstract_model, init_model
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.step import init_state

SMALL = {
    "input.test_min_size": 64,
    "input.test_max_size": 64,
    "neck.channels": 8,
    "rpn.pre_nms_train": 40,
    "rpn.post_nms_train": 20,
    "rpn.post_nms_test": 20,
    "rpn.batch_size": 16,
    "regions.batch_size": 8,
    "box.fc_dim": 8,
    "mask.dim": 8,
    "mask.convs": 1,
    "detections.per_image": 5,
}
SHAPES = {**SMALL, "backbone.width": 8}


@contextlib.contextmanager
def strict():
    """No ranks and no dtypes are promoted."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def config_of(name="jaxmaskrcnn/shapes", **changes):
    return jmr.model_config(name, num_classes=3, **(changes or SHAPES))


def batch_of(config, pixels=False):
    image = np.full((64, 64, 3), 60, np.uint8)
    image[16:48, 8:56] = 200
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 16:48, 8:56] = True
    target = {"boxes": [[8, 16, 56, 48]], "labels": [2], "masks": masks,
              "polygons": [[[8, 16, 56, 16, 56, 48, 8, 48]]]}  # fmt: skip
    if config.keypoints is not None:
        target["keypoints"] = np.ones((1, len(config.keypoints.points), 3))
    if config.semantic is not None:
        target["semantic"] = np.zeros((64, 64), np.uint8)
    batch = jmr.make_batch(config, [image, image], [target, target])
    return batch._replace(images=np.zeros(batch.images.shape, np.uint8)) if pixels else batch


def check_traces(config):
    model = abstract_model(config)
    graphdef, params, rest = nnx.split(model, jmr.trainable(model), ...)

    def total(params, rest, batch, key):
        return sum(nnx.merge(graphdef, params, rest, copy=True).losses(batch, key).values())

    with strict():
        jax.eval_shape(jax.grad(total), params, rest, batch_of(config), jax.random.key(0))
        jax.eval_shape(lambda model, batch: model.detect(batch), model, batch_of(config, pixels=True))


def test_no_ranks_and_dtypes_are_promoted():
    check_traces(config_of())


MODELS = (
    "torchvision/maskrcnn_resnet50_fpn",
    "torchvision/maskrcnn_resnet50_fpn_v2",
    "torchvision/keypointrcnn_resnet50_fpn",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "detectron2/mask_rcnn_R_50_C4_3x",
    "detectron2/cascade_mask_rcnn_R_50_FPN_3x",
    "detectron2/pointrend_rcnn_R_50_FPN_1x_coco",
    "detectron2/panoptic_fpn_R_50_1x",
    "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "detectron2/MViTv2/mask_rcnn_mvitv2_t_3x",
    "detectron2/ViTDet/LVIS/mask_rcnn_vitdet_b_100ep",
    "mmdet/cascade-mask-rcnn_r50_fpn_1x_coco",
    "mmdet/ms-rcnn_r50-caffe_fpn_1x_coco",
    "mmdet/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco",
    "mmdet/mask-rcnn_r50_fpn_gn-all_2x_coco",
    "mmdet/mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco",
    "mmdet/mask-rcnn_swin-t-p4-w7_fpn_1x_coco",
    "mmdet/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco",
    "mmdet/mask-rcnn_x101-32x4d-syncbn_fpn_1x_coco",
    "mmdet/mask-rcnn_hrnetv2p-w18-1x_coco",
    "mmdet/mask-rcnn_r50_fpn-carafe_1x_coco",
    "mmdet/mask-rcnn_r50_fpn_groie_1x_coco",
    "mmdet/mask-rcnn_r50_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1",
    "matterport/mask_rcnn_coco",
)


@pytest.mark.slow  # half a minute: models of every family are traced
@pytest.mark.parametrize("name", MODELS)
def test_nor_in_any_family(name):
    check_traces(config_of(name, **{"input.test_min_size": 128, "input.test_max_size": 128}))


@pytest.mark.slow_except("strict")
@pytest.mark.parametrize("mode", ["strict", "transfer", "nans", "x64"])
def test_operators(mode):
    boxes = jax.device_put(np.array([[8, 16, 56, 48], [40, 16, 60, 48]], np.float32))
    scores, ids = jax.device_put(np.array([0.9, 0.8], np.float32)), jax.device_put(np.zeros(2, np.int32))
    features = jax.device_put(np.ones((16, 24, 4), np.float32))
    with MODES[mode]():
        keep = jax.jit(lambda b, s, i: jmr.ops.batched_nms(b, s, i, 0.5))(boxes, scores, ids)
        iou = jax.jit(jmr.ops.box_iou)(boxes, boxes)
        for ratio in (2, 0):
            pool = functools.partial(
                jmr.ops.roi_align, output_size=7, spatial_scale=0.25, sampling_ratio=ratio
            )
            slope = jax.jit(jax.grad(lambda f, b, pool=pool: pool(f, b).sum()))(features, boxes)
            assert np.isfinite(jax.device_get(slope)).all() and slope.dtype == jnp.float32
    assert jax.device_get(keep).tolist() == [True, True] and jax.device_get(iou)[0, 0] == 1


MODES = {
    "strict": strict,
    "transfer": lambda: jax.transfer_guard("disallow"),
    "nans": lambda: jax.debug_nans(True),
    "x64": lambda: jax.enable_x64(True),
}


def work(config):
    """Everything from a new model to a training step and a prediction."""
    model = init_model(config)
    graphdef, optimizer, state = init_state(
        model, jmr.trainable(model), lambda params: optax.sgd(0.02, momentum=0.9)
    )
    layout = Layout()
    with jax.transfer_guard_host_to_device("allow"):
        key = layout.replicate(jax.random.key(0))
    step = make_train_step(graphdef, optimizer, lambda step: 0.02, layout, batch_size=2, device_batch=1)
    state = layout.replicate(state)
    for _ in range(2):
        state, metrics = step(state, layout.place_batch(batch_of(config)), key)
    out = jmr.Predictor(model, score_threshold=0.0)(np.zeros((64, 64, 3), np.uint8))
    return {name: float(value) for name, value in jax.device_get(metrics).items()}, out


@pytest.fixture(scope="module")
def plain():
    """What `work` gives without any mode."""
    return work(config_of())


@pytest.mark.slow  # two steps and two predictions are compiled, and traced five times
@pytest.mark.parametrize("mode", list(MODES))
def test_a_step_and_a_prediction(mode, plain):
    expected, out = plain
    with MODES[mode]():
        found, again = work(config_of())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    if mode != "x64":
        np.testing.assert_array_equal(again["boxes"], out["boxes"])


@pytest.mark.slow  # two programs are compiled
def test_a_cascade_makes_no_nan():
    stages = (BoxStageConfig(foreground_iou=0.5), BoxStageConfig(foreground_iou=0.6))
    with jax.debug_nans(True):
        work(config_of(**SHAPES, **{"box.stages": stages, "box.class_agnostic": True}))
