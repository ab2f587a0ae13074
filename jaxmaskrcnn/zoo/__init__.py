"""The registry of known models: one module of data for each library.

``PRESETS`` holds the detectors and ``BACKBONES`` the ImageNet weights, by the names that
`jaxmaskrcnn.zoo.lookup` looks up. A row is a library's conventions and the settings in which the model
differs; differences that several models share are named variants. Training schedules are not included: the
1x and 3x models of Detectron2 have the same architecture and differ only in their weights.
"""

from jaxmaskrcnn.zoo import (
    detectron2,
    matterport,
    mmdet,
    mmdet_c4,
    mmdet_cascade,
    mmdet_cityscapes,
    mmdet_deformable,
    mmdet_others,
    own,
    point_rend,
    torchvision,
)

PRESETS = torchvision.PRESETS | detectron2.PRESETS | mmdet.PRESETS | mmdet_cascade.PRESETS
PRESETS |= mmdet_c4.PRESETS | mmdet_deformable.PRESETS | mmdet_cityscapes.PRESETS | mmdet_others.PRESETS
PRESETS |= point_rend.PRESETS | matterport.PRESETS | own.PRESETS
BACKBONES = torchvision.BACKBONES | detectron2.BACKBONES
