"""Norms, the box head, the box losses and the training of an MMDetection model.

Most of their settings are rows of `rows.py`; here are those that need more.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import MaskConfig, ModelConfig, Res5Config
from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.convert.mmdet import mask_heads, rows
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.convert.structure import has_layer_norm
from jaxmaskrcnn.models.names_files import classes_with_names
from jaxmaskrcnn.names.config_table import Settings, write


def _read_norms(settings: Settings, config: Flat) -> None:
    _, neck, box, mask = rows.NORMS
    if not has_layer_norm(config.get("backbone")):
        _read_backbone_norm(settings, config)
    config |= {"box.norm": "none"} | ({"mask.norm": "none"} if mask_heads.is_fcn(config["mask"]) else {})
    parts = []
    if config["neck"] and _has_norm(config["neck"]):  # others ignore the setting
        config["neck.norm"] = read_norm(settings, neck)
        parts.append(neck)
    head = settings.values.get("roi_head.bbox_head.type")
    if head == "Shared4Conv1FCBBoxHead" or settings.values.get("roi_head.bbox_head.num_shared_convs"):
        config["box.norm"] = read_norm(settings, box)
        parts.append(box)
    if mask_heads.is_fcn(config["mask"]) and config["mask.convs"]:
        config["mask.norm"] = read_norm(settings, mask)
        parts.append(mask)
    for part in (norm for norm in rows.NORMS[1:] if norm not in parts):
        if (kind := settings.values.get(rows.CONVS[part])) is not None:
            settings.refuse(rows.CONVS[part], kind, "no conv_cfg")


def _read_backbone_norm(settings: Settings, config: Flat) -> None:
    backbone = rows.NORMS[0]
    norm = _norm(settings, backbone, "BN")
    fixed = settings.get(rows.NORM_EVAL)
    trained = settings.values.get(f"{backbone}.requires_grad", True)
    if norm == "bn" and fixed:
        norm = "bn_eval" if trained else "frozen_bn"
    elif norm == "bn" and not trained:
        settings.refuse(f"{backbone}.requires_grad", trained, "True with norm_eval=False", training=True)
    config["backbone.norm"] = norm
    if norm == "bn":
        _refuse_momentum(settings, backbone)


def _has_norm(neck: str | bool) -> bool:
    kinds = classes_with_names("neck")
    return neck is True or any(field.name == "norm" for field in dataclasses.fields(kinds[neck]))


def read_norm(settings: Settings, part: str) -> str | None:
    """Return the norm layers of a pyramid or a head, which are trained.

    Args:
        settings: The settings.
        part: The key of its ``norm_cfg``.

    Returns:
        The norm, "none" if it has none; None, with the problem recorded, if it is unsupported.
    """
    eps = settings.values.get(f"{part}.eps", 1e-5)
    if eps != 1e-5:
        settings.refuse(f"{part}.eps", eps, "1e-5")
    if settings.values.get(f"{part}.requires_grad", True) is not True:
        settings.refuse(f"{part}.requires_grad", False, "True", training=True)
    _refuse_momentum(settings, part)
    return _norm(settings, part, None)


def _write_norms(config: ModelConfig) -> Flat:
    """The counterpart of `_read_norms`; the backbone's epsilon is a row."""
    backbone, neck, box, mask = rows.NORMS
    norm = config.backbone.norm
    values: Flat = {}
    if norm != "ln":
        values[rows.NORM_EVAL.key] = norm in ("frozen_bn", "bn_eval")
        values |= norm_settings(backbone, norm if norm in GROUP_NORMS else "bn", norm != "frozen_bn")
    values |= norm_settings(neck, getattr(config.neck, "norm", "none"))
    values |= norm_settings(box, config.box.norm)
    values |= norm_settings(mask, config.mask.norm) if isinstance(config.mask, MaskConfig) else {}
    return values


