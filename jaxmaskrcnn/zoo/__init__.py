"""The registry of known models: one module of data for each library.

``PRESETS`` holds the detectors and ``BACKBONES`` the ImageNet weights, by the names that
`jaxmaskrcnn.zoo.lookup` looks up. A row is a library's conventions and what the model differs in; what
several models differ in alike is a named variant. Training schedules are no part of it: the 1x and
3x models of Detectron2 are one architecture and differ in their weights alone.
"""

from jaxmaskrcnn.zoo import detectron2, mmdet, own, torchvision

PRESETS = torchvision.PRESETS | detectron2.PRESETS | mmdet.PRESETS | own.PRESETS
BACKBONES = torchvision.BACKBONES | detectron2.BACKBONES
