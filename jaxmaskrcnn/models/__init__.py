"""Flax NNX modules: parameters and layers. Geometry is in `jaxmaskrcnn.ops`."""

from jaxmaskrcnn.models.box_head import BoxHead
from jaxmaskrcnn.models.fpn import FPN, Backbone
from jaxmaskrcnn.models.mask_head import MaskHead
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN, trainable
from jaxmaskrcnn.models.norm import BatchNorm, FrozenBatchNorm, FrozenStat, GroupNorm
from jaxmaskrcnn.models.resnet import ResNet
from jaxmaskrcnn.models.rpn import RPNHead

__all__ = [
    "FPN",
    "Backbone",
    "BatchNorm",
    "BoxHead",
    "FrozenBatchNorm",
    "FrozenStat",
    "GroupNorm",
    "MaskHead",
    "MaskRCNN",
    "RPNHead",
    "ResNet",
    "trainable",
]
