"""Detectron2's deformable convolutions without its compiled operators, by torchvision's.

An empty module stands in for the compiled one, without which Detectron2 hides the layers. On a CPU Detectron2
itself calls torchvision's `deform_conv2d`, but for one group of offsets only and without its gradient. Both
have the same order of offsets. To be imported before anything else of Detectron2.
"""

import importlib
import sys
import types

from torchvision.ops import deform_conv2d

sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
LAYERS = importlib.import_module("detectron2.layers.deform_conv")


def convolve(x, offset, weight, stride, padding, dilation, groups, offset_groups):
    assert offset.shape[1] == 2 * offset_groups * weight.shape[2] * weight.shape[3]
    assert x.shape[1] == groups * weight.shape[1]
    return deform_conv2d(x, offset, weight, None, stride, padding, dilation)


def convolve_modulated(x, offset, mask, weight, bias, stride, padding, dilation, groups, offset_groups):
    assert mask.shape[1] == offset_groups * weight.shape[2] * weight.shape[3]
    return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


LAYERS.deform_conv, LAYERS.modulated_deform_conv = convolve, convolve_modulated
