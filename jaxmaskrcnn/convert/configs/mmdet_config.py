"""MMDetection's config files, and the config text in its checkpoints; versions 3 and 2."""

import os
import re
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.conventions import CITYSCAPES_8, COCO_80, MMDET
from jaxmaskrcnn.convert.configs import mmdet_settings as table
from jaxmaskrcnn.convert.configs.config_table import Settings, flatten
from jaxmaskrcnn.convert.configs.mmdet_bases import known_base
from jaxmaskrcnn.convert.configs.mmdet_pipeline import data_for_testing, pipeline_settings, read_pipeline
from jaxmaskrcnn.convert.configs.python_config import merge, read_config, read_text
from jaxmaskrcnn.convert.configs.python_values import Unreadable
from jaxmaskrcnn.errors import UserError

_DETECTORS = ("MaskRCNN", "FasterRCNN")
_CATEGORIES = {"CocoDataset": COCO_80, "CityscapesDataset": CITYSCAPES_8}
# Old checkpoints hold the text of several files, each behind its path.
_FILE_LINE = re.compile(r"^\S+\.py$", re.MULTILINE)


def config_from_python(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """The configuration that an MMDetection config file describes.

    The file is read, not run. ``_base_`` is followed; MMDetection's own bases ("configs/_base_") are
    known, should they not be on this machine.

    Args:
        path: A ``.py`` file.
        training: Refuse also what changes training only.

    Returns:
        A ModelConfig. Its categories are named where the data set is COCO's or Cityscapes'.

    Raises:
        UserError: The file or its base cannot be read, or it sets what cannot be reproduced here;
            lists all such settings.
    """
    path = os.fspath(path)
    return _config(read_config(path, known_base), path, training)


def config_from_mmdet_text(text: str, source: str, training: bool = True) -> ModelConfig:
    """The configuration in the text that MMDetection writes into a checkpoint's ``meta``.

    Args:
        text: Python, all bases included.
        source: Names it in errors.
        training: Refuse also what changes training only.

    Raises:
        UserError: As in `config_from_python`.

    Example:
        >>> config_from_mmdet_text("model = dict(type='YOLOX')", "yolox.pth")
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.errors.UserError: yolox.pth has the model 'YOLOX'; supported: MaskRCNN and FasterRCNN.
    """
    values: dict[str, Any] = {}
    for part in _FILE_LINE.split(text):
        # What a file builds on stands in the text before it.
        values = merge(read_text(part, source, lambda base: {}), values)
    return _config(values, source, training)


def _config(values: Mapping[str, Any], path: str, training: bool) -> ModelConfig:
    model = values.get("model")
    if not isinstance(model, Mapping):
        what = "no model" if model is None else f"a model that is {model!r}"
        raise UserError(f"{path} has {what}; give an MMDetection config of a Mask R-CNN or Faster R-CNN.")
    kind = model.get("type")
    if kind not in _DETECTORS:
        raise UserError(f"{path} has the model {kind!r}; supported: {' and '.join(_DETECTORS)}.")
    rpn_head = model.get("rpn_head")
    if "bbox_head" in model or isinstance(rpn_head, Mapping) and "anchor_scales" in rpn_head:
        raise UserError(
            f"{path} is written for MMDetection 1 (bbox_head outside of roi_head, or anchor_scales), which "
            "counted pixels differently; give a preset of list_models() or a newer config."
        )
    settings = Settings(_flatten(model, values, path), "MMDetection", path)
    config = _read(settings)
    dataset = data_for_testing(values, "data_preprocessor" in model)
    settings.values |= pipeline_settings(dataset, settings)
    config |= read_pipeline(settings, "data_preprocessor" in model)
    config["weight_decay_exempts_norm"] = _norm_exempt(values, settings)
    settings.unknown(
        table.KNOWN,
        [key for key in settings.values if key not in table.KNOWN and not table.UNUSED.fullmatch(key)],
    )
    settings.finish(training)
    config = {field: value for field, value in config.items() if value is not None}
    categories = _categories(dataset, config["num_classes"])
    return ModelConfig(**{**MMDET, **config, "categories": categories})


def _flatten(model: Mapping[str, Any], values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The model's settings by the names of version 3."""
    model = dict(model)
    for name in ("train_cfg", "test_cfg"):
        # Before 2.9 they stood beside the model; what is there in version 3 is the training loop.
        outside = values.get(name)
        if model.get(name) is None and isinstance(outside, Mapping) and {"rpn", "rcnn"} & set(outside):
            model[name] = outside
    flat = {}
    for key, value in flatten(model, path).items():
        for old, new in table.RENAMED:
            key = re.sub(rf"{old}(?=$|\.)", new, key)
        flat[key] = value
        if isinstance(value, Unreadable) and key not in table.KNOWN and not table.UNUSED.fullmatch(key):
            raise UserError(f"{path} has a {key} that is {value!r}; write its value out.")
    for part, defaults in table.LEFT_OUT.items():
        if not any(key.startswith(f"{part}.") for key in flat):
            flat |= {f"{part}.{key}": value for key, value in defaults.items()}
    return flat


def _read(settings: Settings) -> dict[str, Any]:
    has = {part: any(key.startswith(f"{part}.") for key in settings.values) for part in _PARTS}
    mask = has["roi_head.mask_head"]
    config = settings.fields((*table.BACKBONE, *table.NECK, *table.RPN, *table.BOX, *table.TEST))
    if has["data_preprocessor"]:
        config |= settings.fields(table.DATA_PREPROCESSOR)
    config["mask_head"] = mask
    if mask:
        config |= settings.fields(table.MASK)
    heads = 2 if mask else 1
    config["num_classes"] = settings.common(table.CLASSES[:heads])
    config["roi_sampling_ratio"] = settings.common(table.SAMPLING[:heads])
    config["roi_aligned"] = settings.common(table.ALIGNMENT[:heads])
    _read_backbone(settings, config)
    _read_norms(settings, config)
    _read_anchors(settings, config)
    _read_box_head(settings, config)
    _read_losses(settings, config)
    if has["train_cfg"]:
        _read_training(settings, config, has["train_cfg.rpn_proposal"])
    else:
        config["roi_low_quality"] = mask
    return config


_PARTS = ("data_preprocessor", "roi_head.mask_head", "train_cfg", "train_cfg.rpn_proposal")


def _read_backbone(settings: Settings, config: dict[str, Any]) -> None:
    kind = settings.values.get("backbone.type")
    if kind not in ("ResNet", "ResNeXt"):
        settings.refuse("backbone.type", kind, "'ResNet' or 'ResNeXt'")
    elif kind == "ResNeXt":
        config["backbone_groups"] = settings.get(table.GROUPS)
        # With one group a ResNeXt is a ResNet, whatever its width is set to.
        grouped = config["backbone_groups"] != 1
        config["backbone_width_per_group"] = settings.get(table.BASE_WIDTH) if grouped else 64


def _read_norms(settings: Settings, config: dict[str, Any]) -> None:
    backbone, neck, box, mask = table.NORMS
    norm = _norm(settings, backbone, "BN")
    fixed = settings.get(table.NORM_EVAL)
    trained = settings.values.get(f"{backbone}.requires_grad", True)
    if norm == "bn" and fixed:
        norm = "bn_eval" if trained else "frozen_bn"
    elif norm == "bn" and not trained:
        settings.refuse(f"{backbone}.requires_grad", trained, "True with norm_eval=False", training=True)
    config["backbone_norm"] = norm
    if norm == "bn":
        _refuse_momentum(settings, backbone)
    config["fpn_norm"] = _norm(settings, neck, None)
    heads = {}
    kind = settings.values.get("roi_head.bbox_head.type")
    if kind == "Shared4Conv1FCBBoxHead" or settings.values.get("roi_head.bbox_head.num_shared_convs"):
        heads[box] = _norm(settings, box, None)
    if config["mask_head"] and config["mask_convs"]:
        heads[mask] = _norm(settings, mask, None)
    config["head_norm"] = next(iter(heads.values()), "none")
    if len(set(heads.values()) - {None}) > 1:
        text = f"{mask} differs from {box}; supported: the same norm layers in both heads"
        settings.problem(mask, text)
    for part in (neck, *heads):
        eps = settings.values.get(f"{part}.eps", 1e-5)
        if eps != 1e-5:
            settings.refuse(f"{part}.eps", eps, "1e-5")
        if settings.values.get(f"{part}.requires_grad", True) is not True:
            settings.refuse(f"{part}.requires_grad", False, "True", training=True)
        _refuse_momentum(settings, part)


def _norm(settings: Settings, part: str, default: str | None) -> str | None:
    """The kind of a part's norm layers; None, with a note of the problem, where it is not known."""
    kind = settings.values.get(f"{part}.type", default)
    kinds = {**table.BN, "GN": "gn"} | ({None: "none"} if default is None else {})
    if not isinstance(kind, str | None) or kind not in kinds:
        settings.refuse(f"{part}.type", kind, ", ".join(map(repr, kinds)))
        return None
    if kind == "GN" and settings.values.get(f"{part}.num_groups") != 32:
        settings.refuse(f"{part}.num_groups", settings.values.get(f"{part}.num_groups"), "32")
    return kinds[kind]


def _refuse_momentum(settings: Settings, part: str) -> None:
    momentum = settings.values.get(f"{part}.momentum", 0.1)
    if momentum != 0.1:
        settings.refuse(f"{part}.momentum", momentum, "0.1", training=True)


def _read_anchors(settings: Settings, config: dict[str, Any]) -> None:
    scales, sizes = settings.get(table.SCALES), settings.get(table.BASE_SIZES)
    if scales is not None and sizes is not None:
        config["anchor_sizes"] = tuple(scales[0] * size for size in sizes)
    channels = settings.get(table.FEATURES)
    if None not in (channels, config["fpn_channels"]) and channels != config["fpn_channels"]:
        settings.refuse(table.FEATURES.key, channels, f"neck.out_channels, {config['fpn_channels']}")


def _read_box_head(settings: Settings, config: dict[str, Any]) -> None:
    kind = settings.get(table.BOX_HEAD_TYPE)
    if kind is None:
        return
    layers = table.BOX_HEADS[kind]
    if layers is None:
        config |= settings.fields(table.BOX_HEAD_LAYERS)
    else:
        config["box_convs"], config["box_fcs"] = layers
    side = settings.get(table.BOX_SIDE)
    if None not in (side, config["box_pool_size"]) and side != config["box_pool_size"]:
        settings.refuse(table.BOX_SIDE.key, side, f"the roi_layer's output_size, {config['box_pool_size']}")


def _read_losses(settings: Settings, config: dict[str, Any]) -> None:
    """The box losses' transition from L1 to L2, of which there is one here."""
    betas = {}
    for part, default in zip(table.LOSSES, (1.0 / 9.0, 1.0), strict=True):
        kind = settings.values.get(f"{part}.type")
        given = settings.values.get(f"{part}.beta", default if kind is None else 1.0)
        if kind not in (None, "L1Loss", "SmoothL1Loss") or type(given) not in (int, float) or given < 0:
            what = kind if kind not in (None, "L1Loss", "SmoothL1Loss") else given
            settings.refuse(f"{part}.type", what, "'L1Loss' or 'SmoothL1Loss' with a beta", training=True)
        else:
            betas[part] = 0.0 if kind == "L1Loss" else float(given)
    if len(set(betas.values())) > 1:
        both = " and ".join(f"{part} has the beta {beta:g}" for part, beta in betas.items())
        settings.problem(f"{table.LOSSES[1]}.beta", f"{both}; supported: the same in both", training=True)
    config["smooth_l1_beta"] = betas[table.LOSSES[0]] if len(betas) == 2 else None


def _read_training(settings: Settings, config: dict[str, Any], own_proposals: bool) -> None:
    config |= settings.fields(table.TRAIN)
    if own_proposals:
        config |= settings.fields(table.PROPOSAL)
        settings.common(table.PROPOSAL_NMS)
    else:
        config["rpn_pre_nms_train"] = config["rpn_pre_nms_test"]
        config["rpn_post_nms_train"] = config["rpn_post_nms_test"]
    threshold = settings.common(table.ROI_IOU)
    least = settings.get(table.ROI_MIN_IOU)
    if config["roi_low_quality"] and None not in (least, threshold) and least != threshold:
        settings.refuse(table.ROI_MIN_IOU.key, least, f"pos_iou_thr, {threshold:g}", training=True)
    if config["mask_head"] and config["mask_pool_size"] is not None:
        size, wanted = settings.get(table.MASK_SIZE), 2 * config["mask_pool_size"]
        if size not in (None, wanted):
            text = f"{wanted}, twice the roi_layer's output_size"
            settings.refuse(table.MASK_SIZE.key, size, text, training=True)


def _norm_exempt(values: Mapping[str, Any], settings: Settings) -> bool:
    """Whether weight decay leaves norm layers out."""
    for name in ("optim_wrapper", "optimizer"):
        wrapper = values.get(name)
        options = wrapper.get("paramwise_cfg") if isinstance(wrapper, Mapping) else None
        if isinstance(options, Mapping) and (factor := options.get("norm_decay_mult", 1)) != 1:
            if factor != 0:
                key = f"{name}.paramwise_cfg.norm_decay_mult"
                settings.refuse(key, factor, "0 or 1", training=True)
            return factor == 0
    return False


def _categories(dataset: Mapping[str, Any], num_classes: int) -> tuple:
    """The categories of a known data set that the config leaves as it is."""
    categories = _CATEGORIES.get(str(dataset.get("type")), ())
    changed = dataset.get("metainfo") or dataset.get("classes")
    return categories if len(categories) == num_classes and not changed else ()
