"""Convert between Detectron2's yaml and ModelConfig.

Most settings are rows of `rows.py`, and those of a backbone, a neck or a trunk are in its names file. The
others have a pair of functions here: a ``_read_`` that checks and completes what was read, and a
``_write_`` that returns the settings.
"""

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jaxmaskrcnn.config import BoxStageConfig, MaskConfig, ModelConfig
from jaxmaskrcnn.convert.configs.anchors import read_anchors, sizes_and_ratios
from jaxmaskrcnn.convert.configs.yaml_config import read_yaml, read_yaml_text, yaml_text
from jaxmaskrcnn.convert.detectron2 import rows
from jaxmaskrcnn.convert.detectron2.bases import BASES
from jaxmaskrcnn.models.names_files import classes_with_names, names_file
from jaxmaskrcnn.names.config_table import Setting, Settings, configuration, levels, nest, write
from jaxmaskrcnn.names.conversions import choice
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, LVIS_V05_1230, LVIS_V1_1203, PERSON, VOC_20
from jaxmaskrcnn.zoo.conventions import DETECTRON2, DETECTRON2_HEAD_OF_KEYPOINTS, DETECTRON2_SEMANTIC

USUAL = ModelConfig().replace(DETECTRON2)
_CASCADE = "CascadeROIHeads"
# Known data sets: the prefix of their names, their categories, and a name to write.
_DATA_SETS = (
    ("coco_", COCO_80, "coco_2017_val"),
    ("keypoints_coco_", PERSON, "keypoints_coco_2017_val"),
    ("cityscapes_fine_instance_seg", CITYSCAPES_8, "cityscapes_fine_instance_seg_val"),
    ("lvis_v1_", LVIS_V1_1203, "lvis_v1_val"),
    ("lvis_v0.5_", LVIS_V05_1230, "lvis_v0.5_val"),
    ("voc_", VOC_20, "voc_2007_test"),
)


