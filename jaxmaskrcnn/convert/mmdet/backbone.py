"""The backbone of an MMDetection model: its settings, read and written.

Source: the constructors of ``mmdet/models/backbones/resnet.py`` and ``resnext.py`` (version 3.3).
"""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.backbones import DeformableStages
from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.convert.mmdet import kinds
from jaxmaskrcnn.convert.mmdet.part import Flat, PartSettings
from jaxmaskrcnn.convert.mmdet.rows import KNOWN as ALL_KNOWN
from jaxmaskrcnn.convert.mmdet.rows import UNUSED
from jaxmaskrcnn.models.backbones.resnet_names import STAGE_FLAGS
from jaxmaskrcnn.models.names_files import classes_with_names, names_file
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice, number, whole

# Settings of every backbone.
BACKBONE = (
    Setting("backbone.frozen_stages", -1, choice({n: n + 1 for n in range(-1, 5)}), "backbone.freeze_at"),
    Setting("backbone.norm_cfg.eps", 1e-5, number(), "backbone.norm_epsilon"),
    fixed("backbone.in_channels", 3, 3),
    fixed("backbone.deep_stem", False, False),
    fixed("backbone.avg_down", False, False),
    fixed("backbone.conv_cfg", None, None),
)
# Of every backbone before a pyramid; without one, see `_read_outputs`.
_FOUR_STAGES = (
    fixed("backbone.num_stages", 4, 4),
    fixed("backbone.dilations", (1, 1, 1, 1), (1, 1, 1, 1)),
    fixed("backbone.out_indices", (0, 1, 2, 3), (0, 1, 2, 3)),
)
_STRIDES = fixed("backbone.strides", (1, 2, 2, 2), (1, 2, 2, 2))
_COUNT = Setting("backbone.num_stages", 4, whole(1, 4))
_OUTPUT = Setting(
    "backbone.out_indices", (0, 1, 2, 3), choice({(i,): (i + 2,) for i in range(4)}), "backbone.outputs"
)
_PLUGINS = "backbone.plugins"
_NO_PLUGINS = fixed(_PLUGINS, None, None)
RESNET = (
    Setting("backbone.depth", MISSING, choice({d: d for d in (18, 34, 50, 101, 152)}), "backbone.depth"),
    Setting("backbone.style", "pytorch", choice({"pytorch": False, "caffe": True}), "backbone.stride_in_1x1"),
    Setting("backbone.base_channels", 64, whole(1), "backbone.width"),
)
# Only with deformable convolutions, whose settings are a dictionary.
_DEFORMABLE = (
    Setting("backbone.dcn.type", MISSING, choice({"DCN": False, "DCNv2": True}), "backbone.deformable_masks"),
    Setting("backbone.dcn.deform_groups", 1, whole(1), "backbone.deformable_groups"),
    fixed("backbone.dcn.fallback_on_stride", False, False),
    Setting("backbone.stage_with_dcn", (False,) * 4, STAGE_FLAGS, "backbone.deformable_stages"),
)
_DCN = "backbone.dcn"
_STEM = "backbone.stem_channels"
_GROUPS = Setting("backbone.groups", 1, whole(1))
_BASE_WIDTH = Setting("backbone.base_width", 4, whole(1))
_TABLE = (*BACKBONE, _NO_PLUGINS, *_FOUR_STAGES, _STRIDES, *RESNET, *_DEFORMABLE, _GROUPS, _BASE_WIDTH)
KNOWN = {*(setting.key for setting in _TABLE), "backbone.type", _DCN, _STEM}


