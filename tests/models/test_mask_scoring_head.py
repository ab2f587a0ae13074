"""Mask Scoring R-CNN's head: the order of detections, empty slots, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model
from flax import nnx

from jaxmaskrcnn.config import Classes, ConfigError, MaskScoringConfig, ModelConfig, PoolConfig
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.augmentation import AugmentedPredictor
from jaxmaskrcnn.models.heads.mask_scoring import MaskScoringHead
from jaxmaskrcnn.models.heads.region_head import Pooler
from jaxmaskrcnn.structures import Detections
from jaxmaskrcnn.zoo.lookup import list_models, model_config

CONFIG = MaskScoringConfig(
    pool=PoolConfig(size=4, sampling_ratio=1), convs=0, dim=8, iou_convs=1, iou_dim=8, iou_fcs=1, iou_fc_dim=8
)
NARROW = {
    "num_classes": 3, "categories": (), "backbone.depth": 18, "backbone.width": 8, "neck.channels": 8,
    "box.fc_dim": 8, "mask.convs": 1, "mask.dim": 8, "mask.iou_dim": 8, "mask.iou_fc_dim": 8,
}  # fmt: skip


def test_scores_order_and_empty_slots():
    """Detections are sorted by their new scores with all that belongs to them; empty slots stay last."""
    head = MaskScoringHead(CONFIG, 8, Classes(3, "last"), rngs=nnx.Rngs(0))
    head.iou.ious.kernel[...] = jnp.zeros((8, 3))
    head.iou.ious.bias[...] = jnp.array([0.9, 0.2, -0.1])  # of the three classes
    batch = make_batch(ModelConfig(num_classes=3), [np.zeros((64, 64, 3), np.uint8)])
    rng = np.random.default_rng(0)
    levels = [jnp.asarray(rng.normal(size=(1, 64 // s, 64 // s, 8)), jnp.float32) for s in (4, 8, 16, 32)]
    boxes = np.float32([[[0, 0, 40, 40], [8, 8, 60, 50], [4, 20, 30, 60], [9, 9, 30, 30], [0, 0, 0, 0]]])
    scores, labels = np.float32([[0.9, 0.8, 0.7, 0.6, 0]]), np.array([[2, 1, 0, 0, 0]])
    found = Detections(*map(jnp.asarray, (boxes, scores, labels)), None, jnp.array([[True] * 4 + [False]]))

    @jax.jit
    def predict(found):
        pooler = Pooler(batch, levels, (4, 8, 16, 32))
        return head.predict(pooler, found), super(MaskScoringHead, head).predict(pooler, found)["masks"]

    out, plain = predict(found)
    np.testing.assert_allclose(out["scores"], [[0.63, 0.54, 0.16, -0.09, 0]], rtol=1e-5)
    np.testing.assert_array_equal(out["labels"], [[0, 0, 1, 2, 0]])
    np.testing.assert_array_equal(out["boxes"], boxes[:, [2, 3, 1, 0, 4]])
    np.testing.assert_array_equal(out["valid"], [[True] * 4 + [False]])
    np.testing.assert_allclose(out["masks"], plain[:, [2, 3, 1, 0, 4]], atol=1e-6)


def test_published_models():
    names = [name for name in list_models() if "/ms-rcnn" in name]
    assert len(names) == 7
    for name in names:
        mask = model_config(name).mask
        assert (mask, mask.iou_convs, mask.iou_fc_dim) == (MaskScoringConfig(), 4, 1024)


def test_refused():
    for changes, said in (
        ({"pool.size": 7}, "pool.size is 7, but the IoU head halves"),
        ({"targets": "polygon"}, "is learned from the pixels of whole objects"),
    ):
        with pytest.raises(ConfigError, match=said):
            ModelConfig().replace({"mask": "mask_scoring", **{f"mask.{k}": v for k, v in changes.items()}})
    for library, said in (
        ("detectron2", "Detectron2 cannot express this model: its mask head is 'mask_scoring', which no"),
        ("torchvision", "torchvision cannot express this model"),
    ):
        start = model_config({"detectron2": "detectron2/mask_rcnn_R_50_FPN_3x"}.get(
            library, "torchvision/maskrcnn_resnet50_fpn"
        ))  # fmt: skip
        with pytest.raises(UserError, match=said):
            export_settings(start.replace({"mask": "mask_scoring"}), library)
    config = model_config("mmdet/ms-rcnn_r50-caffe_fpn_1x_coco", **{"mask.class_agnostic": True})
    with pytest.raises(UserError, match="the IoUs of class-agnostic masks"):
        export_settings(config, "mmdet")


def test_versions_of_a_picture_are_not_merged():
    model = random_model(model_config("mmdet/ms-rcnn_r50-caffe_fpn_1x_coco", **NARROW))
    with pytest.raises(UserError, match="does not merge the IoUs of masks"):
        AugmentedPredictor(model)
