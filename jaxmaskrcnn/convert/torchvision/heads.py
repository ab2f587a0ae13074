"""The heads of a torchvision model, whose arguments do not correspond to single settings of a configuration.

Each head has a pair of functions, one for each direction. Written calls leave out the constructor's defaults:
two fully connected layers with 1024 features, four convolutions with 256 channels for the masks, and eight
with 512 channels for the keypoints.
"""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.keypoints import COCO_POINTS, point_names
from jaxmaskrcnn.convert.torchvision.rows import NORM
from jaxmaskrcnn.names.config_table import Settings

Call = dict[str, Any]
_FC_DIM = 1024
_MASK_DIM = 256
_KEYPOINT_CONVS, _KEYPOINT_DIM = 8, 512


def read_box_head(settings: Settings, config: dict[str, Any]) -> None:
    """Read a box head of fully connected layers, with or without convolutions before them."""
    values, name = settings.values, settings.values.get("box_head.type")
    config |= {"box.convs": 0, "box.fcs": 2, "box.fc_dim": _FC_DIM, "box.norm": "none"}
    if name == "TwoMLPHead":
        config["box.fc_dim"] = values.get("box_head.representation_size")
    elif name == "FastRCNNConvFCHead":
        convs, fcs = values.get("box_head.conv_layers"), values.get("box_head.fc_layers")
        config["box.convs"] = len(convs) if _equal_widths(settings, "box_head.conv_layers", convs) else 0
        config["box.fcs"] = len(fcs) if _equal_widths(settings, "box_head.fc_layers", fcs) else 0
        if config["box.convs"]:
            config["box.conv_dim"] = convs[0]
            _read_norm(settings, "box_head.norm_layer", config, "box.norm")
        config["box.fc_dim"] = fcs[0] if config["box.fcs"] else None
    elif name is not None:
        settings.refuse("box_head.type", name, "TwoMLPHead or FastRCNNConvFCHead")


def write_box_head(config: ModelConfig) -> Call:
    """The counterpart of `read_box_head`: the arguments ``box_head`` and ``box_predictor``."""
    convs, width = config.box.convs, config.box.fc_dim
    side, channels = config.box.pool.size, config.neck.channels
    if convs:
        return {
            "box_head": {
                "type": "FastRCNNConvFCHead",
                "input_size": (channels, side, side),
                "conv_layers": (config.box.conv_dim,) * convs,
                "fc_layers": (width,) * config.box.fcs,
                "norm_layer": NORM.write(config.box.norm),
            }
        }
    if width == _FC_DIM:
        return {}
    inputs = channels * side * side
    return {"box_head": {"type": "TwoMLPHead", "in_channels": inputs, "representation_size": width}}


def read_mask_head(settings: Settings, config: dict[str, Any]) -> None:
    """Read the convolutions, and the channels between them and the masks."""
    values, name = settings.values, settings.values.get("mask_head.type")
    config |= {"mask.convs": 4, "mask.dim": _MASK_DIM, "mask.norm": "none"}
    if name == "MaskRCNNHeads":
        layers = values.get("mask_head.layers")
        if layers != ():
            _equal_widths(settings, "mask_head.layers", layers)
        config["mask.convs"] = len(layers) if isinstance(layers, tuple) else None
        if config["mask.convs"]:
            config["mask.dim"] = layers[0]
            _read_norm(settings, "mask_head.norm_layer", config, "mask.norm")
    elif name is not None:
        settings.refuse("mask_head.type", name, "MaskRCNNHeads")
    if (width := values.get("mask_predictor.dim_reduced")) is not None:
        if config["mask.convs"] and width != config["mask.dim"]:
            settings.refuse("mask_predictor.dim_reduced", width, f"the mask head's {config['mask.dim']}")
        config["mask.dim"] = width


def write_mask_head(config: ModelConfig) -> Call:
    """The counterpart of `read_mask_head`: the argument ``mask_head``."""
    convs, width = config.mask.convs, config.mask.dim
    norm = NORM.write(config.mask.norm)
    if (convs, width, norm) == (4, _MASK_DIM, None):
        return {}
    return {
        "mask_head": {
            "type": "MaskRCNNHeads",
            "in_channels": config.neck.channels,
            "layers": (width,) * convs,
            "dilation": 1,
            "norm_layer": norm,
        }
    }


