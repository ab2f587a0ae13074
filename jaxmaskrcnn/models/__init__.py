"""Flax NNX modules: parameters and layers. Geometry is in `jaxmaskrcnn.ops`."""

from jaxmaskrcnn.models.backbones.resnet import ResNet
from jaxmaskrcnn.models.features import Backbone, Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.heads.box import BoxHead
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.heads.region_head import Pooler, RegionHead
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.necks.fpn import FPN
from jaxmaskrcnn.models.norm import BatchNorm, FrozenBatchNorm, FrozenStat, GroupNorm
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
    "Pass",
    "Pooler",
    "RPNHead",
    "RegionHead",
    "ResNet",
    "trainable",
]
