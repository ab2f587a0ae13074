"""A Detectron2 yaml as a ModelConfig, and a ModelConfig as a Detectron2 yaml.

Most settings are rows of `rows.py`. Those that need more have a function for each direction here, side by
side: a ``_read_`` that checks and completes what was read, and a ``_write_`` that gives the settings.
"""

import os
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.anchors import read_anchors, sizes_and_ratios
from jaxmaskrcnn.convert.configs.yaml_config import read_yaml, read_yaml_text, yaml_text
from jaxmaskrcnn.convert.detectron2 import rows
from jaxmaskrcnn.convert.detectron2.bases import BASES
from jaxmaskrcnn.names.config_table import Settings, configuration, levels, nest, write
from jaxmaskrcnn.zoo.conventions import CITYSCAPES_8, COCO_80, DETECTRON2

USUAL = ModelConfig().replace(DETECTRON2)
# Known data sets by the beginning of their names, and a name to write.
_DATA_SETS = (
    ("coco_", COCO_80, "coco_2017_val"),
    ("cityscapes_fine_instance_seg", CITYSCAPES_8, "cityscapes_fine_instance_seg_val"),
)


def config_from_yaml(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """The configuration that a Detectron2 yaml describes.

    ``_BASE_`` is followed; what no file of the chain sets has Detectron2's default. The library's own
    bases ("Base-RCNN-FPN.yaml") are known, should they not be on this machine.

    Args:
        path: A ``.yaml`` file.
        training: Refuse also what changes training only.

    Returns:
        A ModelConfig. Its categories are named where the data sets are COCO's or Cityscapes'.

    Raises:
        UserError: The file or its base cannot be read, or it sets what cannot be reproduced here;
            lists all such settings.
    """
    path = os.fspath(path)
    return _config(read_yaml(path, BASES), path, training)


def config_from_yaml_text(text: str, source: str, training: bool = True) -> ModelConfig:
    """The configuration in the text of a yaml that builds on no other; as `config_from_yaml`.

    Args:
        text: The yaml.
        source: Names it in errors.
        training: Refuse also what changes training only.
    """
    return _config(read_yaml_text(text, source), source, training)


def yaml_of_config(config: ModelConfig) -> str:
    """A configuration as a Detectron2 yaml, of all settings that have a counterpart here.

    Args:
        config: Its pixel mean and standard deviation in units of 0..255.
    """
    table = (*rows.SETTINGS, *rows.RESNET, *rows.FPN, rows.BOX_NORM)
    if config.mask is not None:
        table += (*rows.MASK_SETTINGS, rows.MASK_NORM)
    flat = write(table, config, USUAL)
    for write_part in (
        _write_backbone,
        _write_rpn_convs,
        _write_anchors,
        _write_norm_decay,
        _write_categories,
    ):
        flat |= write_part(config)
    return yaml_text(nest(flat))


def _config(values: Mapping[str, Any], path: str, training: bool) -> ModelConfig:
    settings = Settings(dict(values), "Detectron2", path)
    config = _read(settings)
    keys = [key for key in settings.values if not key.startswith(rows.UNUSED_SECTIONS)]
    settings.unknown(
        rows.KNOWN, [key for key in keys if key not in rows.KNOWN and settings.values[key] != {}]
    )
    # Every FPN config and every whole config has this one.
    bare = "MODEL.BACKBONE.NAME" not in settings.values
    settings.finish(
        training, " (nothing sets MODEL.BACKBONE.NAME, and the defaults are a C4 detector's)" if bare else ""
    )
    return configuration(USUAL, {**config, "categories": _read_categories(settings, config)})


def _read(settings: Settings) -> dict[str, Any]:
    config = settings.fields((*rows.SETTINGS, *rows.RESNET, *rows.FPN))
    if config["mask"]:
        config |= settings.fields(rows.MASK_SETTINGS)
    _read_head_norms(settings, config)
    _read_backbone(settings, config)
    _read_rpn_convs(settings, config)
    _read_anchors(settings, config)
    _read_norm_decay(settings, config)
    return config


def _read_head_norms(settings: Settings, config: dict[str, Any]) -> None:
    for row, convs in ((rows.BOX_NORM, "box.convs"), (rows.MASK_NORM, "mask.convs")):
        config[row.field] = settings.get(row) if config.get(convs) else "none"


def _read_backbone(settings: Settings, config: dict[str, Any]) -> None:
    """The width of a group and the first stage's channels.

    ModelConfig has the width of a group in a network whose stem has 64 channels, and the first stage's
    channels are a choice in Detectron2 and a consequence here.
    """
    stem, depth = config["backbone.width"] or 64, config["backbone.depth"]
    width = settings.get(rows.WIDTH_PER_GROUP)
    if width is not None and width * 64 % stem:
        settings.refuse(
            rows.WIDTH_PER_GROUP.key,
            width,
            f"a width that times 64 is a multiple of MODEL.RESNETS.STEM_OUT_CHANNELS, {stem}",
        )
    elif width is not None:
        config["backbone.width_per_group"] = width * 64 // stem
    channels = stem if (depth or 50) < 50 else 4 * stem
    given = settings.values.get(rows.RES2_CHANNELS, 256)
    if given != channels:
        of_stem = "" if stem == 64 else f" and MODEL.RESNETS.STEM_OUT_CHANNELS {stem}"
        settings.refuse(rows.RES2_CHANNELS, given, f"{channels} with MODEL.RESNETS.DEPTH {depth}{of_stem}")


def _write_backbone(config: ModelConfig) -> dict[str, Any]:
    stem = config.backbone.width
    width = stem * config.backbone.width_per_group // 64
    return {rows.WIDTH_PER_GROUP.key: max(width, 1), rows.RES2_CHANNELS: config.backbone.levels[0].channels}


def _read_rpn_convs(settings: Settings, config: dict[str, Any]) -> None:
    """The number of convolutions; -1 is as many channels as the pyramid has."""
    given = settings.values.get(rows.RPN_CONVS, [-1])
    same = (-1, config["neck.channels"])
    if not isinstance(given, (list, tuple)) or not given or any(value not in same for value in given):
        settings.refuse(rows.RPN_CONVS, given, "a list of -1, one for each convolution")
    else:
        config["rpn.convs"] = len(given)


def _write_rpn_convs(config: ModelConfig) -> dict[str, Any]:
    return {rows.RPN_CONVS: [-1] * config.rpn.convs}


def _read_anchors(settings: Settings, config: dict[str, Any]) -> None:
    """Sizes and ratios; one list of them stands for all levels."""
    for key, default in rows.ANCHORS.items():
        settings.values.setdefault(key, default)
    config |= read_anchors(settings, tuple(rows.ANCHORS), levels(USUAL, config), shared=True)


def _write_anchors(config: ModelConfig) -> dict[str, Any]:
    sizes, ratios = ([list(group) for group in lists] for lists in sizes_and_ratios(config))
    ratios = ratios if any(group != ratios[0] for group in ratios) else ratios[:1]
    return dict(zip(rows.ANCHORS, (sizes, ratios), strict=True))


def _read_norm_decay(settings: Settings, config: dict[str, Any]) -> None:
    decay, of_norm = settings.get(rows.DECAY), settings.get(rows.NORM_DECAY)
    config["compute.weight_decay_exempts_norm"] = of_norm == 0
    if of_norm not in (0, decay, None):
        settings.refuse(rows.NORM_DECAY.key, of_norm, "0, or the same as SOLVER.WEIGHT_DECAY", training=True)


def _write_norm_decay(config: ModelConfig) -> dict[str, Any]:
    decay = rows.DECAY.default
    exempt = config.compute.weight_decay_exempts_norm
    return {rows.DECAY.key: decay, rows.NORM_DECAY.key: 0.0 if exempt else decay}


def _read_categories(settings: Settings, config: dict[str, Any]) -> tuple:
    """The categories of the data sets that are named, where they are known and their number fits."""
    names = [settings.values.get(f"DATASETS.{use}") for use in ("TEST", "TRAIN")]
    names = [name for name in names if isinstance(name, (list, tuple)) and name]
    first = str(names[0][0]) if names else ""
    for prefix, categories, _ in _DATA_SETS:
        if first.startswith(prefix) and len(categories) == config["num_classes"]:
            return categories
    return ()


def _write_categories(config: ModelConfig) -> dict[str, Any]:
    for _, categories, name in _DATA_SETS:
        if config.categories == categories:
            return {"DATASETS.TEST": [name]}
    return {}
