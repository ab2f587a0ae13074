"""MMDetection as a source library."""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.config import MaskScoringConfig, PointRendConfig
from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.convert.extras import (
    AVERAGE,
    CLASS_AGNOSTIC,
    DEFORMABLE,
    NO_NECK,
    RATIOS_FIRST,
    SIZES_FIRST,
    STAGE_MASKS,
    STAGES,
    Extra,
)
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.mmdet.levels import scales_and_bases
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text, text_of_config
from jaxmaskrcnn.convert.mmdet.table import PARTS
from jaxmaskrcnn.models.heads.point_rend_names import structure
from jaxmaskrcnn.zoo.conventions import MMDET


def config_inside(attributes: Mapping[str, Any]) -> str | None:
    """Return the text of the config that MMDetection writes into its checkpoints."""
    meta = attributes.get("meta")
    texts = [meta.get(key) for key in ("cfg", "config")] if isinstance(meta, dict) else []
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


def class_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes that MMDetection writes into its checkpoints; () if there are none.

    Version 3 has them in the data set's description, version 2 in ``meta`` itself.
    """
    meta = attributes.get("meta")
    if not isinstance(meta, dict):
        return ()
    dataset = meta.get("dataset_meta")
    places = [dataset if isinstance(dataset, dict) else {}, meta]
    for place in places:
        for key in ("classes", "CLASSES"):
            names = place.get(key)
            names = [names] if isinstance(names, str) else names
            if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return ()


# What only its models have; the parts have further ones.
EXTRAS = (
    Extra(
        lambda c: any(
            getattr(part, "norm", None) == "gn_ws"
            for part in (c.backbone, c.neck, c.rpn, c.box, c.mask, c.semantic)
        ),
        "it standardises the kernels of convolutions (the norm gn_ws)",
    ),
    *(extra for part in PARTS for extra in part.has),
)

LIBRARY = Library(
    name="mmdet",
    title="MMDetection",
    convention=MMDET,
    signature="rpn_head.rpn_cls.weight",
    ignorable=(
        r".*\.(num_batches_tracked|relative_position_index|attn_mask)",
        r"data_preprocessor\.(mean|std)",
    ),
    frozen_counters=True,
    input_names=("data_preprocessor.mean", "data_preprocessor.std"),
    config_file="an MMDetection config file",
    config_suffixes=(".py",),
    config_inside=config_inside,
    class_names=class_names,
    # CocoDataset takes pycocotools' getCatIds, which are in the order of the json's list.
    label_order="list",
    read_settings=config_from_mmdet_text,
    write_settings=text_of_config,
    has=(
        *(NO_NECK, AVERAGE, STAGES, STAGE_MASKS, CLASS_AGNOSTIC, DEFORMABLE, RATIOS_FIRST, SIZES_FIRST),
        *EXTRAS,
    ),
    impossible=(
        (
            lambda c: c.neck is None and (c.backbone.kind != "resnet" or len(c.backbone.levels) > 1),
            "without a feature pyramid, only one feature map of a ResNet",
        ),
        (
            lambda c: c.box.average != (c.trunk is not None),
            "it has either box.average or a trunk, but not both",
        ),
        (
            lambda c: (
                c.trunk is not None
                and (c.backbone.width != 64 or c.backbone.groups > 1 or c.backbone.norm in GROUP_NORMS)
            ),
            "its trunk is not the last stage of a ResNet with 64 channels and batch norm",
        ),
        (lambda c: c.trunk is not None and len(c.box.stages) > 1, "it has several box stages and a trunk"),
        (
            lambda c: (
                isinstance(c.mask, PointRendConfig)
                and (c.mask.grid != 2 * c.mask.coarse_side or c.mask.grid_levels != c.mask.point_levels)
            ),
            "the grid of its coarse masks is not twice their side, or not of the points' feature maps",
        ),
        (
            lambda c: (
                isinstance(c.mask, PointRendConfig)
                and (c.mask.class_agnostic or structure(c)["mask.channel_conv"])
            ),
            "its points are class-agnostic, or a 1x1 convolution comes before its coarse masks",
        ),
        (
            lambda c: isinstance(c.mask, MaskScoringConfig) and c.mask.class_agnostic,
            "its mask head predicts the IoUs of class-agnostic masks",
        ),
        (
            lambda c: scales_and_bases(c) is None,
            "its anchor sizes are not the same multiples of a base size on every level",
        ),
        (
            lambda c: len({ratios for _, ratios in c.rpn.anchors.per_level}) > 1,
            "its anchors have different ratios on different levels",
        ),
        (
            lambda c: (
                c.backbone.kind == "resnet"
                and c.backbone.depth >= 50
                and c.backbone.groups == 1
                and c.backbone.width_per_group != 64
            ),
            "its backbone is a wide ResNet",
        ),
    ),
    limits=(),
)