def _norm(settings: Settings, part: str, default: str | None) -> str | None:
    """Return a part's norm layers; None, with the problem recorded, if they are unsupported."""
    found = settings.values.get(f"{part}.type", default)
    known = {**rows.BN, "GN": "gn"} | ({None: "none"} if default is None else {})
    if not isinstance(found, str | None) or found not in known:
        settings.refuse(f"{part}.type", found, ", ".join(map(repr, known)))
        return None
    if found == "GN" and settings.values.get(f"{part}.num_groups") != 32:
        settings.refuse(f"{part}.num_groups", settings.values.get(f"{part}.num_groups"), "32")
    kind = settings.values.get(rows.CONVS.get(part))
    if kind is not None and (kind, found) != ("ConvWS", "GN"):
        settings.refuse(rows.CONVS[part], kind, f"no conv_cfg, or 'ConvWS' where {part} has 'GN'")
    return known[found] if kind is None else "gn_ws"


def norm_settings(part: str, norm: str, trained: bool = True) -> Flat:
    """Return the settings of a norm, by their keys; {} for "none".

    Args:
        part: The key of its ``norm_cfg``.
        norm: The norm.
        trained: Whether its arrays are trained.
    """
    if norm == "none":
        return {}
    values: Flat = {f"{part}.type": norm.upper(), f"{part}.requires_grad": trained}
    if norm in GROUP_NORMS:
        values |= {f"{part}.type": "GN", f"{part}.num_groups": 32}
    return values | ({rows.CONVS[part]: "ConvWS"} if norm == "gn_ws" and part in rows.CONVS else {})


def _refuse_momentum(settings: Settings, part: str) -> None:
    momentum = settings.values.get(f"{part}.momentum", 0.1)
    if momentum != 0.1:
        settings.refuse(f"{part}.momentum", momentum, "0.1", training=True)


def _read_box_head(settings: Settings, config: Flat) -> None:
    """Read the box head's layers, which may follow from its type, and the side of its regions."""
    if config["box.average"]:
        return  # a shared head comes before it, which determines its layers
    name = settings.get(rows.BOX_HEAD_TYPE)
    settings.get(rows.AVERAGE)
    if name is None:
        return
    layers = rows.BOX_HEADS[name]
    if layers is None:
        config |= settings.fields(rows.BOX_HEAD_LAYERS)
    else:
        config["box.convs"], config["box.fcs"] = layers
    side = settings.get(rows.BOX_SIDE)
    if None not in (side, config["box.pool.size"]) and side != config["box.pool.size"]:
        settings.refuse(rows.BOX_SIDE.key, side, f"the roi_layer's output_size, {config['box.pool.size']}")


def _write_box_head(config: ModelConfig) -> Flat:
    """The counterpart of `_read_box_head`."""
    if config.trunk is not None:
        return {}
    return {
        rows.BOX_HEAD_TYPE.key: "ConvFCBBoxHead",
        **write(rows.BOX_HEAD_LAYERS, config, USUAL),
        rows.BOX_SIDE.key: config.box.pool.size,
    }


def _read_losses(settings: Settings, config: Flat) -> None:
    """Read the box losses: their transition from L1 to L2, or the form of the box head's IoU loss."""
    decoded, head = settings.get(rows.DECODED), "roi_head.bbox_head.loss_bbox"
    config["box.loss.form"] = "smooth_l1"
    for (part, path), default in zip(rows.LOSSES.items(), (1.0 / 9.0, 1.0), strict=True):
        name = settings.values.get(f"{part}.type")
        if part == head and name in rows.IOU_LOSSES:
            config["box.loss.form"], expected = rows.IOU_LOSSES[name]
            for key, value in expected.items():
                if (given := settings.values.get(f"{part}.{key}", value)) != value:
                    settings.refuse(f"{part}.{key}", given, repr(value), training=True)
            if not decoded:
                settings.refuse(rows.DECODED.key, decoded, f"True with {name!r}", training=True)
            continue
        if part == head and decoded:
            settings.refuse(rows.DECODED.key, decoded, f"False with {name!r}", training=True)
        given = settings.values.get(f"{part}.beta", default if name is None else 1.0)
        if name not in (None, "L1Loss", "SmoothL1Loss") or type(given) not in (int, float) or given < 0:
            what = name if name not in (None, "L1Loss", "SmoothL1Loss") else given
            settings.refuse(f"{part}.type", what, "'L1Loss' or 'SmoothL1Loss' with a beta", training=True)
        else:
            config[path] = 0.0 if name == "L1Loss" else float(given)


