"""Convert between MMDetection's configs and ModelConfig.

Config files of versions 3 and 2 and the config text in checkpoints are read; version 3 is written. Most
settings are rows of `rows.py`; the others are in `parts.py`, `levels.py` and `pipeline.py`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.configs.python_config import merge, read_config, read_text
from jaxmaskrcnn.convert.configs.python_text import python_text
from jaxmaskrcnn.convert.configs.python_values import Unreadable
from jaxmaskrcnn.convert.mmdet import backbone, cascade, mask_heads, parts, rows, seesaw, semantic
from jaxmaskrcnn.convert.mmdet.bases import known_base
from jaxmaskrcnn.convert.mmdet.levels import read_levels, write_levels
from jaxmaskrcnn.convert.mmdet.pipeline import (
    data_for_testing,
    pipeline_settings,
    read_pipeline,
    write_pipeline,
)
from jaxmaskrcnn.convert.mmdet.shared_head import KNOWN as SHARED_KNOWN
from jaxmaskrcnn.convert.mmdet.shared_head import SHARED_HEAD, read_shared_head, write_shared_head
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models import groie_names
from jaxmaskrcnn.names.config_table import Settings, configuration, flatten, nest, write
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, LVIS_V05_1230, LVIS_V1_1203
from jaxmaskrcnn.zoo.conventions import MMDET

USUAL = ModelConfig().replace(MMDET)
_DETECTORS = ("MaskRCNN", "FasterRCNN", "CascadeRCNN", "PanopticFPN", "PointRend", "MaskScoringRCNN")
_CATEGORIES = {
    "CocoDataset": COCO_80, "CocoPanopticDataset": COCO_80, "CityscapesDataset": CITYSCAPES_8,
    "LVISV1Dataset": LVIS_V1_1203, "LVISV05Dataset": LVIS_V05_1230, "LVISDataset": LVIS_V05_1230,
}  # fmt: skip
# Names of settings in version 2 and now; the pattern matches the end of a key or of one of its parts.
_RENAMED = (
    (r"roi_layer\.out_size", "roi_layer.output_size"),
    (r"roi_layer\.sample_num", "roi_layer.sampling_ratio"),
    (r"nms\.iou_thr", "nms.iou_threshold"),
    (r"(?<=\.)nms_thr", "nms.iou_threshold"),
    (r"(?<=\.)max_num", "max_per_img"),
)
# Old checkpoints hold the text of several files, each after its path.
_FILE_LINE = re.compile(r"^\S+\.py$", re.MULTILINE)


def config_from_python(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """Convert an MMDetection config file to a ModelConfig.

    The file is parsed, not run. ``_base_`` is followed; MMDetection's own bases ("configs/_base_") are
    built in, in case they are not on this machine.

    Args:
        path: A ``.py`` file.
        training: Whether to also reject unsupported settings that only affect training.

    Returns:
        A ModelConfig. Its categories are set for COCO, Cityscapes and LVIS data sets.

    Raises:
        UserError: The file or its base cannot be read, or has unsupported settings; lists all of them.
    """
    path = os.fspath(path)
    return _config(read_config(path, known_base), path, training)


def config_from_mmdet_text(text: str, source: str, training: bool = True) -> ModelConfig:
    """Convert the config text in the ``meta`` of an MMDetection checkpoint to a ModelConfig.

    Args:
        text: Python source, including all bases.
        source: Its name in errors.
        training: Whether to also reject unsupported settings that only affect training.

    Raises:
        UserError: As in `config_from_python`.

    Example:
        >>> config_from_mmdet_text("model = dict(type='YOLOX')", "a.pth")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.errors.UserError: a.pth has the model 'YOLOX'; supported: MaskRCNN, FasterRCNN, ...
    """
    values: dict[str, Any] = {}
    for part in _FILE_LINE.split(text):
        # A file's bases come before it in the text.
        values = merge(read_text(part, source, lambda base: {}), values)
    return _config(values, source, training)


def text_of_config(config: ModelConfig) -> str:
    """Write a configuration as an MMDetection config file with all settings that have a counterpart here.

    Args:
        config: The configuration, with pixel mean and standard deviation in units of 0..255.
    """
    mask = config.mask is not None
    table = (*rows.DATA_PREPROCESSOR, *(rows.NECK if config.neck else ()), *rows.RPN, *rows.BOX)
    flat = {"type": "MaskRCNN" if mask else "FasterRCNN"}
    table += (rows.MASK_TYPE, *rows.MASK) if isinstance(config.mask, MaskConfig) else ()
    table += rows.MASK_POOL if isinstance(config.mask, MaskConfig) and config.trunk is None else ()
    table += rows.MASKS if mask else ()
    flat |= write(table + rows.TEST, config, USUAL)
    flat |= {"data_preprocessor.pad_mask": mask}
    flat |= parts.write_box_head(config, USUAL) | parts.write_training(config, USUAL)
    flat |= semantic.write_semantic(config, USUAL) | seesaw.write_seesaw(config, USUAL)
    flat |= groie_names.write_mmdet(config) if config.extractor is not None else {}
    for write_part in (
        backbone.write_backbone,
        parts.write_upsampling,
        parts.write_nms,
        parts.write_norms,
        parts.write_losses,
        write_levels,
        write_shared_head,
        mask_heads.write_mask_head,
    ):
        flat |= write_part(config)
    model = cascade.write_stages(nest(flat), config)
    # inference_detector takes the steps and the data set from test_dataloader.
    dataset = _write_categories(config) | {"pipeline": write_pipeline(config, USUAL)}
    variables = {"default_scope": "mmdet", "model": model, "test_dataloader": {"dataset": dataset}}
    return python_text(variables | parts.write_norm_decay(config))


def _config(values: Mapping[str, Any], path: str, training: bool) -> ModelConfig:
    model = values.get("model")
    if not isinstance(model, Mapping):
        what = "no model" if model is None else f"a model that is {model!r}"
        raise UserError(f"{path} has {what}; give an MMDetection config of a Mask R-CNN or Faster R-CNN.")
    name = model.get("type")
    if name not in _DETECTORS:
        raise UserError(
            f"{path} has the model {name!r}; supported: {', '.join(_DETECTORS[:-1])} and {_DETECTORS[-1]}."
        )
    rpn_head = model.get("rpn_head")
    if "bbox_head" in model or isinstance(rpn_head, Mapping) and "anchor_scales" in rpn_head:
        raise UserError(
            f"{path} is written for MMDetection 1 (bbox_head outside roi_head, or anchor_scales), which "
            "counted pixels differently; give a preset of list_models() or a newer config."
        )
    settings = Settings(_flatten(model, values, path), "MMDetection", path)
    config = _read(settings)
    dataset = data_for_testing(values, "data_preprocessor" in model)
    settings.values |= pipeline_settings(dataset, settings)
    config |= read_pipeline(settings, "data_preprocessor" in model)
    config["compute.weight_decay_exempts_norm"] = parts.read_norm_decay(values, settings)
    known = rows.KNOWN | backbone.known() | cascade.KNOWN | SHARED_KNOWN | mask_heads.known()
    known |= semantic.KNOWN | seesaw.KNOWN | groie_names.MMDET_KEYS
    settings.unknown(
        known, [key for key in settings.values if key not in known and not rows.UNUSED.fullmatch(key)]
    )
    settings.finish(training)
    return configuration(USUAL, {**config, "categories": _read_categories(dataset, config["num_classes"])})


def _flatten(model: Mapping[str, Any], values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the model's settings by the names of version 3."""
    model = dict(model)
    for name in ("train_cfg", "test_cfg"):
        # Before 2.9 they were beside the model; in version 3 the training loop has these names.
        outside = values.get(name)
        if model.get(name) is None and isinstance(outside, Mapping) and {"rpn", "rcnn"} & set(outside):
            model[name] = outside
    flat = {}
    for key, value in flatten(cascade.by_stage(model), path).items():
        for old, new in _RENAMED:
            key = re.sub(rf"{old}(?=$|\.)", new, key)
        flat[key] = value
        if isinstance(value, Unreadable) and key not in rows.KNOWN and not rows.UNUSED.fullmatch(key):
            raise UserError(f"{path} has a {key} that is {value!r}; write its value out.")
    for part, defaults in rows.LEFT_OUT.items():
        if not any(key.startswith(f"{part}.") for key in flat):
            flat |= {f"{part}.{key}": value for key, value in defaults.items()}
    return flat


