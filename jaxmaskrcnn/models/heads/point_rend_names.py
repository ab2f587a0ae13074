"""Names of PointRend's arrays in other libraries, and its settings there; see `names/layers.py`."""

import math
from typing import Any

from jaxmaskrcnn.config import ModelConfig, PointRendConfig
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, levels, write
from jaxmaskrcnn.names.conversions import FLAG, FRACTION, Conversion, number, whole
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, LINEAR, Names, Row, Transform, flattened, weight_and_bias

LIBRARIES = ("detectron2", "mmdet")

Flat = dict[str, Any]

# What Detectron2 calls such a mask head, the second name until May 2020, and MMDetection its parts.
DETECTRON2 = ("PointRendMaskHead", "CoarseMaskHead")
MMDET = "CoarseMaskHead"
MMDET_HEADS, MMDET_DETECTOR = "PointRendRoIHead", "PointRend"

# torch's convolution over points [out, in, 1], and [in, out].
POINTWISE = Transform(lambda x: x.squeeze(2).transpose(1, 0), lambda x: x.transpose(1, 0)[..., None])


def names(library: str, part: PointRendConfig) -> Names:
    """Return the rows of a library; torchvision and matterport's Mask R-CNN have no such head."""
    coarse, points, first = "mask_head.coarse", "mask_head.points", flattened(part.grid // 2)
    count = {str(i + 1): str(i) for i in range(32)}
    if library == "mmdet":
        head, point_head = "roi_head.mask_head", "roi_head.point_head"
        rows = [
            *weight_and_bias(f"{head}.downsample_conv.conv", f"{coarse}.downsample"),
            *_layers(f"{head}.fcs.", f"{coarse}.fcs.", 0, first),
            *weight_and_bias(f"{head}.fc_logits", f"{coarse}.logits", LINEAR),
            *weight_and_bias(f"{point_head}.fcs.{{i}}.conv", f"{points}.fcs.{{i}}", POINTWISE),
            *weight_and_bias(f"{point_head}.fc_logits", f"{points}.logits", POINTWISE),
        ]
        return Names(rows, {})
    if library != "detectron2":
        return Names([], {})
    rows = []
    for head, older in (("roi_heads.mask_head.coarse_head", False), ("roi_heads.mask_coarse_head", True)):
        for fc, old in (("fc", older), ("coarse_mask_fc", True)):
            rows += _layers(f"{head}.{fc}", f"{coarse}.fcs.", 1, first, old)
        rows += [
            *weight_and_bias(f"{head}.reduce_channel_dim_conv", f"{coarse}.reduce", CONV, older),
            *weight_and_bias(f"{head}.reduce_spatial_dim_conv", f"{coarse}.downsample", CONV, older),
            *weight_and_bias(f"{head}.prediction", f"{coarse}.logits", LINEAR, older),
        ]
    for head, older in (("roi_heads.mask_head.point_head", False), ("roi_heads.mask_point_head", True)):
        rows += [
            *weight_and_bias(f"{head}.fc{{count}}", f"{points}.fcs.{{count}}", POINTWISE, older),
            *weight_and_bias(f"{head}.predictor", f"{points}.logits", POINTWISE, older),
        ]
    return Names(rows, {"count": count})


def _layers(source: str, target: str, first: int, flat: Transform, alias: bool = False) -> list[Row]:
    """Return the rows of fully connected layers, whose first one reads a flattened grid.

    Args:
        source: The library's names, up to the number.
        target: The model's paths, likewise.
        first: The library's number of the first layer.
        flat: Transform of the first layer.
        alias: As in `Row`.
    """
    key = "{i}" if first == 0 else "{count}"
    return [
        *weight_and_bias(f"{source}{first}", f"{target}0", flat, alias),
        *weight_and_bias(f"{source}{key}", f"{target}{key}", LINEAR, alias),
    ]


def read_structure(shapes: Shapes, what: str) -> Flat | None:
    """Infer settings from arrays; None if they are of another mask head."""
    if "mask_head.coarse.logits.bias" not in shapes:
        return None
    dim = shapes["mask_head.coarse.downsample.bias"][0]
    width = shapes["mask_head.coarse.fcs.0.bias"][0]
    # The transform of another grid leaves the axes in torch's order.
    cells = math.prod(shapes["mask_head.coarse.fcs.0.kernel"]) // (width * dim)
    last, point_dim = shapes["mask_head.points.logits.kernel"], shapes["mask_head.points.fcs.0.bias"][0]
    return {
        "mask.grid": 2 * math.isqrt(cells),
        "mask.channel_conv": "mask_head.coarse.reduce.bias" in shapes,
        "mask.dim": dim,
        "mask.fcs": count_layers(shapes, "mask_head.coarse.fcs.{}.bias"),
        "mask.fc_dim": width,
        "mask.point_fcs": count_layers(shapes, "mask_head.points.fcs.{}.kernel"),
        "mask.point_dim": point_dim,
        "mask.coarse_each_layer": last[0] > point_dim,
        "mask.class_agnostic": last[1] == 1,
    }


def structure(config: ModelConfig) -> Flat:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.mask
    assert isinstance(part, PointRendConfig)
    return {
        "mask.grid": part.grid,
        "mask.channel_conv": part.channel_conv and _coarse_channels(config) > part.dim,
        "mask.dim": part.dim,
        "mask.fcs": part.fcs,
        "mask.fc_dim": part.fc_dim,
        "mask.point_fcs": part.point_fcs,
        "mask.point_dim": part.point_dim,
        "mask.coarse_each_layer": part.coarse_each_layer,
        "mask.class_agnostic": part.class_agnostic or config.num_classes == 1,
    }


def _coarse_channels(config: ModelConfig) -> int:
    assert isinstance(config.mask, PointRendConfig)
    return config.mask.grid_levels * config.pooled_levels[0].channels


# -- Detectron2

_HEAD, _POINTS = "MODEL.ROI_MASK_HEAD", "MODEL.POINT_HEAD"
_POOLER = fixed(f"{_HEAD}.POOLER_TYPE", "ROIAlignV2", "")
_FEATURES = {"mask.grid_levels": f"{_HEAD}.IN_FEATURES", "mask.point_levels": f"{_POINTS}.IN_FEATURES"}
_FACTOR = Conversion(
    "whole numbers of at least 1", lambda x: float(whole(1).read(x)), lambda x: int(x) if x == int(x) else x
)
_SETTINGS = (
    Setting(f"{_HEAD}.POOLER_RESOLUTION", 14, whole(1), "mask.grid"),
    Setting(f"{_HEAD}.CONV_DIM", 256, whole(1), "mask.dim"),
    Setting(f"{_HEAD}.NUM_FC", 2, whole(1), "mask.fcs"),
    Setting(f"{_HEAD}.FC_DIM", 1024, whole(1), "mask.fc_dim"),
    Setting(f"{_HEAD}.OUTPUT_SIDE_RESOLUTION", 7, whole(1), "mask.coarse_side"),
    fixed(f"{_HEAD}.POINT_HEAD_ON", False, True),
    fixed(f"{_POINTS}.NAME", "StandardPointHead", "StandardPointHead"),
    Setting(f"{_POINTS}.NUM_CLASSES", 80, whole(1), "num_classes"),
    Setting(f"{_POINTS}.NUM_FC", 3, whole(1), "mask.point_fcs"),
    Setting(f"{_POINTS}.FC_DIM", 256, whole(1), "mask.point_dim"),
    Setting(f"{_POINTS}.CLS_AGNOSTIC_MASK", False, FLAG, "mask.class_agnostic"),
    Setting(f"{_POINTS}.COARSE_PRED_EACH_LAYER", True, FLAG, "mask.coarse_each_layer"),
    Setting(f"{_POINTS}.TRAIN_NUM_POINTS", 196, whole(1), "mask.train_points", training=True),
    Setting(f"{_POINTS}.OVERSAMPLE_RATIO", 3, _FACTOR, "mask.oversampling", training=True),
    Setting(f"{_POINTS}.IMPORTANCE_SAMPLE_RATIO", 0.75, FRACTION, "mask.importance", training=True),
    Setting(f"{_POINTS}.SUBDIVISION_STEPS", 5, whole(1, 8), "mask.subdivisions"),
    Setting(f"{_POINTS}.SUBDIVISION_NUM_POINTS", 784, whole(1), "mask.subdivision_points"),
)
_UNUSED = (f"{_POINTS}.COARSE_SEM_SEG_HEAD_NAME", "INPUT.COLOR_AUG_SSD")
DETECTRON2_KEYS = {*(row.key for row in _SETTINGS), *_FEATURES.values(), *_UNUSED}


def read_detectron2(settings: Settings, config: Flat) -> None:
    """Read Detectron2's settings of the head."""
    config |= settings.fields(_SETTINGS)
    if settings.values.get(f"{_HEAD}.NAME") == DETECTRON2[0]:
        settings.fields((_POOLER,))
    if config.get("mask.targets") == "polygon":
        settings.refuse("INPUT.MASK_FORMAT", "polygon", f"'bitmask' with {DETECTRON2[0]!r}", training=True)
        config["mask.targets"] = None
    pooled = settings.values.get("MODEL.ROI_HEADS.IN_FEATURES", ())
    pooled = list(pooled) if isinstance(pooled, list | tuple) else []
    for path, key in _FEATURES.items():
        given = settings.values.get(key, ("p2",))
        count = len(given) if isinstance(given, list | tuple) else 0
        if count and list(given) == pooled[:count]:
            config[path] = count
        else:
            settings.refuse(key, given, f"the first ones of MODEL.ROI_HEADS.IN_FEATURES, {pooled}")


def write_detectron2(config: ModelConfig, usual: ModelConfig) -> Flat:
    """The counterpart of `read_detectron2`."""
    part = config.mask
    assert isinstance(part, PointRendConfig)
    pooled = (
        [f"p{i + 2}" for i in range(len(config.pooled_levels))]
        if config.neck is not None
        else [f"res{stage}" for stage in config.get("backbone.outputs")]
    )
    return {
        **write(_SETTINGS, config, config),
        f"{_HEAD}.NAME": DETECTRON2[0],
        _POOLER.key: "",
        "INPUT.MASK_FORMAT": "bitmask",
        **{key: pooled[: config.get(path)] for path, key in _FEATURES.items()},
    }


# -- MMDetection

_COARSE, _POINT, _POOL = "roi_head.mask_head", "roi_head.point_head", "roi_head.mask_roi_extractor"
_STRIDES = f"{_POOL}.featmap_strides"
_INPUTS = Setting(f"{_POINT}.in_channels", 256, whole(1))
_SIDE = Setting(f"{_COARSE}.roi_feat_size", 14, whole(1))
_MASK_SIZE = Setting("train_cfg.rcnn.mask_size", MISSING, whole(1), training=True)
_PARTS = (
    fixed(f"{_POOL}.type", MISSING, "GenericRoIExtractor"),
    fixed(f"{_POOL}.aggregation", "sum", "concat"),
    fixed(f"{_POOL}.pre_cfg", None, None),
    fixed(f"{_POOL}.post_cfg", None, None),
    fixed(f"{_POOL}.roi_layer.type", MISSING, "SimpleRoIAlign"),
    fixed(f"{_POOL}.roi_layer.aligned", True, True),
    Setting(f"{_POOL}.roi_layer.output_size", MISSING, whole(1), "mask.grid"),
    fixed(f"{_COARSE}.num_convs", 0, 0),
    fixed(f"{_COARSE}.downsample_factor", 2, 2),
    fixed(f"{_COARSE}.conv_cfg", None, None),
    fixed(f"{_COARSE}.norm_cfg", None, None),
    fixed(f"{_COARSE}.class_agnostic", False, False),
    Setting(f"{_COARSE}.num_classes", 80, whole(1), "num_classes"),
    Setting(f"{_COARSE}.conv_out_channels", 256, whole(1), "mask.dim"),
    Setting(f"{_COARSE}.num_fcs", 2, whole(1), "mask.fcs"),
    Setting(f"{_COARSE}.fc_out_channels", 1024, whole(1), "mask.fc_dim"),
    fixed(f"{_COARSE}.loss_mask.type", "CrossEntropyLoss", "CrossEntropyLoss", training=True),
    fixed(f"{_COARSE}.loss_mask.use_mask", True, True, training=True),
    fixed(f"{_COARSE}.loss_mask.loss_weight", 1.0, 1.0, training=True),
    fixed(f"{_POINT}.type", MISSING, "MaskPointHead"),
    fixed(f"{_POINT}.conv_cfg.type", "Conv1d", "Conv1d"),
    fixed(f"{_POINT}.norm_cfg", None, None),
    fixed(f"{_POINT}.act_cfg.type", "ReLU", "ReLU"),
    fixed(f"{_POINT}.class_agnostic", False, False),
    Setting(f"{_POINT}.num_classes", MISSING, whole(1), "num_classes"),
    Setting(f"{_POINT}.num_fcs", 3, whole(1), "mask.point_fcs"),
    Setting(f"{_POINT}.fc_channels", 256, whole(1), "mask.point_dim"),
    Setting(f"{_POINT}.coarse_pred_each_layer", True, FLAG, "mask.coarse_each_layer"),
    fixed(f"{_POINT}.loss_point.type", "CrossEntropyLoss", "CrossEntropyLoss", training=True),
    fixed(f"{_POINT}.loss_point.use_mask", True, True, training=True),
    fixed(f"{_POINT}.loss_point.loss_weight", 1.0, 1.0, training=True),
    Setting("test_cfg.rcnn.subdivision_steps", MISSING, whole(1, 8), "mask.subdivisions"),
    Setting("test_cfg.rcnn.subdivision_num_points", MISSING, whole(1), "mask.subdivision_points"),
    fixed("test_cfg.rcnn.scale_factor", MISSING, 2),
)
_TRAINING = (
    Setting("train_cfg.rcnn.num_points", MISSING, whole(1), "mask.train_points", training=True),
    Setting("train_cfg.rcnn.oversample_ratio", MISSING, number(1), "mask.oversampling", training=True),
    Setting("train_cfg.rcnn.importance_sample_ratio", MISSING, FRACTION, "mask.importance", training=True),
)
MMDET_KEYS = {*(row.key for row in (*_PARTS, *_TRAINING, _INPUTS, _SIDE, _MASK_SIZE)), _STRIDES}


def read_mmdet(settings: Settings, config: Flat) -> None:
    """Read MMDetection's settings of both heads.

    Args:
        settings: The settings.
        config: Values by dotted path, with those of the backbone and the neck.
    """
    trained = settings.has("train_cfg")
    config |= settings.fields((*_PARTS, *(_TRAINING if trained else ())))
    config |= {"mask.channel_conv": False, "mask.first_map": "coarse"}
    found = levels(settings.usual, config)
    pooled = [level.stride for level in found]
    given = settings.values.get(_STRIDES)
    strides = list(given) if isinstance(given, list | tuple) else []
    count = len(strides)
    if not count or strides != pooled[:count]:
        settings.refuse(_STRIDES, given, f"the first ones of the levels' strides, {pooled}")
        return
    config |= {"mask.grid_levels": count, "mask.point_levels": count}
    channels = settings.get(_INPUTS)
    if channels not in (None, count * found[0].channels):
        settings.refuse(_INPUTS.key, channels, f"the channels of the features, {count * found[0].channels}")
    grid, side = config["mask.grid"], settings.get(_SIDE)
    if None in (grid, side):
        return
    if side != grid:
        settings.refuse(_SIDE.key, side, f"the roi_layer's output_size, {grid}")
    config["mask.coarse_side"] = side // 2
    size = settings.get(_MASK_SIZE) if trained else None
    if size not in (None, side // 2):
        settings.refuse(_MASK_SIZE.key, size, f"half of the roi_layer's output_size, {side // 2}", True)


def write_mmdet(config: ModelConfig) -> Flat:
    """The counterpart of `read_mmdet`."""
    part, channels = config.mask, _coarse_channels(config)
    assert isinstance(part, PointRendConfig)
    return {
        **write((*_PARTS, *_TRAINING), config, config),
        f"{_COARSE}.type": MMDET,
        f"{_COARSE}.in_channels": channels,
        _SIDE.key: part.grid,
        _MASK_SIZE.key: part.coarse_side,
        _INPUTS.key: channels,
        _STRIDES: [level.stride for level in config.pooled_levels[: part.grid_levels]],
        f"{_POOL}.out_channels": channels,
    }