def config_from_yaml(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """Convert a Detectron2 yaml to a ModelConfig.

    ``_BASE_`` is followed; settings missing from all files have Detectron2's defaults. The library's own
    bases ("Base-RCNN-FPN.yaml") are built in, in case they are not on this machine.

    Args:
        path: A ``.yaml`` file.
        training: Whether to also reject unsupported settings that only affect training.

    Returns:
        A ModelConfig. Its categories are set for COCO, Cityscapes and LVIS data sets.

    Raises:
        UserError: The file or its base cannot be read, or has unsupported settings; lists all of them.
    """
    path = os.fspath(path)
    return _config(read_yaml(path, BASES), path, training)


def config_from_yaml_text(text: str, source: str, training: bool = True) -> ModelConfig:
    """Convert the text of a Detectron2 yaml without bases to a ModelConfig; see `config_from_yaml`.

    Args:
        text: The yaml.
        source: Its name in errors.
        training: Whether to also reject unsupported settings that only affect training.
    """
    return _config(read_yaml_text(text, source), source, training)


def yaml_of_config(config: ModelConfig) -> str:
    """Write a configuration as a Detectron2 yaml with all settings that have a counterpart here.

    Args:
        config: The configuration, with pixel mean and standard deviation in units of 0..255.
    """
    table = (*rows.SETTINGS, rows.BOX_NORM)
    if isinstance(config.mask, MaskConfig):
        table += (*rows.MASK_SETTINGS, rows.MASK_NORM)
    if config.keypoints is not None:
        table += rows.KEYPOINT_SETTINGS
    if config.semantic is not None:
        table += rows.SEMANTIC_SETTINGS
    if config.box.federated is not None:
        table += rows.FEDERATED_SETTINGS
    flat = write(table, config, USUAL)
    for write_part in (
        _write_backbone,
        _write_heads,
        _write_mask_head,
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
    known = {*rows.KNOWN, *_keys_of_parts()}
    unused = rows.UNUSED_SECTIONS + (() if config["semantic"] else rows.SEMANTIC_SECTIONS)
    keys = [key for key in settings.values if not key.startswith(unused)]
    settings.unknown(known, [key for key in keys if key not in known and settings.values[key] != {}])
    # Every FPN config and every complete config sets the backbone's name.
    bare = rows.BACKBONE not in settings.values
    settings.finish(
        training, " (MODEL.BACKBONE.NAME is not set, and the defaults are a C4 detector's)" if bare else ""
    )
    return configuration(USUAL, {**config, "categories": _read_categories(settings, config)})


def _read(settings: Settings) -> dict[str, Any]:
    config = settings.fields(rows.SETTINGS)
    if config["keypoints"]:
        config |= DETECTRON2_HEAD_OF_KEYPOINTS | settings.fields(rows.KEYPOINT_SETTINGS)
    if config["semantic"]:
        config |= DETECTRON2_SEMANTIC | settings.fields(rows.SEMANTIC_SETTINGS)
        if not config["mask"]:
            settings.refuse("MODEL.MASK_ON", False, "True with 'PanopticFPN'")
    if config["box.federated"]:
        config |= settings.fields(rows.FEDERATED_SETTINGS)
        if config["box.scores"] == "softmax":
            settings.refuse("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, "True with USE_FED_LOSS")
    _read_backbone(settings, config)
    if config["mask"]:
        _read_mask_head(settings, config)
    _read_heads(settings, config)
    _read_head_norms(settings, config)
    _read_rpn_convs(settings, config)
    _read_anchors(settings, config)
    _read_norm_decay(settings, config)
    return config


def _names_files(place: str) -> dict[str, ModuleType]:
    """Return the names files of a part's kinds, by kind."""
    return {kind: names_file(part) for kind, part in classes_with_names(place).items()}


def _keys_of_parts() -> set[str]:
    """Return the keys that the parts' names files read."""
    files = [file for place in ("backbone", "neck", "trunk", "mask") for file in _names_files(place).values()]
    return {key for file in files for key in getattr(file, "DETECTRON2_KEYS", ())}


def _builders() -> dict[str, tuple[str, str | None]]:
    """Return the kinds of backbone and neck built by each of Detectron2's functions."""
    return {
        name: (kind, neck)
        for kind, file in _names_files("backbone").items()
        for name, neck in getattr(file, "DETECTRON2", {}).items()
    }


def _read_backbone(settings: Settings, config: dict[str, Any]) -> None:
    """Read the backbone and the neck after it, if any."""
    built = settings.get(Setting(rows.BACKBONE, "build_resnet_backbone", choice(_builders())))
    backbone, neck = built or (USUAL.backbone.kind, "fpn")
    if backbone != USUAL.backbone.kind:
        config["backbone"] = backbone
    config["neck"] = neck is not None
    _names_files("backbone")[backbone].read_detectron2(settings, config)
    if neck is not None:
        _names_files("neck")[neck].read_detectron2(settings, config)


def _write_backbone(config: ModelConfig) -> dict[str, Any]:
    for name, (kind, neck) in _builders().items():
        if (kind, neck) == (config.backbone.kind, config.neck and config.neck.kind):
            values = {rows.BACKBONE: name, **names_file(config.backbone).write_detectron2(config, USUAL)}
            return values | (names_file(config.neck).write_detectron2(config, USUAL) if neck else {})
    return {}


def _mask_heads() -> dict[str, str]:
    """Return the kinds of mask head by Detectron2's names."""
    files = _names_files("mask")
    others = {name: kind for kind, file in files.items() for name in getattr(file, "DETECTRON2", ())}
    return {rows.FCN: MaskConfig.kind, **others}


def _read_mask_head(settings: Settings, config: dict[str, Any]) -> None:
    """Read a mask head of any kind."""
    kind = settings.get(Setting(rows.MASK_HEAD, rows.FCN, choice(_mask_heads())))
    if kind in (None, MaskConfig.kind):
        config |= settings.fields(rows.MASK_SETTINGS)
    else:
        config["mask"] = kind
        _names_files("mask")[kind].read_detectron2(settings, config)


def _write_mask_head(config: ModelConfig) -> dict[str, Any]:
    if config.mask is None or isinstance(config.mask, MaskConfig):
        return {}
    return names_file(config.mask).write_detectron2(config, USUAL)


def _trunks() -> dict[str, Any]:
    """Return the kinds of trunk by the name of Detectron2's heads; None for heads without a trunk."""
    trunks = {
        file.DETECTRON2: kind for kind, file in _names_files("trunk").items() if hasattr(file, "DETECTRON2")
    }
    return {**trunks, **dict.fromkeys(("StandardROIHeads", _CASCADE, "PointRendROIHeads"))}


def _read_heads(settings: Settings, config: dict[str, Any]) -> None:
    """Read the trunk, or the box head's name if there is none."""
    found = settings.get(Setting(rows.HEADS, "Res5ROIHeads", choice(_trunks())))
    if found is None:
        settings.fields(rows.BOX_HEAD)
        if config["box.convs"] == config["box.fcs"] == 0:
            settings.refuse("MODEL.ROI_BOX_HEAD.NUM_FC", 0, "1 or more if NUM_CONV is 0")
        if settings.values.get(rows.HEADS) == _CASCADE:
            _read_stages(settings, config)
    else:
        config["trunk"] = found
        _names_files("trunk")[found].read_detectron2(settings, config)
    if found is not None or settings.values.get(rows.HEADS) == _CASCADE:
        config["regions.head_boxes"] = "sampled"  # other heads do not read the setting


def _write_heads(config: ModelConfig) -> dict[str, Any]:
    kind = config.trunk and config.trunk.kind
    name = next(name for name, trunk in _trunks().items() if trunk == kind)
    values: dict[str, Any] = {
        rows.HEADS: name,
        **(write(rows.BOX_HEAD, config, USUAL) if kind is None else {}),
    }
    if len(stages := config.box.stages) > 1:
        own = ([stage.foreground_iou for stage in stages], [list(stage.box_weights) for stage in stages])
        values |= {rows.HEADS: _CASCADE, **{row.key: x for row, x in zip(rows.CASCADE, own, strict=True)}}
    return values


def _read_stages(settings: Settings, config: dict[str, Any]) -> None:
    """Read the stages of a cascade, whose first IoU stands in two places."""
    ious, weights = (settings.get(row) for row in rows.CASCADE)
    first = config.pop("box.stages.0.foreground_iou")
    del config["box.stages.0.box_weights"]
    if config["box.class_agnostic"] is False:
        settings.refuse("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, f"True with {_CASCADE!r}")
    if ious is None or weights is None:
        return
    if len(ious) != len(weights) or len(ious) < 2:
        text = "a list of two or more numbers, as many as there are BBOX_REG_WEIGHTS"
        settings.refuse(rows.CASCADE[0].key, list(ious), text)
        return
    if first not in (None, ious[0]):
        text = f"[{ious[0]:g}], the first of MODEL.ROI_BOX_CASCADE_HEAD.IOUS"
        settings.refuse("MODEL.ROI_HEADS.IOU_THRESHOLDS", [first], text)
    config["box.stages"] = tuple(
        BoxStageConfig(foreground_iou=iou, box_weights=own) for iou, own in zip(ious, weights, strict=True)
    )


def _read_head_norms(settings: Settings, config: dict[str, Any]) -> None:
    for row, convs in ((rows.BOX_NORM, "box.convs"), (rows.MASK_NORM, "mask.convs")):
        if config["mask"] is True or row is rows.BOX_NORM:
            config[row.field] = settings.get(row) if config.get(convs) else "none"


def _read_rpn_convs(settings: Settings, config: dict[str, Any]) -> None:
    """Read the number of convolutions; -1 means as many channels as the feature maps have."""
    given = settings.values.get(rows.RPN_CONVS, [-1])
    same = (-1, levels(USUAL, config)[0].channels)
    if not isinstance(given, (list, tuple)) or not given or any(value not in same for value in given):
        settings.refuse(rows.RPN_CONVS, given, "a list of -1, one for each convolution")
    else:
        config["rpn.convs"] = len(given)


def _write_rpn_convs(config: ModelConfig) -> dict[str, Any]:
    return {rows.RPN_CONVS: [-1] * config.rpn.convs}


def _read_anchors(settings: Settings, config: dict[str, Any]) -> None:
    """Read sizes and ratios; a single list applies to all levels."""
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
    """Return the categories of the config's data sets if these are known and their number fits."""
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
            separated = config.semantic is not None and categories == COCO_80
            return {"DATASETS.TEST": [f"{name}_panoptic_separated" if separated else name]}
    return {}