def _read(settings: Settings) -> dict[str, Any]:
    has = {part: any(key.startswith(f"{part}.") for key in settings.values) for part in _PARTS}
    mask = has["roi_head.mask_head"]
    table = (*(rows.NECK if has["neck"] else ()), *rows.RPN, *rows.BOX, *rows.TEST)
    if has["data_preprocessor"]:
        table += rows.DATA_PREPROCESSOR
    kind = mask_heads.mask_head(settings, has["roi_head.shared_head"]) if mask else False
    if mask:
        table += rows.MASKS
    if mask_heads.is_fcn(kind):
        table += rows.MASK if has[SHARED_HEAD] else (*rows.MASK, *rows.MASK_POOL)
    config = settings.fields(table) | {"mask": kind} | ({} if has["neck"] else {"neck": False})
    parts.read_upsampling(settings, config)
    parts.read_nms(settings, config)
    config["semantic"] = has[semantic.HEAD]
    semantic.read_semantic(settings, config)
    seesaw.read_seesaw(settings, config, mask_heads.is_fcn(kind))
    backbone.read_backbone(settings, config)
    mask_heads.read_mask_head(settings, config, USUAL, has["train_cfg"])
    parts.read_norms(settings, config)
    if config["extractor"]:
        groie_names.read_mmdet(settings, config)
    read_shared_head(settings, config, has[SHARED_HEAD])
    read_levels(settings, config, USUAL)
    parts.read_box_head(settings, config)
    parts.read_losses(settings, config)
    if has["train_cfg"]:
        parts.read_training(settings, config, has["train_cfg.rpn_proposal"])
    else:
        config["regions.low_quality"] = "reassign" if mask else "none"
    cascade.read_stages(settings, config, has["train_cfg"])
    return config


_PARTS = (
    "data_preprocessor",
    "neck",
    SHARED_HEAD,
    "roi_head.mask_head",
    semantic.HEAD,
    "train_cfg",
    "train_cfg.rpn_proposal",
)


def _read_categories(dataset: Mapping[str, Any], num_classes: int) -> tuple:
    """Return the categories of a known data set, unless the config changes them."""
    categories = _CATEGORIES.get(str(dataset.get("type")), ())
    changed = dataset.get("metainfo") or dataset.get("classes")
    return categories if len(categories) == num_classes and not changed else ()


def _write_categories(config: ModelConfig) -> dict[str, Any]:
    """Return the data set that has these categories, or one with their names."""
    categories = config.categories
    for name, known in _CATEGORIES.items():
        if categories == known and name.startswith("CocoPanoptic") == (config.semantic is not None):
            return {"type": name}
    usual = _CATEGORIES["CocoDataset"]
    if not categories and config.num_classes != len(usual):
        return {"type": "CocoDataset"}
    names = tuple(category.name for category in config.known_categories())
    return {"type": "CocoDataset", "metainfo": {"classes": names}}