def _read(settings: Settings, config: Flat) -> None:
    """Read a ResNet, a ResNeXt, or a backbone whose names file reads MMDetection's settings.

    In ModelConfig, a group's width is that of a network whose stem has 64 channels.
    """
    others = _backbones()
    name = settings.values.get("backbone.type")
    keys = getattr(names_file(others[name]), "MMDET_KEYS", None) if name in others else None
    if keys is not None:
        config["backbone"] = others[name].kind
        given = [key for key in settings.values if key.startswith("backbone.")]
        settings.unknown(keys, [key for key in given if key not in keys and not UNUSED.fullmatch(key)])
        names_file(others[name]).read_mmdet(settings, config)
        return
    own = KNOWN | ALL_KNOWN
    own |= set(names_file(others[name]).MMDET_OWN_KEYS) if name in others else set()
    foreign = _keys() - own
    settings.unknown(own, [key for key in settings.values if key in foreign])
    single = config["neck"] is False
    config |= settings.fields((*BACKBONE, *(() if single else _FOUR_STAGES)))
    _read_deformable(settings, config, name, others)
    if name in others:
        config |= {"backbone": others[name].kind} | settings.fields((_NO_PLUGINS,))
        names_file(others[name]).read_mmdet(settings, config)
        return
    _read_context(settings, config)
    config |= settings.fields((*(() if single else (_STRIDES,)), *RESNET))
    if single:
        _read_outputs(settings, config)
    width = config["backbone.width"] or 64
    stem = settings.values.get(_STEM)
    if stem not in (None, width):
        settings.refuse(_STEM, stem, f"None or {width}")
    if name not in ("ResNet", "ResNeXt"):
        settings.refuse("backbone.type", name, " or ".join(map(repr, ("ResNet", "ResNeXt", *others))))
    elif name == "ResNeXt":
        config["backbone.groups"] = settings.get(_GROUPS)
        group = settings.get(_BASE_WIDTH)
        # With one group a ResNeXt is a ResNet, whatever its width setting.
        if config["backbone.groups"] == 1:
            config["backbone.width_per_group"] = 64
        elif group is not None and group * 64 % width:
            text = f"a width for which 64 * width is a multiple of backbone.base_channels, {width}"
            settings.refuse(_BASE_WIDTH.key, group, text)
        elif group is not None:
            config["backbone.width_per_group"] = group * 64 // width


def _read_context(settings: Settings, config: Flat) -> None:
    """Read the only plugin that there is here, global context blocks at the end of a stage's blocks."""
    plugins = settings.values.get(_PLUGINS) or []
    try:
        for plugin in plugins:
            kind, reduction = plugin["cfg"]["type"], 1 / plugin["cfg"]["ratio"]
            names = {*plugin, *plugin["cfg"]}
            if kind != "ContextBlock" or plugin["position"] != "after_conv3" or len(plugins) > 1:
                raise ValueError
            if (
                names != {"cfg", "type", "ratio", "stages", "position"}
                or abs(round(reduction) - reduction) > 1e-6
            ):
                raise ValueError
            config["backbone.context_stages"] = STAGE_FLAGS.read(plugin["stages"])
            config["backbone.context_reduction"] = round(reduction)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        text = "None, or one 'ContextBlock' after_conv3 with four stages and a ratio of 1 over a whole number"
        settings.refuse(_PLUGINS, plugins, text)


def _write_context(config: ModelConfig) -> Flat:
    """The counterpart of `_read_context`."""
    stages = getattr(config.backbone, "context_stages", ())
    if not stages:
        return {}
    block = {"type": "ContextBlock", "ratio": 1 / config.backbone.context_reduction}
    return {_PLUGINS: [{"cfg": block, "stages": STAGE_FLAGS.write(stages), "position": "after_conv3"}]}


