"""How ImageNet weights were trained, and in which settings a model differs from that."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig, ResNetConfig
from jaxmaskrcnn.config.paths import get_path


class Origin(NamedTuple):
    """Settings that ImageNet weights were trained with.

    Attributes:
        name: Name of the weights, for messages.
        stride_in_1x1: As ``backbone.stride_in_1x1``.
        channel_order: As ``input.channel_order``.
        std: Approximate divisor of pixels in 0..255.
        presets: Names of matching presets.
    """

    name: str
    stride_in_1x1: bool
    channel_order: str
    std: float
    presets: str


_MSRA = Origin(
    "Detectron2's MSRA weights", True, "bgr", 1.0, "detectron2/* or mmdet/mask-rcnn_r50-caffe_fpn_1x_coco"
)
_TORCH = Origin(
    "torchvision's weights", False, "rgb", 58.0, "torchvision/* or mmdet/mask-rcnn_r50_fpn_1x_coco"
)


def find_origin(
    config: ModelConfig, layout: str, attributes: Mapping[str, Any], outside: Collection[str]
) -> Origin | None:
    """Return how the weights were trained, or None if that cannot be inferred from the file.

    Args:
        config: The model's configuration.
        layout: Title of the library whose names the file has.
        attributes: The file's entries beside the arrays.
        outside: Names of the file's arrays that are not the backbone's.
    """
    if config.backbone.kind != "resnet":
        return None
    # MMDetection's "pytorch" and "caffe" detectors have the same names.
    if any("neck." in name for name in outside):
        return None
    # Detectron2's tool that converts torchvision weights to its names records that in the file.
    author = str(attributes.get("__author__", "")).lower()
    return _TORCH if layout == "torchvision" or "torchvision" in author else _MSRA


def differences(config: ModelConfig, origin: Origin | None, detector: bool) -> tuple[str, ...]:
    """List differences between a model and the training of its weights, one sentence each.

    Args:
        config: The model's configuration.
        origin: From `find_origin`.
        detector: Whether the weights are those of a detector.
    """
    warnings = []
    # A detector's epsilon is that of its own training, which cannot be inferred from its names.
    if get_path(config, "backbone.norm_epsilon") == 0 and not detector:
        warnings.append(
            "backbone.norm_epsilon is 0, as in torchvision's COCO_V1 detectors; "
            "ImageNet weights were trained with backbone.norm_epsilon=1e-5."
        )
    if origin is None:
        return tuple(warnings)
    found = []
    part = config.backbone
    if isinstance(part, ResNetConfig) and part.depth >= 50 and part.stride_in_1x1 != origin.stride_in_1x1:
        found.append(
            f"the stride in the {'1x1' if origin.stride_in_1x1 else '3x3'} convolution "
            f"(backbone.stride_in_1x1={origin.stride_in_1x1})"
        )
    if config.input.channel_order != origin.channel_order:
        found.append(f"{origin.channel_order.upper()} input (input.channel_order={origin.channel_order!r})")
    std = np.mean(config.input.pixel_std) / config.input.pixel_scale
    if not 0.5 < std / origin.std < 2:
        found.append(
            f"pixels of 0..255 divided by about {origin.std:g} "
            f"(input.pixel_scale={config.input.pixel_scale:.4g} and input.pixel_std="
            f"{config.input.pixel_std} divide by {std:.3g})"
        )
    if found:
        warnings.append(
            f"{origin.name} were trained with {', '.join(found)}, unlike this model; "
            f"the presets {origin.presets} fit them."
        )
    return tuple(warnings)
