"""Detectron2 as a source library."""

from jaxmaskrcnn.config import ModelConfig, PointRendConfig
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text, yaml_of_config
from jaxmaskrcnn.convert.library import (
    KERAS_LAYERS,
    MMDET_LAYERS,
    RPN_NORM,
    SEESAW,
    STAGE_MASKS,
    STANDARDISED,
    Library,
    Limit,
    has_fcn,
    other_order,
    things_elsewhere,
)
from jaxmaskrcnn.convert.structure import names_file
from jaxmaskrcnn.zoo.conventions import DETECTRON2


def _coarse_channels(config: ModelConfig) -> int:
    """Return by how many the channels that PointRend's coarse head reads are more than its own."""
    assert isinstance(config.mask, PointRendConfig)
    return config.mask.grid_levels * config.pooled_levels[0].channels - config.mask.dim


POINT_REND: tuple[Limit, ...] = (
    (
        lambda c: isinstance(c.mask, PointRendConfig) and _coarse_channels(c) < 0,
        "its coarse masks are predicted with more channels (mask.dim) than the feature maps have",
    ),
    (
        lambda c: isinstance(c.mask, PointRendConfig) and _coarse_channels(c) > 0 and not c.mask.channel_conv,
        "its coarse masks are predicted from many channels without a 1x1 convolution (mask.channel_conv)",
    ),
)


LIBRARY = Library(
    name="detectron2",
    title="Detectron2",
    convention=DETECTRON2,
    signature="proposal_generator.rpn_head.objectness_logits.weight",
    # Older files also hold these constants of the model.
    ignorable=(
        r".*\.num_batches_tracked",
        r"pixel_(mean|std)",
        r".*\.relative_position_index",
        r"proposal_generator\.anchor_generator\.cell_anchors\.\d+",
    ),
    frozen_counters=False,
    input_names=("pixel_mean", "pixel_std"),
    config_file="a Detectron2 yaml",
    config_suffixes=(".yaml", ".yml"),
    read_settings=config_from_yaml_text,
    write_settings=yaml_of_config,
    impossible=(
        (
            lambda c: not hasattr(names_file(c.backbone), "DETECTRON2"),
            "no yaml setting there describes its backbone",
        ),
        (lambda c: c.neck is not None and c.neck.kind != "fpn", "its neck is not a feature pyramid"),
        (
            lambda c: c.neck is None and len(c.backbone.levels) > 1,
            "it has several feature maps but no feature pyramid",
        ),
        (
            lambda c: c.neck is not None and c.trunk is not None,
            "it has both a feature pyramid and a trunk",
        ),
        (
            lambda c: c.box.average != (c.trunk is not None),
            "it has either box.average or a trunk, but not both",
        ),
        (
            # WIDTH_PER_GROUP counts the channels of the first stage, and doubles from stage to stage.
            lambda c: (
                c.backbone.kind == "resnet"
                and c.backbone.depth >= 50
                and bool(c.backbone.width * c.backbone.width_per_group % 64)
            ),
            "the channels of its bottlenecks do not double from stage to stage",
        ),
        (lambda c: len(c.box.stages) > 1 and c.trunk is not None, "it has several box stages and a trunk"),
        (
            lambda c: len(c.box.stages) > 1 and not c.box.class_agnostic,
            "it has several box stages that are not class-agnostic",
        ),
        STAGE_MASKS,
        (
            lambda c: c.mask is not None and not has_fcn(c) and not hasattr(names_file(c.mask), "DETECTRON2"),
            "its mask head does not exist there",
        ),
        *POINT_REND,
        *KERAS_LAYERS,
        RPN_NORM,
        *MMDET_LAYERS,
        STANDARDISED,
        SEESAW,
        things_elsewhere("first"),
        other_order("size"),
    ),
    limits=(
        (
            lambda c: (
                isinstance(c.mask, PointRendConfig)
                and 4 * c.mask.map_sides[-1] ** 2 <= c.mask.subdivision_points
            ),
            "it fails where mask.subdivision_points are more than the cells of the last mask",
        ),
        (
            lambda c: c.backbone.depth < 50 and c.backbone.width != 64,
            "its builder supports ResNet-18 and ResNet-34 only with a stem of 64 channels",
        ),
    ),
)
