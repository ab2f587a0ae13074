"""Names of a ResNet's arrays in other libraries, and settings that arrays imply; see `names/layers.py`."""

import itertools
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig, ResNetConfig
from jaxmaskrcnn.config.backbones import GROUP_NORMS, STAGE_BLOCKS, BackboneConfig, DeformableStages
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.names.conversions import DETECTRON2_BN, FLAG, choice, whole
from jaxmaskrcnn.names.layers import KERAS_NORM, NORM, Shapes, count_layers, keras_layer
from jaxmaskrcnn.names.tables import CONV, Names, Row, Transform, Vocabulary, weight_and_bias

LIBRARIES = ("torchvision", "detectron2", "mmdet", "matterport")

# The name that occurs once in each file of only this backbone.
STEMS = {"torchvision": "conv1.weight", "detectron2": "stem.conv1.weight"}
_BODY = "backbone.body."
# Detectron2's builders of this backbone, and the neck that each adds.
DETECTRON2 = {"build_resnet_fpn_backbone": "fpn", "build_resnet_backbone": None}
# [C] and [C, 1, 1].
COLUMN = Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, 1, 1))
# Four flags, and the numbers of the stages whose flag is set.
STAGE_FLAGS = choice(
    {
        flags: tuple(number for number, flag in enumerate(flags, 2) if flag)
        for flags in itertools.product((False, True), repeat=4)
    },
    ["a list of four of True and False"],
)
_STAGES = (
    Setting("MODEL.RESNETS.RES5_DILATION", 1, choice({1: False, 2: True}), "backbone.dilated_c5"),
    Setting("MODEL.RESNETS.DEFORM_ON_PER_STAGE", (False,) * 4, STAGE_FLAGS, "backbone.deformable_stages"),
)
_DETECTRON2 = (
    Setting("MODEL.BACKBONE.FREEZE_AT", 2, whole(0, 5), "backbone.freeze_at"),
    Setting("MODEL.RESNETS.DEPTH", 50, choice({d: d for d in STAGE_BLOCKS}), "backbone.depth"),
    Setting("MODEL.RESNETS.NUM_GROUPS", 1, whole(1), "backbone.groups"),
    Setting("MODEL.RESNETS.STRIDE_IN_1X1", True, FLAG, "backbone.stride_in_1x1"),
    Setting(
        "MODEL.RESNETS.NORM",
        "FrozenBN",
        choice({"FrozenBN": "frozen_bn", "GN": "gn", **DETECTRON2_BN}),
        "backbone.norm",
    ),
    Setting("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, whole(1), "backbone.width"),
    *_STAGES,
)
# Only with a deformable stage.
_DEFORMABLE = (
    Setting("MODEL.RESNETS.DEFORM_MODULATED", False, FLAG, "backbone.deformable_masks"),
    Setting("MODEL.RESNETS.DEFORM_NUM_GROUPS", 1, whole(1), "backbone.deformable_groups"),
)
# Without a neck, proposals and regions come from one feature map.
_MAP = tuple(
    Setting(key, ("res4",), choice({(f"res{i}",): (i,) for i in range(2, 6)}), "backbone.outputs")
    for key in ("MODEL.RESNETS.OUT_FEATURES", "MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES")
)
_WIDTH_PER_GROUP = Setting("MODEL.RESNETS.WIDTH_PER_GROUP", 64, whole(1))
_RES2_CHANNELS = "MODEL.RESNETS.RES2_OUT_CHANNELS"
DETECTRON2_KEYS = (
    *(row.key for row in (*_DETECTRON2, *_DEFORMABLE, *_MAP, _WIDTH_PER_GROUP)),
    _RES2_CHANNELS,
)


def names(library: str, part: BackboneConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library.

    Args:
        library: "torchvision", "detectron2", "mmdet" or "matterport".
        part: The backbone, a ResNet or one with a ResNet's names.
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
    """
    if library == "matterport":
        return _matterport(source, target)
    block = "layer{stage}.{block}"
    if library == "detectron2":
        layers = ("stem.conv1", "stem.conv1.norm", "conv{k}", "conv{k}.norm", "shortcut", "shortcut.norm")
        block = "res{stage}.{block}"
        table = _names(source, target, block, layers, {"stage": _DETECTRON2_STAGES})
        offsets = _offsets(f"{source}{block}.conv2_offset", target)
        return table._replace(rows=[*table.rows, *offsets])
    table = _names(
        source, target, block, ("conv1", "bn1", "conv{k}", "bn{k}", "downsample.0", "downsample.1")
    )
    if library == "torchvision":
        return table
    # Group norm has different names. They come first, so that they are written where both rows match.
    alias = getattr(part, "norm", None) not in GROUP_NORMS
    group_norm = [
        Row(f"{source}gn1.{{norm}}", f"{target}bn1.{{norm}}", alias=alias),
        Row(f"{source}{block}.gn{{k}}.{{norm}}", f"{target}{block}.bn{{k}}.{{norm}}", alias=alias),
    ]
    # Files of 2019 and 2020 have the other name of the convolutions that compute offsets.
    offsets = [
        *_offsets(f"{source}{block}.conv2.conv_offset", target),
        *_offsets(f"{source}{block}.conv2_offset", target, alias=True),
    ]
    return table._replace(rows=[*group_norm, *table.rows, *offsets, *_context(f"{source}{block}", target)])


def _offsets(source: str, target: str, alias: bool = False) -> list[Row]:
    return weight_and_bias(source, f"{target}layer{{stage}}.{{block}}.conv2.offset", alias=alias)


def _context(source: str, target: str) -> list[Row]:
    """Return MMDetection's rows of global context blocks, whose layer norm has arrays of three axes."""
    source, target = f"{source}.context_block", f"{target}layer{{stage}}.{{block}}.context"
    return [
        *weight_and_bias(f"{source}.conv_mask", f"{target}.weigh"),
        *weight_and_bias(f"{source}.channel_add_conv.0", f"{target}.reduce"),
        Row(f"{source}.channel_add_conv.1.weight", f"{target}.norm.scale", COLUMN),
        Row(f"{source}.channel_add_conv.1.bias", f"{target}.norm.bias", COLUMN),
        *weight_and_bias(f"{source}.channel_add_conv.3", f"{target}.expand"),
    ]


def _matterport(source: str, target: str) -> Names:
    """Return the rows of Keras' first ResNet: blocks have letters, and so have their convolutions."""
    model, letters = f"{target}layer{{stage}}.{{block}}", "abcdefghijklmnopqrstuvw"
    conv, norm = "res{stage}{block}_branch", "bn{stage}{block}_branch"
    rows = [
        *keras_layer(f"{source}conv1", f"{target}conv1"),
        Row(f"{source}bn_conv1/{{norm}}", f"{target}bn1.{{norm}}"),
        *keras_layer(f"{source}{conv}2{{k}}", f"{model}.conv{{k}}"),
        Row(f"{source}{norm}2{{k}}/{{norm}}", f"{model}.bn{{k}}.{{norm}}"),
        *keras_layer(f"{source}{conv}1", f"{model}.downsample.conv"),
        Row(f"{source}{norm}1/{{norm}}", f"{model}.downsample.bn.{{norm}}"),
    ]
    blocks = {letter: str(i) for i, letter in enumerate(letters)}
    words = {"stage": _DETECTRON2_STAGES, "block": blocks, "k": {"a": "1", "b": "2", "c": "3"}}
    return Names(rows, {"norm": KERAS_NORM, **words})


_DETECTRON2_STAGES = {str(i + 1): str(i) for i in range(1, 5)}


def _names(
    source: str, target: str, block: str, layers: tuple[str, ...], words: Vocabulary | None = None
) -> Names:
    stem, stem_norm, conv, norm, shortcut, shortcut_norm = layers
    model, block = f"{target}layer{{stage}}.{{block}}", f"{source}{block}"
    rows = [
        Row(f"{source}{stem}.weight", f"{target}conv1.kernel", CONV),
        Row(f"{source}{stem_norm}.{{norm}}", f"{target}bn1.{{norm}}"),
        Row(f"{block}.{conv}.weight", f"{model}.conv{{k}}.kernel", CONV),
        Row(f"{block}.{norm}.{{norm}}", f"{model}.bn{{k}}.{{norm}}"),
        Row(f"{block}.{shortcut}.weight", f"{model}.downsample.conv.kernel", CONV),
        Row(f"{block}.{shortcut_norm}.{{norm}}", f"{model}.downsample.bn.{{norm}}"),
    ]
    return Names(rows, {"norm": NORM, **(words or {})})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no ResNet.

    Raises:
        UserError: The ResNet's numbers of blocks are not those of a known depth.
    """
    if shapes.get(f"{_BODY}conv1.kernel", ())[:1] != (7,):  # of a stem
        return None
    counts = tuple(count_layers(shapes, f"{_BODY}layer{i}.{{}}.conv1.kernel") for i in range(1, 5))
    counts = counts[: counts.index(0)] if 0 in counts else counts
    deep = f"{_BODY}layer1.0.conv3.kernel" in shapes
    depths = [
        depth
        for depth, blocks in STAGE_BLOCKS.items()
        if counts and blocks[: len(counts)] == counts and (depth >= 50) == deep
    ]
    if not depths:
        block = "bottleneck" if deep else "basic"
        raise UserError(
            f"{what} has a ResNet whose stages have {', '.join(map(str, counts))} {block} blocks; "
            f"give a ResNet of depth {', '.join(map(str, STAGE_BLOCKS))}."
        )
    width = shapes[f"{_BODY}conv1.kernel"][-1]
    found = {
        "backbone.depth": depths[0],
        "backbone.width": width,
        "backbone.norm": "bn" if f"{_BODY}bn1.mean" in shapes else "gn",
    }
    if f"{_BODY}conv1.bias" in shapes:
        found["backbone.conv_bias"] = True
    if len(counts) < 4:
        found["backbone.outputs"] = (len(counts) + 1,)
    if deep:
        kernel = shapes[f"{_BODY}layer1.0.conv2.kernel"]  # [3, 3, inner / groups, inner]
        groups = kernel[3] // kernel[2]
        found |= {
            "backbone.groups": groups,
            "backbone.width_per_group": kernel[3] * 64 // (width * groups),
        }
    reductions = {
        stage: shapes[path][2] // shapes[path][3]
        for stage in range(2, 6)
        if (path := f"{_BODY}layer{stage - 1}.0.context.reduce.kernel") in shapes
    }
    return found | read_deformable(shapes) | _context_structure(reductions)


def read_deformable(shapes: Shapes) -> dict[str, Any]:
    """Infer the settings of deformable convolutions from the arrays of a backbone with a ResNet's paths.

    A group of offsets has 18 channels in version 1 and 27 in version 2. Where both divide their number, it is
    version 2, as in all published models with several groups.
    """
    channels = {
        stage: shapes[path][-1]
        for stage in range(2, 6)
        if (path := f"{_BODY}layer{stage - 1}.0.conv2.offset.kernel") in shapes
    }
    return _deformable(channels)


def deformable_structure(part: DeformableStages) -> dict[str, Any]:
    """Return what `read_deformable` infers for a backbone of this configuration."""
    count = part.deformable_groups * (27 if part.deformable_masks else 18)
    return _deformable(dict.fromkeys(part.deformable_stages, count))


def _deformable(channels: dict[int, int]) -> dict[str, Any]:
    if not channels:
        return {}
    count = next(iter(channels.values()))
    masks = count % 27 == 0
    return {
        "backbone.deformable_stages": tuple(channels),
        "backbone.deformable_masks": masks,
        "backbone.deformable_groups": count // (27 if masks else 18),
    }


def _context_structure(reductions: Mapping[Any, int]) -> dict[str, Any]:
    """Return the settings of global context blocks, by the reductions of the stages that have them."""
    if not reductions:
        return {}
    return {
        "backbone.context_stages": tuple(reductions),
        "backbone.context_reduction": next(iter(reductions.values())),
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.backbone
    assert isinstance(part, ResNetConfig)
    found = {
        "backbone.depth": part.depth,
        "backbone.width": part.width,
        "backbone.norm": "gn" if part.norm in GROUP_NORMS else "bn",
    }
    if part.conv_bias:
        found["backbone.conv_bias"] = True
    if part.outputs[-1] < 5:
        found["backbone.outputs"] = part.outputs
    if part.depth >= 50:  # basic blocks have no inner width
        found |= {"backbone.groups": part.groups, "backbone.width_per_group": part.width_per_group}
    reductions = dict.fromkeys(part.context_stages, part.context_reduction)
    return found | deformable_structure(part) | _context_structure(reductions)


def describe(part: ResNetConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(ResNetConfig(depth=101, groups=32, width_per_group=8))
        'ResNeXt-101-32x8d of width 64'
    """
    groups, per_group = part.groups, part.width_per_group
    title = f"ResNeXt-{part.depth}-{groups}x{per_group}d" if groups > 1 else f"ResNet-{part.depth}"
    if groups == 1 and per_group != 64:
        title = f"wide {title}-{per_group // 64}"
    if part.dilated_c5:
        title = f"dilated {title}"
    if part.deformable_stages:
        title += " with deformable convolutions"
    if part.context_stages:
        title += " with context blocks"
    return f"{title} of width {part.width}"


def read_detectron2(settings: Settings, config: dict[str, Any]) -> None:
    """Read Detectron2's settings of a ResNet.

    In ModelConfig, a group's width is that of a network whose stem has 64 channels. The first stage's
    channels are a setting in Detectron2 and follow from the others here.
    """
    config |= settings.fields(_DETECTRON2)
    if config["backbone.deformable_stages"]:
        config |= settings.fields(_DEFORMABLE)
    if config["neck"] is False:
        # Images are padded to the largest in the batch and no further.
        config |= settings.fields(_MAP) | {"input.pad_divisor": 1}
    _refuse_stages(settings, config)
    stem, depth = config["backbone.width"] or 64, config["backbone.depth"]
    width = settings.get(_WIDTH_PER_GROUP)
    if width is not None and width * 64 % stem:
        settings.refuse(
            _WIDTH_PER_GROUP.key,
            width,
            f"a width for which 64 * width is a multiple of MODEL.RESNETS.STEM_OUT_CHANNELS, {stem}",
        )
    elif width is not None:
        config["backbone.width_per_group"] = width * 64 // stem
    channels = stem if (depth or 50) < 50 else 4 * stem
    given = settings.values.get(_RES2_CHANNELS, 256)
    if given != channels:
        of_stem = "" if stem == 64 else f" and MODEL.RESNETS.STEM_OUT_CHANNELS {stem}"
        settings.refuse(_RES2_CHANNELS, given, f"{channels} with MODEL.RESNETS.DEPTH {depth}{of_stem}")


def _refuse_stages(settings: Settings, config: dict[str, Any]) -> None:
    """Refuse dilated and deformable stages that Detectron2 does not build either, or that are no level."""
    shallow = config["backbone.depth"] in (18, 34)
    last = 5 if config["neck"] is not False else (config.get("backbone.outputs") or (5,))[-1]
    for row, field in zip(_STAGES, ("backbone.dilated_c5", "backbone.deformable_stages"), strict=True):
        if config[field] and shallow:
            settings.refuse(row.key, settings.given(row), "its default at a DEPTH below 50")
            config[field] = None
    dilation, deformable = _STAGES
    if config["backbone.dilated_c5"] and (config["neck"] is not False or last < 5):
        settings.refuse(dilation.key, 2, "1, or 2 if OUT_FEATURES are ['res5'] and there is no pyramid")
        config["backbone.dilated_c5"] = None
    if any(number > last for number in config["backbone.deformable_stages"] or ()):
        text = f"False for the stages after the last of OUT_FEATURES, res{last}"
        settings.refuse(deformable.key, settings.given(deformable), text)
        config["backbone.deformable_stages"] = None


def write_detectron2(config: ModelConfig, usual: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_detectron2`."""
    part = config.backbone
    assert isinstance(part, ResNetConfig)
    table = (*_DETECTRON2, *(_DEFORMABLE if part.deformable_stages else ()))
    values = write((*table, *(_MAP if config.neck is None else ())), config, usual)
    width = part.width * part.width_per_group // 64
    return {**values, _WIDTH_PER_GROUP.key: max(width, 1), _RES2_CHANNELS: part.stage(2).channels}
