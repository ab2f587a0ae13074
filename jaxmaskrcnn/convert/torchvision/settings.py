"""Convert between calls of torchvision's constructors and ModelConfig.

torchvision has no config files: settings that the weights do not determine are arguments of ``MaskRCNN``,
``FasterRCNN`` or ``KeypointRCNN``. Most arguments are rows of `rows.py`; those of the heads are in
`heads.py`. A call is read from its syntax tree and never run.
"""

import ast
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.anchors import read_anchors, sizes_and_ratios
from jaxmaskrcnn.convert.configs.python_text import Code, python_text
from jaxmaskrcnn.convert.torchvision import heads, rows
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import (
    Setting,
    Settings,
    configuration,
    flatten,
    levels,
    nest,
    write,
)
from jaxmaskrcnn.zoo.categories import PERSON
from jaxmaskrcnn.zoo.conventions import TORCHVISION, TORCHVISION_KEYPOINTS

USUAL = ModelConfig().replace(TORCHVISION)
_LARGEST = 100_000  # most characters of a call; those written here have about 2,000
_IMPORTS = """\
from functools import partial

from torch.nn import BatchNorm2d, GroupNorm
from torchvision.models import resnet18, resnet34, resnet50, resnet101, resnet152
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
"""
# Widths that the library requires, though they follow from others.
_UNUSED = (
    "rpn_head.in_channels", "rpn_head.num_anchors", "box_head.in_channels", "box_head.input_size",
    "box_predictor.type", "box_predictor.in_channels", "box_predictor.num_classes",
    "mask_head.in_channels", "mask_head.dilation", "mask_predictor.type", "mask_predictor.in_channels",
    "mask_predictor.num_classes", "backbone.backbone.weights", "keypoint_head.in_channels",
    "keypoint_predictor.type", "keypoint_predictor.in_channels",
)  # fmt: skip
_READ_IN_HEADS = (
    "box_head.type", "box_head.representation_size", "box_head.conv_layers", "box_head.fc_layers",
    "box_head.norm_layer", "mask_head.type", "mask_head.layers", "mask_head.norm_layer",
    "mask_predictor.dim_reduced", "keypoint_head.type", "keypoint_head.layers", "num_keypoints",
    "keypoint_predictor.num_keypoints",
)  # fmt: skip


def config_from_call(text: str, source: str, training: bool = True) -> ModelConfig:
    """Convert Python source that builds a torchvision model to a ModelConfig.

    Args:
        text: Imports, and one assignment ``model = MaskRCNN(...)``, ``FasterRCNN(...)`` or
            ``KeypointRCNN(...)``, as `call_of_config` writes them.
        source: Its name in errors.
        training: Whether to also reject unsupported arguments that only affect training.

    Raises:
        UserError: The text is anything else, or has unsupported arguments.

    Example:
        >>> config_from_call(call_of_config(USUAL), "the call").mask.convs
        4
    """
    settings = Settings(flatten(_arguments(text, source), source), "torchvision", source)
    config = _read(settings)
    known = {setting.key for setting in _table(True, True)} | {*_UNUSED, *_READ_IN_HEADS, *rows.ANCHORS}
    settings.unknown(known, [key for key in settings.values if key not in known])
    settings.finish(training)
    usual = PERSON if config["keypoints"] else USUAL.categories
    categories = usual if config["num_classes"] == len(usual) else ()
    return configuration(USUAL, {**config, "categories": categories})


def call_of_config(config: ModelConfig) -> str:
    """Write Python source that builds the same model in torchvision, without weights.

    Args:
        config: The configuration, with pixel mean and standard deviation in units of 0..1.
    """
    table = _table(config.mask, config.keypoints)
    values = write(table, config, USUAL)
    values |= dict(zip(rows.ANCHORS, sizes_and_ratios(config), strict=True))
    if config.backbone.depth < 50:  # blocks without groups
        values |= {"backbone.backbone.groups": 1, "backbone.backbone.width_per_group": 64}
    # The predictors' writer adds the number of classes.
    del values["num_classes"]
    for part, usual in rows.LEFT_OUT.items():
        own = {key: value for key, value in values.items() if key.startswith(f"{part}.")}
        if own == {f"{part}.{name}": value for name, value in usual.items()}:
            values = {key: value for key, value in values.items() if key not in own}
    defaults = {setting.key: setting.default for setting in table}
    values = {key: value for key, value in values.items() if not _same(value, defaults.get(key))}
    call = nest(values)
    if "rpn_head" in call:
        anchors = config.rpn.anchors.per_cell
        call["rpn_head"] |= {"in_channels": config.levels[0].channels, "num_anchors": anchors}
    call |= heads.write_predictors(config) | heads.write_box_head(config)
    if config.mask is not None:
        call |= heads.write_mask_head(config)
    if config.keypoints is not None:
        call |= heads.write_keypoint_head(config)
    first = {name: call[name] for name in ("type", "backbone", "num_classes") if name in call}
    call = first | call
    return f"{_IMPORTS}\n{python_text({'model': call}, calls=True)}"


def _table(mask: Any, keypoints: Any) -> tuple[Setting, ...]:
    """The rows of a model with or without these heads."""
    table = (*rows.SETTINGS, *rows.BACKBONE, *rows.RPN, *rows.BOX_POOL)
    return (*table, *rows.head_pools(mask, keypoints))


def _same(value: Any, default: Any) -> bool:
    return (tuple(value) if isinstance(value, list) else value) == default


def _read(settings: Settings) -> dict[str, Any]:
    for part, values in rows.LEFT_OUT.items():
        if not any(key.startswith(f"{part}.") for key in settings.values):
            settings.values |= {f"{part}.{name}": value for name, value in values.items()}
    heads.read_classes(settings)
    mask, keypoints = rows.MODELS[settings.values["type"]]
    config = settings.fields(_table(mask, keypoints))
    config |= read_anchors(settings, rows.ANCHORS, levels(USUAL, config), shared=False)
    heads.read_box_head(settings, config)
    if mask:
        heads.read_mask_head(settings, config)
    if keypoints:
        own = {path: x for path, x in TORCHVISION_KEYPOINTS.items() if path.startswith("keypoints.")}
        config = own | config
        heads.read_keypoint_head(settings, config)
    return config


def _arguments(text: str, source: str) -> dict[str, Any]:
    """Return the call's arguments by name, and the function's name as "type"; nested calls likewise."""
    example = "give imports and model = MaskRCNN(...)"
    if len(text) > _LARGEST:
        raise UserError(
            f"{source} has {len(text)} characters, more than a constructor call can have; {example}."
        )
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f"{source} is not valid Python; {example}.") from None
    statements = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    match statements:
        case [ast.Assign(targets=[ast.Name(id="model")], value=ast.Call() as call)]:
            value = _value(call, source)
            if isinstance(value, Mapping) and value["type"] in rows.MODELS:
                return dict(value)
    raise UserError(f"{source} is not a call of {' or '.join(rows.MODELS)}; {example}.")


def _value(node: ast.expr, source: str) -> Any:
    match node:
        case ast.Name(id=name):
            return Code(name)
        case ast.Call(func=ast.Name(id="partial")):
            return Code(ast.unparse(node))
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {"type": name} | {k.arg: _value(k.value, source) for k in keywords}
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise UserError(
            f"{source} has something other than plain values and calls with named arguments in line "
            f"{node.lineno}, but it is read here, not run; write the value out."
        ) from None
    return tuple(value) if isinstance(value, list) else value
