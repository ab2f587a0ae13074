"""The stages of MMDetection's cascades: lists of heads, of samplers and of weights.

All stages have the same settings, up to the standard deviations of their deltas and the IoU from which
regions are positive. So the first stage is read and written like the only one of another model, and this file
has what is different in the others.

Source: the constructors of ``mmdet/models/roi_heads/cascade_roi_head.py`` (version 3.3).
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import BoxStageConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import rows
from jaxmaskrcnn.convert.mmdet.part import Flat, PartSettings
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings
from jaxmaskrcnn.names.conversions import FRACTION, Conversion, number, only, several, whole

CASCADE = "CascadeRoIHead"
TYPE = Setting("roi_head.type", MISSING, only("StandardRoIHead", CASCADE))
COUNT = Setting("roi_head.num_stages", MISSING, whole(2))
WEIGHTS = Setting("roi_head.stage_loss_weights", MISSING, several(number()), training=True)

# Parts that can be lists with an entry for each stage; the second group always is one.
_PARTS = tuple(f"roi_head.{part}" for part in (
    "bbox_head", "mask_head", "bbox_roi_extractor", "mask_roi_extractor"
))  # fmt: skip
_TRAINING = "train_cfg.rcnn"
_LATER = re.compile(rf"({'|'.join(map(re.escape, (*_PARTS, _TRAINING)))})\.(\d+)\.(.+)")
_STDS = "bbox_coder.target_stds"
_IOUS = ("assigner.pos_iou_thr", "assigner.neg_iou_thr", "assigner.min_pos_iou")
# The only settings in which the stages may differ.
_OWN = {f"roi_head.bbox_head.{_STDS}", *(f"{_TRAINING}.{name}" for name in _IOUS)}


def by_stage(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model with the first stage's parts in place of lists, and the other stages' beside them.

    Args:
        model: Nested dictionaries. Entry 1 of ``roi_head.bbox_head`` becomes ``roi_head["bbox_head.1"]``.

    Example:
        >>> by_stage({"roi_head": {"bbox_head": [{"type": "A"}, {"type": "B"}]}})["roi_head"]
        {'bbox_head': {'type': 'A'}, 'bbox_head.1': {'type': 'B'}}
    """
    model = dict(model)
    for path in (*_PARTS, _TRAINING):
        section, name = path.split(".")
        outer = model.get(section)
        stages = outer.get(name) if isinstance(outer, Mapping) else None
        if not isinstance(stages, list | tuple) or not all(isinstance(part, Mapping) for part in stages):
            continue
        own = {f"{name}.{i}" if i else name: part for i, part in enumerate(stages)}
        model[section] = {**{key: value for key, value in outer.items() if key != name}, **own}
    return model


def _read(settings: Settings, config: Flat) -> None:
    """Read the stages of a cascade; the settings of later stages are taken out."""
    later = {key: match for key in settings.values if (match := _LATER.fullmatch(key))}
    if settings.values.get(TYPE.key) == CASCADE:
        _read_cascade(settings, config, {(match[1], int(match[2])) for match in later.values()})
    else:
        for part in dict.fromkeys(match[1] for match in later.values()):
            settings.problem(part, f"{part} is a list; supported: a dictionary, or a list with {CASCADE!r}")
    for key in later:
        del settings.values[key]


def _read_cascade(settings: Settings, config: Flat, later: set[tuple[str, int]]) -> None:
    """Read stages; ``later`` has the parts that are lists, with the number of each entry but the first."""
    trained = settings.has("train_cfg")
    count, weights = settings.get(COUNT), settings.get(WEIGHTS)
    if count is None or weights is None:
        return
    if len(weights) != count:
        settings.refuse(WEIGHTS.key, weights, f"a list of {count}, one for each stage", training=True)
        return
    for part in sorted({part for part, _ in later} | ({_TRAINING} if trained and count > 1 else set())):
        entries = {stage for name, stage in later if name == part}
        if entries != set(range(1, count)):
            text = f"{part} has no entry for some of the {count} stages; supported: a list with one for each"
            settings.problem(part, text, training=part == _TRAINING)
            return
        for stage in sorted(entries):
            _check_same(settings, part, stage)
    stages = []
    for i in range(count):
        values: dict[str, Any] = {"loss_weight": weights[i]}

        def get(part: str, name: str, conversion: Conversion, stage: int = i) -> Any:
            # A dictionary in place of a list stands for all stages.
            key = f"{part}.{stage}.{name}" if (part, stage) in later else f"{part}.{name}"
            return settings.get(Setting(key, MISSING, conversion, training=part == _TRAINING))

        values["box_weights"] = get("roi_head.bbox_head", _STDS, rows.RECIPROCALS)
        if trained:
            values["foreground_iou"], background = (get(_TRAINING, name, FRACTION) for name in _IOUS[:2])
            if background != values["foreground_iou"]:
                key = f"{_TRAINING}[{i}].{_IOUS[1]}"
                settings.refuse(key, background, "the same as pos_iou_thr", training=True)
        stages.append(BoxStageConfig(**{name: value for name, value in values.items() if value is not None}))
    config["box.stages"] = tuple(stages)
    for path in ("box.stages.0.foreground_iou", "box.stages.0.box_weights"):
        config.pop(path, None)


def _check_same(settings: Settings, part: str, stage: int) -> None:
    """Refuse what a stage has other than the first, unless it may."""
    first, own = (
        {key.removeprefix(prefix): x for key, x in settings.values.items() if key.startswith(prefix)}
        for prefix in (f"{part}.", f"{part}.{stage}.")
    )
    for name in dict.fromkeys((*first, *own)):
        key = f"{part}.{name}"
        if _LATER.fullmatch(key) or key in _OWN or rows.UNUSED.fullmatch(key):
            continue
        given, expected = own.get(name, MISSING), first.get(name, MISSING)
        if given is not expected and not only(expected).reads(given):
            here, there = ("not set" if x is MISSING else repr(x) for x in (given, expected))
            text = f"{part}[{stage}].{name} is {here}; supported: {there}, as in the first stage"
            settings.problem(f"{part}.{stage}.{name}", text, training=part == _TRAINING)


def write_stages(model: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Return a model with its stages, from that of its first stage; the counterpart of `PART`'s reading.

    Args:
        model: Nested dictionaries.
        config: The configuration.
    """
    stages, roi_head = config.box.stages, model["roi_head"]
    if len(stages) == 1:
        return {**model, "roi_head": {"type": "StandardRoIHead", **roi_head}}
    head, train = roi_head["bbox_head"], model["train_cfg"]
    heads, rcnn = [], []
    for stage in stages:
        stds = rows.RECIPROCALS.write(stage.box_weights)
        heads.append({**head, "bbox_coder": {**head["bbox_coder"], "target_stds": stds}})
        ious = {name.rpartition(".")[2]: stage.foreground_iou for name in _IOUS}
        rcnn.append({**train["rcnn"], "assigner": {**train["rcnn"]["assigner"], **ious}})
    cascade = {
        "type": CASCADE,
        "num_stages": len(stages),
        "stage_loss_weights": [stage.loss_weight for stage in stages],
        "bbox_head": heads,
    }
    return {
        **model,
        "type": "CascadeRCNN" if config.semantic is None else "PanopticFPN",
        "roi_head": {**roi_head, **cascade},
        "train_cfg": {**train, "rcnn": rcnn},
    }


# Stages are lists, which `write_stages` makes of a finished model.
PART = PartSettings(_read, lambda config: {}, lambda: {row.key for row in (TYPE, COUNT, WEIGHTS)})
