"""Detectors of the libraries before Detectron2: Detectron (Caffe2) and maskrcnn-benchmark.

Their files have no settings that are read here, but the libraries' defaults differ little between models, so
the structure of the arrays is enough for those that were published.
"""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.zoo.categories import COCO_80
from jaxmaskrcnn.zoo.older_conventions import DETECTRON, MASKRCNN_BENCHMARK

_CONVENTIONS = {"Detectron": DETECTRON, "maskrcnn-benchmark": MASKRCNN_BENCHMARK}
_DIFFERENT = (
    "input.pixel_mean", "rpn.anchors.base", "rpn.anchors.offset", "box.pool.aligned", "box.pool.inclusive",
)  # fmt: skip

# Models without a pyramid: one list of anchors, and the last stage of the ResNet as a trunk. (Source: the
# libraries' defaults, which are those of R-50-C4.)
_C4 = {
    "input.pad_divisor": 1,
    "rpn.anchors.sizes": ((32.0, 64.0, 128.0, 256.0, 512.0),),
    "rpn.pre_nms_train": 12000,
    "rpn.pre_nms_test": 6000,
    "box.pool.size": 14,
    "box.average": True,
    "box.pool.sampling_ratio": 0,
    "mask.pool.sampling_ratio": 0,
}


def older_config(older: str, structure: Mapping[str, Any]) -> tuple[ModelConfig, str]:
    """Return the configuration of an older library's detector, and what was assumed in a sentence.

    Args:
        older: "Detectron" or "maskrcnn-benchmark".
        structure: What the arrays imply, by dotted path.

    Example:
        >>> structure = {"num_classes": 80, "backbone.depth": 101}
        >>> config, note = older_config("maskrcnn-benchmark", structure)
        >>> config.input.pixel_mean, config.rpn.anchors.base
        ((102.9801, 115.9465, 122.7717), 'stride')
    """
    settings: dict[str, Any] = {**_CONVENTIONS[older], **structure}
    if structure.get("trunk") is not None:
        settings |= _C4
    if structure.get("mask", "") is None:
        settings = {path: value for path, value in settings.items() if not path.startswith("mask.")}
    # The MSRA weights of have their stride in the 1x1 convolution, ResNeXts and networks with
    # group norm in the 3x3.
    first = structure.get("backbone.groups", 1) == 1 and structure.get("backbone.norm") != "gn"
    settings["backbone.stride_in_1x1"] = first
    if structure.get("backbone.norm") == "gn":
        settings["backbone.norm_epsilon"] = 1e-5
    elif structure.get("backbone.norm") == "bn":
        settings["backbone.norm"] = "frozen_bn"
    known = structure.get("num_classes") == len(COCO_80)
    settings |= {"categories": COCO_80 if known else (), "label_order": "id" if known else "list"}
    note = (
        f"The settings are the defaults of {older}, as its files have none that are read: pixels minus "
        f"{', '.join(map(str, settings['input.pixel_mean']))} (BGR), the stride in the "
        f"{'1x1' if first else '3x3'} convolution, its anchors and its regions (docs/conversion.md)."
    )
    return ModelConfig().replace(settings), note


def other_library_warning(older: str, config: ModelConfig, name: str) -> list[str]:
    """Say in which settings a given configuration differs from an older library's, in at most one sentence.

    Args:
        older: The library that the file comes from, or "".
        config: The configuration.
        name: Its origin.
    """
    if not older:
        return []
    own = ModelConfig().replace(_CONVENTIONS[older])
    found = [path for path in _DIFFERENT if config.get(path) != own.get(path)]
    if not found:
        return []
    texts = ", ".join(f"{path} {own.get(path)} (there {config.get(path)})" for path in found)
    return [
        f"The file is {older}'s, which has other settings than {name}: {texts}; leave model out for its own."
    ]