def read_keypoint_head(settings: Settings, config: dict[str, Any]) -> None:
    """Read the convolutions and the number of keypoints."""
    values, name = settings.values, settings.values.get("keypoint_head.type")
    config |= {"keypoints.convs": _KEYPOINT_CONVS, "keypoints.dim": _KEYPOINT_DIM}
    if name == "KeypointRCNNHeads":
        layers = values.get("keypoint_head.layers")
        if _equal_widths(settings, "keypoint_head.layers", layers):
            config |= {"keypoints.convs": len(layers), "keypoints.dim": layers[0]}
        elif layers == ():
            settings.refuse("keypoint_head.layers", layers, "one or more equal widths")
    elif name is not None:
        settings.refuse("keypoint_head.type", name, "KeypointRCNNHeads")
    count = values.get("keypoint_predictor.num_keypoints", values.get("num_keypoints"))
    count = len(COCO_POINTS) if count is None else count
    if type(count) is not int or count < 1:
        settings.refuse("num_keypoints", count, "whole numbers of at least 1")
    else:
        config["keypoints.points"] = point_names(count)


def write_keypoint_head(config: ModelConfig) -> Call:
    """The counterpart of `read_keypoint_head`: the head, its predictor and the number of keypoints."""
    part = config.keypoints
    count = len(part.points)
    call: Call = {}
    if part.dim != _KEYPOINT_DIM:
        call["keypoint_predictor"] = {
            "type": "KeypointRCNNPredictor", "in_channels": part.dim, "num_keypoints": count
        }  # fmt: skip
    elif count != len(COCO_POINTS):
        call["num_keypoints"] = count
    if (part.convs, part.dim) != (_KEYPOINT_CONVS, _KEYPOINT_DIM):
        layers = (part.dim,) * part.convs
        call["keypoint_head"] = {
            "type": "KeypointRCNNHeads", "in_channels": config.neck.channels, "layers": layers
        }  # fmt: skip
    return call


def read_classes(settings: Settings) -> None:
    """Read the number of classes, which may be given in the predictors."""
    values = settings.values
    counts = {
        values[key]
        for key in ("num_classes", "box_predictor.num_classes", "mask_predictor.num_classes")
        if values.get(key) is not None
    }
    if len(counts) > 1:
        text = f"the numbers of classes are {', '.join(map(repr, counts))}; supported: the same everywhere"
        settings.problem("num_classes", text)
    elif counts:
        values["num_classes"] = counts.pop()


def write_predictors(config: ModelConfig) -> Call:
    """Write the last layers if the constructor's have another width; they then take ``num_classes``."""
    classes, side = config.num_classes + 1, config.box.pool.size
    last = config.box.fc_dim
    if not config.box.fcs:
        last = config.box.conv_dim * side**2
    mask = config.mask
    inputs = mask.dim if mask is not None and mask.convs else config.neck.channels
    usual = mask is None or {_MASK_DIM} == {inputs, mask.dim}
    if usual and last == _FC_DIM:
        return {"num_classes": classes}
    call: Call = {"box_predictor": {"type": "FastRCNNPredictor", "in_channels": last, "num_classes": classes}}
    if mask is not None:
        call["mask_predictor"] = {
            "type": "MaskRCNNPredictor",
            "in_channels": inputs,
            "dim_reduced": mask.dim,
            "num_classes": classes,
        }
    return call


def _equal_widths(settings: Settings, key: str, widths: Any) -> bool:
    """Whether there are layers, which must have equal widths."""
    if widths == ():
        return False
    if not isinstance(widths, tuple) or len(set(widths)) != 1 or type(widths[0]) is not int or widths[0] < 1:
        settings.refuse(key, widths, "a tuple of equal widths")
        return False
    return True


def _read_norm(settings: Settings, key: str, config: dict[str, Any], path: str) -> None:
    found = settings.values.get(key)
    if not NORM.reads(found):
        settings.refuse(key, found, NORM.text)
        return
    config[path] = NORM.read(found)
