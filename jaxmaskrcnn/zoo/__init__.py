"""The registry of known models: one module of data for each library.

``PRESETS`` holds the detectors and ``BACKBONES`` the ImageNet weights, by the names that
`jaxmaskrcnn.zoo.lookup` looks up. A row is a library's conventions and the settings in which the model
differs; differences that several models share are named variants. Training schedules are not included: the
1x and 3x models of Detectron2 have the same architecture and differ only in their weights.
"""

from jaxmaskrcnn.zoo import (
    detectron2,
    detectron2_vitdet,
    matterport,
    mmdet,
    mmdet_blocks,
    mmdet_c4,
    mmdet_cascade,
    mmdet_cityscapes,
    mmdet_deformable,
    mmdet_others,
    mmdet_seesaw,
    mmdet_vision,
    own,
    point_rend,
    torchvision,
)

# In the order in which models are listed.
_MODULES = (
    torchvision, detectron2, mmdet, mmdet_cascade, mmdet_c4, mmdet_deformable, mmdet_cityscapes, mmdet_others,
    mmdet_blocks, mmdet_seesaw, mmdet_vision, detectron2_vitdet, point_rend, matterport, own,
)  # fmt: skip
PRESETS = {name: preset for module in _MODULES for name, preset in module.PRESETS.items()}
BACKBONES = {name: row for module in _MODULES for name, row in getattr(module, "BACKBONES", {}).items()}
