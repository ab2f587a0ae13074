"""Detectron2 as a source library."""

from jaxmaskrcnn.config import ModelConfig, PointRendConfig
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text, yaml_of_config
from jaxmaskrcnn.convert.extras import (
    AVERAGE,
    CLASS_AGNOSTIC,
    DEFORMABLE,
    NO_NECK,
    ONE_MASK,
    SIZES_FIRST,
    STAGES,
    Extra,
)
from jaxmaskrcnn.convert.library import Library, Limit
from jaxmaskrcnn.zoo.conventions import DETECTRON2


def _coarse_channels(config: ModelConfig) -> int:
    """Return by how many the channels that PointRend's coarse head reads are more than its own."""
    assert isinstance(config.mask, PointRendConfig)
    return config.mask.grid_levels * config.pooled_levels[0].channels - config.mask.dim


THINGS_FIRST = Extra(
    lambda c: c.semantic is not None and c.semantic.things == "first",
    "the class of all things comes first among the logits of its semantic head",
)
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
    has=(NO_NECK, AVERAGE, STAGES, ONE_MASK, CLASS_AGNOSTIC, DEFORMABLE, SIZES_FIRST, THINGS_FIRST),
    impossible=(
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
        *POINT_REND,
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