def _write_losses(config: ModelConfig) -> Flat:
    """The counterpart of `_read_losses`."""
    values: Flat = {}
    for part, path in rows.LOSSES.items():
        names = {form: (name, own) for name, (form, own) in rows.IOU_LOSSES.items()}
        if path.startswith("box.") and config.box.loss.form in names:
            name, own = names[config.box.loss.form]
            values |= {f"{part}.type": name, rows.DECODED.key: True}
            values |= {f"{part}.{key}": value for key, value in own.items()}
            continue
        beta = config.get(path)
        values[f"{part}.type"] = "SmoothL1Loss" if beta else "L1Loss"
        values |= {f"{part}.beta": beta} if beta else {}
    return values


def _read_training(settings: Settings, config: Flat) -> None:
    """Read a ``train_cfg``; without an ``rpn_proposal``, training uses the settings of testing."""
    if not settings.has("train_cfg"):
        config["regions.low_quality"] = "reassign" if config["mask"] else "none"
        return
    config |= settings.fields(rows.TRAIN)
    if settings.has("train_cfg.rpn_proposal"):
        config |= settings.fields(rows.PROPOSAL)
    else:
        config["rpn.pre_nms_train"] = config["rpn.pre_nms_test"]
        config["rpn.post_nms_train"] = config["rpn.post_nms_test"]
    threshold = config["box.stages.0.foreground_iou"]
    least = settings.get(rows.ROI_MIN_IOU)
    if config["regions.low_quality"] != "none" and None not in (least, threshold) and least != threshold:
        settings.refuse(rows.ROI_MIN_IOU.key, least, f"pos_iou_thr, {threshold:g}", training=True)
    if mask_heads.is_fcn(config["mask"]) and config["mask.pool.size"] is not None:
        shared = config["trunk"] is not None
        side = Res5Config().side(config["mask.pool.size"]) if shared else config["mask.pool.size"]
        size, expected = settings.get(rows.MASK_SIZE), 2 * side
        if size not in (None, expected):
            text = f"{expected}, twice the {'shared head' if shared else 'roi_layer'}'s output_size"
            settings.refuse(rows.MASK_SIZE.key, size, text, training=True)


def _write_training(config: ModelConfig) -> Flat:
    """The counterpart of `_read_training`."""
    values = write((*rows.TRAIN, *rows.PROPOSAL), config, USUAL)
    values[rows.ROI_MIN_IOU.key] = config.box.stages[0].foreground_iou
    if isinstance(config.mask, MaskConfig):
        values[rows.MASK_SIZE.key] = 2 * config.region_side(config.mask.pool)
    # The library reads it whether or not it is set.
    return values | {"train_cfg.rpn.debug": False, "train_cfg.rcnn.debug": False}


# Their keys are those of `rows.py`.
NORMS = PartSettings(_read_norms, _write_norms)
BOX_HEAD = PartSettings(_read_box_head, _write_box_head)
LOSSES = PartSettings(_read_losses, _write_losses)
TRAINING = PartSettings(_read_training, _write_training)


def read_norm_decay(values: Mapping[str, Any], settings: Settings) -> bool:
    """Whether weight decay excludes norm layers, by their type or by their names."""
    for name in ("optim_wrapper", "optimizer"):
        wrapper = values.get(name)
        options = wrapper.get("paramwise_cfg") if isinstance(wrapper, Mapping) else None
        by_name = options.get("custom_keys") if isinstance(options, Mapping) else None
        own = by_name.get("norm") if isinstance(by_name, Mapping) else None
        if isinstance(own, Mapping) and own.get("decay_mult") == 0:
            return True
        if isinstance(options, Mapping) and (factor := options.get("norm_decay_mult", 1)) != 1:
            if factor != 0:
                key = f"{name}.paramwise_cfg.norm_decay_mult"
                settings.refuse(key, factor, "0 or 1", training=True)
            return factor == 0
    return False


def write_norm_decay(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_norm_decay`, as a variable of the config."""
    if not config.compute.weight_decay_exempts_norm:
        return {}
    return {"optim_wrapper": {"type": "OptimWrapper", "paramwise_cfg": {"norm_decay_mult": 0.0}}}
