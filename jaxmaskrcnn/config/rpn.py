"""Settings of the region proposal network and its anchors.

The defaults are torchvision's ``maskrcnn_resnet50_fpn``.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from jaxmaskrcnn.config.backbones import Norm, check_groups
from jaxmaskrcnn.config.heads import BoxHeadLossConfig, BoxWeights, DeltaClamp, check_positives
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Count, Fraction, NotNegative, Range, Whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorConfig(Part):
    """The anchors of every cell, level by level.

    Every level has equally many (its sizes times its ratios) because the levels share one RPN head.

    Example:
        >>> AnchorConfig(sizes=(32, 64), ratios=(0.5, 1.0)).per_level
        (((32.0,), (0.5, 1.0)), ((64.0,), (0.5, 1.0)))
    """

    # Square roots of the areas in pixels, for each level; a number is a level with one size.
    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    # Height / width, for all levels or as a group for each level.
    ratios: tuple[float, ...] | tuple[tuple[float, ...], ...] = (0.5, 1.0, 2.0)
    order: Literal["ratio", "size"] = "ratio"  # which changes slowest among the anchors of a cell
    rounding: bool = True  # base anchors rounded to whole pixels; with base "size"
    # stride: the sides of a square of the stride, rounded for each ratio, enlarged to the size (Detectron)
    base: Literal["size", "stride"] = "size"
    offset: Fraction = 0.0  # of the anchors' centres from their cell's origin, as a share of the stride
    stride: Literal["derived", "fixed"] = "derived"  # derived: extent // feature size; fixed: the level's own

    def __post_init__(self):
        super().__post_init__()
        groups = bool(self.ratios) and isinstance(self.ratios[0], tuple)
        if groups and len(self.ratios) != len(self.sizes):
            raise ConfigError(
                f"AnchorConfig.ratios has {len(self.ratios)} groups and AnchorConfig.sizes "
                f"{len(self.sizes)}; give one group of ratios for each level, or the same ratios for all."
            )
        counts = {len(sizes) * len(ratios) for sizes, ratios in self.per_level}
        if len(counts) != 1 or 0 in counts or any(x <= 0 for pair in self.per_level for y in pair for x in y):
            raise ConfigError(
                f"AnchorConfig has the sizes {self.sizes!r} and ratios {self.ratios!r}; give positive "
                "numbers, and the same number of anchors for each level."
            )

    @property
    def per_level(self) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
        """Sizes and ratios of each level."""
        ratios: list[Any] = list(self.ratios)
        if not ratios or not isinstance(ratios[0], tuple):  # the same numbers for every level
            ratios = [self.ratios] * len(self.sizes)
        return tuple((s, ratios[i]) for i, s in enumerate(self.sizes))

    @property
    def per_cell(self) -> int:
        """The number of anchors per cell, A."""
        sizes, ratios = self.per_level[0]
        return len(sizes) * len(ratios)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RPNLossConfig(BoxHeadLossConfig):
    """The losses of the region proposal network: of its boxes as the box head's, and of its objectness.

    Example:
        >>> RPNLossConfig(form="giou", objectness="focal", gamma=1.5).gamma
        1.5
    """

    objectness: Literal["cross_entropy", "focal"] = "cross_entropy"
    gamma: NotNegative = 2.0  # of "focal": exponent of the distance from the target
    alpha: Fraction = 0.25  # of "focal": factor of positives; that of negatives is 1 - alpha
    objectness_weight: NotNegative = 1.0  # factor of the loss

    def __post_init__(self):
        super().__post_init__()
        for name, default in (("gamma", 2.0), ("alpha", 0.25)):
            if getattr(self, name) != default and self.objectness != "focal":
                raise ConfigError(
                    f"RPNLossConfig.{name} is {getattr(self, name)!r}, but it is for the objectness 'focal'; "
                    f"here it is {self.objectness!r}."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RPNConfig(Part):
    """Region proposal network: head (`models/rpn.py`), proposals (`models/proposals.py`), losses."""

    names: ClassVar[str] = "jaxmaskrcnn.models.rpn_names"
    anchors: AnchorConfig = AnchorConfig()
    convs: Count = 1
    conv_dim: Whole = 0  # channels of the convolutions; 0: as many as the levels have
    norm: Norm = "none"
    # sigmoid: one logit per anchor; softmax: one for the background and one for an object
    objectness: Literal["sigmoid", "softmax"] = "sigmoid"
    box_weights: BoxWeights = (1.0, 1.0, 1.0, 1.0)
    ranking: Literal["logit", "probability"] = "logit"
    nms_scope: Literal["level", "image"] = "level"  # whether levels are ranked and suppressed separately
    pre_nms_train: Count = 2000  # per level, or per image with nms_scope "image"
    pre_nms_test: Count = 1000
    post_nms_train: Count = 2000  # per image
    post_nms_test: Count = 1000
    nms_threshold: NotNegative = 0.7
    min_side: NotNegative = 1e-3  # torchvision keeps sides >= 1e-3, the others sides > 0
    # keep: boxes of any size are proposals, also the zeros in slots that no anchor fills (matterport)
    empty_boxes: Literal["drop", "keep"] = "drop"
    clip: Literal["image", "canvas"] = "image"  # where proposals end: with the image, or with its padding
    delta_clamp: DeltaClamp = "max"
    foreground_iou: Fraction = 0.7
    background_iou: Fraction = 0.3
    low_quality: Literal["label", "reassign"] = (
        "label"  # label: keeps its own best object; MMDetection reassigns
    )
    low_quality_min_iou: Fraction = 0.0
    iou_epsilon: NotNegative = 0.0  # lower limit of the union area in matching (MMDetection: 1e-6)
    crowd: Literal["ignore", "drop"] = "ignore"  # ignore: inside a crowd neither positive nor negative
    crowd_overlap: Fraction = 0.5  # share of a box inside a crowd region at which the box is ignored
    batch_size: Count = 256  # anchors sampled per image
    positive_fraction: Fraction = 0.5
    loss_count: Literal["sampled", "constant"] = "sampled"  # constant: batch_size * images
    # pixels by which an anchor may cross the image's border to be learnt from; -1: any number
    border: Annotated[int, Range(-1)] = -1
    # ignore: no anchor is learnt from where an image is padded only because others of its batch are larger
    batch_padding: Literal["count", "ignore"] = "count"
    loss: RPNLossConfig = RPNLossConfig()

    def __post_init__(self):
        super().__post_init__()
        check_positives(self)
        if self.conv_dim:
            check_groups(self.norm, self.conv_dim, "RPNConfig.conv_dim")
        if self.background_iou > self.foreground_iou:
            raise ConfigError(
                f"RPNConfig.background_iou is {self.background_iou:g} and foreground_iou "
                f"{self.foreground_iou:g}; give a background_iou that is not above foreground_iou, as an "
                "anchor is one or the other."
            )


# -- regions of interest
