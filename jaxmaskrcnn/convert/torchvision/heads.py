"""The heads of a torchvision model, whose arguments do not correspond to single fields of a configuration.

Each has a function for either direction, side by side. What is written leaves out what the constructor makes
by itself: two fully connected layers of 1024, and four convolutions of 256 channels for the masks.
"""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.config_table import Settings
from jaxmaskrcnn.convert.fields import get_field
from jaxmaskrcnn.convert.torchvision.rows import NORM

Call = dict[str, Any]
_FC_DIM = 1024
_MASK_DIM = 256


def read_box_head(settings: Settings, config: dict[str, Any]) -> None:
    """Fully connected layers alone, or convolutions before them."""
    values, name = settings.values, settings.values.get("box_head.type")
    config |= {"box_convs": 0, "box_fcs": 2, "box_fc_dim": _FC_DIM, "head_norm": "none"}
    if name == "TwoMLPHead":
        config["box_fc_dim"] = values.get("box_head.representation_size")
    elif name == "FastRCNNConvFCHead":
        convs, fcs = values.get("box_head.conv_layers"), values.get("box_head.fc_layers")
        config["box_convs"] = len(convs) if _equal_widths(settings, "box_head.conv_layers", convs) else 0
        config["box_fcs"] = len(fcs) if _equal_widths(settings, "box_head.fc_layers", fcs) else 0
        if config["box_convs"]:
            config["box_conv_dim"] = convs[0]
            _read_norm(settings, "box_head.norm_layer", config)
        config["box_fc_dim"] = fcs[0] if config["box_fcs"] else None
    elif name is not None:
        settings.refuse("box_head.type", name, "TwoMLPHead or FastRCNNConvFCHead")


def write_box_head(config: ModelConfig) -> Call:
    """The counterpart of `read_box_head`: the arguments ``box_head`` and ``box_predictor``."""
    convs, width = get_field(config, "box_convs"), get_field(config, "box_fc_dim")
    side, channels = get_field(config, "box_pool_size"), get_field(config, "fpn_channels")
    if convs:
        return {
            "box_head": {
                "type": "FastRCNNConvFCHead",
                "input_size": (channels, side, side),
                "conv_layers": (get_field(config, "box_conv_dim"),) * convs,
                "fc_layers": (width,) * get_field(config, "box_fcs"),
                "norm_layer": NORM.write(get_field(config, "head_norm")),
            }
        }
    if width == _FC_DIM:
        return {}
    inputs = channels * side * side
    return {"box_head": {"type": "TwoMLPHead", "in_channels": inputs, "representation_size": width}}


def read_mask_head(settings: Settings, config: dict[str, Any]) -> None:
    """The convolutions, and the channels between them and the masks."""
    values, name = settings.values, settings.values.get("mask_head.type")
    config |= {"mask_convs": 4, "mask_dim": _MASK_DIM}
    if name == "MaskRCNNHeads":
        layers = values.get("mask_head.layers")
        if layers != ():
            _equal_widths(settings, "mask_head.layers", layers)
        config["mask_convs"] = len(layers) if isinstance(layers, tuple) else None
        if config["mask_convs"]:
            config["mask_dim"] = layers[0]
            _read_norm(settings, "mask_head.norm_layer", config)
    elif name is not None:
        settings.refuse("mask_head.type", name, "MaskRCNNHeads")
    elif not config["box_convs"]:
        config["head_norm"] = "none"
    if (width := values.get("mask_predictor.dim_reduced")) is not None:
        if config["mask_convs"] and width != config["mask_dim"]:
            settings.refuse("mask_predictor.dim_reduced", width, f"the mask head's {config['mask_dim']}")
        config["mask_dim"] = width


def write_mask_head(config: ModelConfig) -> Call:
    """The counterpart of `read_mask_head`: the argument ``mask_head``."""
    convs, width = get_field(config, "mask_convs"), get_field(config, "mask_dim")
    norm = NORM.write(get_field(config, "head_norm"))
    if (convs, width, norm) == (4, _MASK_DIM, None):
        return {}
    return {
        "mask_head": {
            "type": "MaskRCNNHeads",
            "in_channels": get_field(config, "fpn_channels"),
            "layers": (width,) * convs,
            "dilation": 1,
            "norm_layer": norm,
        }
    }


def read_classes(settings: Settings) -> None:
    """Number of classes, which stands in the predictors where these are given."""
    values = settings.values
    counts = {
        values[key]
        for key in ("num_classes", "box_predictor.num_classes", "mask_predictor.num_classes")
        if values.get(key) is not None
    }
    if len(counts) > 1:
        settings.problem("num_classes", f"the numbers of classes are {', '.join(map(repr, counts))}")
    elif counts:
        values["num_classes"] = counts.pop()


def write_predictors(config: ModelConfig) -> Call:
    """The last layers where the constructor's own have another width; ``num_classes`` goes to them then."""
    classes, side = get_field(config, "num_classes") + 1, get_field(config, "box_pool_size")
    last = get_field(config, "box_fc_dim")
    if not get_field(config, "box_fcs"):
        last = get_field(config, "box_conv_dim") * side**2
    mask = get_field(config, "mask_head")
    inputs = get_field(config, "mask_dim" if get_field(config, "mask_convs") else "fpn_channels")
    usual = {_MASK_DIM} == {inputs, get_field(config, "mask_dim")} or not mask
    if usual and last == _FC_DIM:
        return {"num_classes": classes}
    call: Call = {"box_predictor": {"type": "FastRCNNPredictor", "in_channels": last, "num_classes": classes}}
    if mask:
        call["mask_predictor"] = {
            "type": "MaskRCNNPredictor",
            "in_channels": inputs,
            "dim_reduced": get_field(config, "mask_dim"),
            "num_classes": classes,
        }
    return call


def _equal_widths(settings: Settings, key: str, widths: Any) -> bool:
    """Whether there are layers; they have to be alike."""
    if widths == ():
        return False
    if not isinstance(widths, tuple) or len(set(widths)) != 1 or type(widths[0]) is not int or widths[0] < 1:
        settings.refuse(key, widths, "a tuple of equal widths")
        return False
    return True


def _read_norm(settings: Settings, key: str, config: dict[str, Any]) -> None:
    found = settings.values.get(key)
    if not NORM.reads(found):
        settings.refuse(key, found, NORM.text)
        return
    norm = NORM.read(found)
    if key.startswith("mask") and config["box_convs"] and norm != config["head_norm"]:
        settings.refuse(key, found, "the same as box_head.norm_layer")
    config["head_norm"] = norm
