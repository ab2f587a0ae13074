"""Names of Mask Scoring R-CNN's arrays in MMDetection, and its settings there; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import MaskScoringConfig, ModelConfig
from jaxmaskrcnn.models.heads import mask_names
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import number, whole
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import LINEAR, Names, flattened, weight_and_bias

LIBRARIES = ("mmdet",)

Flat = dict[str, Any]

# What MMDetection calls such a mask head, and the part that makes it one; its region heads and detector.
MMDET, MMDET_PART = "FCNMaskHead", "roi_head.mask_iou_head"
MMDET_HEADS, MMDET_DETECTOR = "MaskScoringRoIHead", "MaskScoringRCNN"


def names(library: str, part: MaskScoringConfig) -> Names:
    """Return the rows of a library; only MMDetection has such a head."""
    if library != "mmdet":
        return Names([], {})
    masks, head, own = mask_names.names(library, part), MMDET_PART, "mask_head.iou"
    rows = [
        *weight_and_bias(f"{head}.convs.{{i}}", f"{own}.convs.{{i}}"),
        *weight_and_bias(f"{head}.fcs.0", f"{own}.fcs.0", flattened(part.pool.size // 2)),
        *weight_and_bias(f"{head}.fcs.{{i}}", f"{own}.fcs.{{i}}", LINEAR),
        *weight_and_bias(f"{head}.fc_mask_iou", f"{own}.ious", LINEAR),
    ]
    return Names([*masks.rows, *rows], masks.vocabulary)


def read_structure(shapes: Shapes, what: str) -> Flat | None:
    """Infer settings from arrays; None if they are of another mask head."""
    masks, own = mask_names.read_structure(shapes, what), "mask_head.iou"
    if masks is None or f"{own}.ious.bias" not in shapes:
        return None
    return {
        **masks,
        "mask.iou_convs": count_layers(shapes, own + ".convs.{}.bias"),
        "mask.iou_dim": shapes[f"{own}.convs.0.bias"][0],
        "mask.iou_fcs": count_layers(shapes, own + ".fcs.{}.bias"),
        "mask.iou_fc_dim": shapes[f"{own}.fcs.0.bias"][0],
    }


def structure(config: ModelConfig) -> Flat:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.mask
    assert isinstance(part, MaskScoringConfig)
    own = {f"mask.{name}": getattr(part, name) for name in ("iou_convs", "iou_dim", "iou_fcs", "iou_fc_dim")}
    return mask_names.structure(config) | own


# -- MMDetection

_INPUTS = Setting(f"{MMDET_PART}.in_channels", 256, whole(1))
_SIDE = Setting(f"{MMDET_PART}.roi_feat_size", 14, whole(1))
_SETTINGS = (
    fixed(f"{MMDET_PART}.type", MISSING, "MaskIoUHead"),
    Setting(f"{MMDET_PART}.num_classes", 80, whole(1), "num_classes"),
    Setting(f"{MMDET_PART}.num_convs", 4, whole(1), "mask.iou_convs"),
    Setting(f"{MMDET_PART}.conv_out_channels", 256, whole(1), "mask.iou_dim"),
    Setting(f"{MMDET_PART}.num_fcs", 2, whole(1), "mask.iou_fcs"),
    Setting(f"{MMDET_PART}.fc_out_channels", 1024, whole(1), "mask.iou_fc_dim"),
    fixed(f"{MMDET_PART}.loss_iou.type", "MSELoss", "MSELoss", training=True),
)
_TRAINING = (
    Setting(
        "train_cfg.rcnn.mask_thr_binary", MISSING, number(-100, 100), "mask.iou_threshold", training=True
    ),
)
_WEIGHT = Setting(f"{MMDET_PART}.loss_iou.loss_weight", 1.0, number(), "mask.iou_loss_weight", training=True)
MMDET_KEYS = {row.key for row in (*_SETTINGS, *_TRAINING, _WEIGHT, _INPUTS, _SIDE)}


def read_mmdet(settings: Settings, config: Flat) -> None:
    """Read MMDetection's settings of the IoU head.

    Args:
        settings: The settings.
        config: Values by dotted path, with those of the mask head.
    """
    trained = settings.has("train_cfg")
    config |= settings.fields((*_SETTINGS, *(_TRAINING if trained else ())))
    if any(key.startswith(f"{MMDET_PART}.loss_iou.") for key in settings.values):
        config |= settings.fields((_WEIGHT,))  # without the part it is 0.5
    channels, side = config.get("neck.channels"), config.get("mask.pool.size")
    for row, expected, what in (
        (_INPUTS, channels, "the neck's out_channels"), (_SIDE, side, "the roi_layer's output_size"),
    ):  # fmt: skip
        given = settings.get(row)
        if None not in (given, expected) and given != expected:
            settings.refuse(row.key, given, f"{what}, {expected}")


def write_mmdet(config: ModelConfig) -> Flat:
    """The counterpart of `read_mmdet`."""
    part = config.mask
    assert isinstance(part, MaskScoringConfig)
    return {
        **write((*_SETTINGS, *_TRAINING, _WEIGHT), config, config),
        f"{MMDET_PART}.loss_iou.type": "MSELoss",
        _INPUTS.key: config.region_channels,
        _SIDE.key: part.pool.size,
    }