def _read_outputs(settings: Settings, config: Flat) -> None:
    """Read the only output of a ResNet without a pyramid, its last stage, and whether that is dilated."""
    count = settings.get(_COUNT)
    config |= settings.fields((_OUTPUT,))
    outputs = config["backbone.outputs"]
    if outputs is None or count is None:
        return
    if count != outputs[0] - 1:
        settings.refuse(_COUNT.key, count, f"{outputs[0] - 1}, with the last stage as output")
        return
    strides, dilations = (
        tuple(settings.values.get(f"backbone.{name}", default))[:count]
        if isinstance(settings.values.get(f"backbone.{name}", default), (list, tuple))
        else None
        for name, default in (("strides", (1, 2, 2, 2)), ("dilations", (1, 1, 1, 1)))
    )
    plain = ((1, 2, 2, 2)[:count], (1, 1, 1, 1)[:count])
    dilated = ((1, 2, 2, 1), (1, 1, 1, 2))
    config["backbone.dilated_c5"] = (strides, dilations) == dilated
    if (strides, dilations) not in (plain, dilated):
        text = f"strides {plain[0]} with dilations {plain[1]}"
        text += " or (1, 2, 2, 1) with (1, 1, 1, 2)" if count == 4 else ""
        settings.refuse("backbone.strides", settings.values.get("backbone.strides"), text)


def _write_outputs(config: ModelConfig) -> Flat:
    """The counterpart of `_read_outputs`."""
    if config.neck is not None:
        return {}
    number = config.backbone.outputs[-1]
    dilated = config.backbone.dilated_c5
    return {
        _COUNT.key: number - 1,
        "backbone.strides": ((1, 2, 2, 1) if dilated else (1, 2, 2, 2))[: number - 1],
        "backbone.dilations": ((1, 1, 1, 2) if dilated else (1, 1, 1, 1))[: number - 1],
        _OUTPUT.key: (number - 2,),
    }


def _read_deformable(settings: Settings, config: Flat, name: Any, others: dict[str, type]) -> None:
    """Read deformable convolutions, whose stages mean nothing without their type."""
    there = any(key.startswith(f"{_DCN}.") for key in settings.values)
    key = f"{_DCN}.type" if there else _DCN
    given = settings.values.get(key)
    possible = ["ResNet", "ResNeXt", *(n for n, part in others.items() if issubclass(part, DeformableStages))]
    if there and name in possible:
        config |= settings.fields(_DEFORMABLE)
    elif there or given not in (None, {}):
        text = " or ".join(map(repr, possible))
        settings.refuse(key, given, f"None, or 'DCN' or 'DCNv2' in a {text}")


def _write(config: ModelConfig) -> Flat:
    """The counterpart of `_read`."""
    file = names_file(config.backbone)
    if hasattr(file, "MMDET_KEYS"):
        name = next(name for name, part in _backbones().items() if part.kind == config.backbone.kind)
        return {"backbone.type": name, **file.write_mmdet(config)}
    deformable = getattr(config.backbone, "deformable_stages", ())
    common = write((*BACKBONE, *(_DEFORMABLE if deformable else ())), config, config)
    for name, part in _backbones().items():
        if part.kind == config.backbone.kind:
            return {"backbone.type": name, **common, **names_file(part).write_mmdet(config)}
    values = {**common, **write(RESNET, config, config), **_write_outputs(config), **_write_context(config)}
    groups = config.backbone.groups
    if groups == 1 or config.backbone.depth < 50:
        return {"backbone.type": "ResNet", **values}
    width = config.backbone.width * config.backbone.width_per_group // 64
    return {"backbone.type": "ResNeXt", **values, _GROUPS.key: groups, _BASE_WIDTH.key: max(width, 1)}


def _backbones() -> dict[str, type]:
    """Return the other backbones by MMDetection's types."""
    classes = classes_with_names("backbone")
    return {name: classes[kind] for name, kind in kinds.types("backbone").items()}


def _keys() -> set[str]:
    """Return the keys of all backbones' settings."""
    names = ("MMDET_KEYS", "MMDET_OWN_KEYS")
    return KNOWN.union(*(getattr(file, x, ()) for file in kinds.files("backbone").values() for x in names))


PART = PartSettings(
    _read,
    _write,
    _keys,
    (
        Extra(
            lambda c: bool(getattr(c.backbone, "context_stages", ())),
            "its backbone has global context blocks",
        ),
    ),
)
