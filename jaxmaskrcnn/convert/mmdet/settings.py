"""Convert between MMDetection's configs and ModelConfig.

Config files of versions 3 and 2 and the config text in checkpoints are read; version 3 is written. The
settings of the model are those of the parts of `table.py`; those of the images are in `pipeline.py`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.python_config import merge, read_config, read_text
from jaxmaskrcnn.convert.configs.python_text import python_text
from jaxmaskrcnn.convert.configs.python_values import Unreadable
from jaxmaskrcnn.convert.mmdet import cascade, mask_heads, parts, rows, semantic
from jaxmaskrcnn.convert.mmdet.bases import known_base
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat
from jaxmaskrcnn.convert.mmdet.pipeline import (
    data_for_testing,
    pipeline_settings,
    read_pipeline,
    write_pipeline,
)
from jaxmaskrcnn.convert.mmdet.table import PARTS
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import Settings, configuration, flatten, nest
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, LVIS_V05_1230, LVIS_V1_1203

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
    masks = config.mask is not None
    flat: Flat = {"type": "MaskRCNN" if masks else "FasterRCNN"}
    for part in PARTS:
        flat |= part.write(config)
    flat["data_preprocessor.pad_mask"] = masks
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
    known = ("MaskRCNN", "FasterRCNN", "CascadeRCNN", semantic.DETECTOR, *mask_heads.detectors())
    if name not in known:
        raise UserError(f"{path} has the model {name!r}; supported: {', '.join(known[:-1])} and {known[-1]}.")
    rpn_head = model.get("rpn_head")
    if "bbox_head" in model or isinstance(rpn_head, Mapping) and "anchor_scales" in rpn_head:
        raise UserError(
            f"{path} is written for MMDetection 1 (bbox_head outside roi_head, or anchor_scales), which "
            "counted pixels differently; give a preset of list_models() or a newer config."
        )
    settings = Settings(_flatten(model, values, path), "MMDetection", path, USUAL)
    config: Flat = {}
    for part in PARTS:
        part.read(settings, config)
    dataset = data_for_testing(values, "data_preprocessor" in model)
    settings.values |= pipeline_settings(dataset, settings)
    config |= read_pipeline(settings, "data_preprocessor" in model)
    config["compute.weight_decay_exempts_norm"] = parts.read_norm_decay(values, settings)
    keys = rows.KNOWN.union(*(part.keys() for part in PARTS))
    settings.unknown(
        keys, [key for key in settings.values if key not in keys and not rows.UNUSED.fullmatch(key)]
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
