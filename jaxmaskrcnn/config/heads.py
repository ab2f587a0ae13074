"""Settings of what follows the proposals: regions, box head and mask head.

The defaults are torchvision's ``maskrcnn_resnet50_fpn``.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import abc
import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from jaxmaskrcnn.config.backbones import BackboneConfig, ResNetConfig, check_groups
from jaxmaskrcnn.config.class_scores import SCORES, ClassLossConfig, Scores
from jaxmaskrcnn.config.losses import MaskLossConfig
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.upsampling import UpsampleConfig
from jaxmaskrcnn.config.values import ConfigError, Count, Fraction, NotNegative, Positive, Rule, Whole

DeltaClamp = Literal["max", "both", "none"]  # limits of dw and dh: the upper one only, both, or none
# bn_eval: fixed statistics; gn_ws: after standardised kernels
HeadNorm = Literal["none", "bn", "bn_eval", "gn", "gn_ws", "ln"]
BoxWeights = tuple[Positive, Positive, Positive, Positive]  # of dx, dy, dw, dh


class Classes(NamedTuple):
    """The number of classes, and the position of the background among their logits.

    Attributes:
        count: Number of object classes, K.
        background: "first" or "last".
        more_logits: Number of logits between those of the classes and the background's, which comes last
            then; see `ScoresKind`.

    Example:
        >>> classes = Classes(3, "first")
        >>> classes.logits, classes.offset, classes.background_channel
        (4, 1, 0)
    """

    count: int
    background: str
    more_logits: int = 0

    @property
    def logits(self) -> int:
        """Number of logits, K + 1 and ``more_logits``."""
        return self.count + 1 + self.more_logits

    @property
    def offset(self) -> int:
        """Channel of the first object class: 1 if the background comes first, else 0."""
        return 1 if self.background == "first" else 0

    @property
    def background_channel(self) -> int:
        """Channel of the background."""
        return 0 if self.background == "first" else self.count + self.more_logits


# -- region proposal network


def check_positives(part: Any) -> None:
    """Check that a sample can have a positive.

    Args:
        part: RPNConfig or RegionConfig.

    Raises:
        ConfigError: Its ``batch_size`` times its ``positive_fraction`` is below 1.
    """
    if part.batch_size * part.positive_fraction < 1:
        raise ConfigError(
            f"{type(part).__name__}.batch_size is {part.batch_size} and positive_fraction "
            f"{part.positive_fraction:g}, which leaves no place for a positive; give numbers whose product "
            "is at least 1."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxLossConfig(Part):
    """The loss of box deltas."""

    beta: NotNegative = 1.0 / 9.0  # where smooth L1 begins to be linear; 0: plain L1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxHeadLossConfig(BoxLossConfig):
    """The loss of the box head's boxes."""

    # of what: the deltas, or the IoU of the boxes that they make (`losses/box_ious.py`)
    form: Literal["smooth_l1", "iou", "giou", "bounded_iou", "diou", "ciou"] = "smooth_l1"
    weight: NotNegative = 1.0  # factor of the loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionConfig(Part):
    """The choice of regions that the heads are trained on (`losses/assignment.py`)."""

    ground_truth_proposals: Literal["append", "prepend"] = "append"
    batch_size: Count = 512
    positive_fraction: Fraction = 0.25
    # hard: of the first stage, those with the largest losses of their class (online hard example mining)
    sampling: Literal["random", "hard"] = "random"
    low_quality: Literal["none", "label", "reassign"] = "none"  # as in RPNConfig
    iou_epsilon: NotNegative = 0.0  # these three as in RPNConfig
    crowd: Literal["ignore", "drop"] = "ignore"
    crowd_overlap: Fraction = 0.5
    # where masks and keypoints are learned: in the sampled regions, or in what the box head makes of them
    head_boxes: Literal["sampled", "predicted"] = "sampled"
    # of the later stages of a cascade: all boxes of the stage before, or a new sample of them and the objects
    later_stages: Literal["match", "sample"] = "match"
    empty_boxes: Literal["drop", "keep"] = "drop"  # in later stages: boxes that the stage before made empty

    def __post_init__(self):
        super().__post_init__()
        check_positives(self)

    @property
    def positive_slots(self) -> int:
        """Number of the first regions of a sample, among which all positive ones are."""
        return int(self.batch_size * self.positive_fraction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolConfig(Part):
    """The pooling of a head's regions (`models/pooling.py`)."""

    # align: RoIAlign; corners: one sample a bin, the outer ones on the region's corners (crop_and_resize)
    method: Literal["align", "corners"] = "align"
    size: Count = 7  # side of the output
    sampling_ratio: Whole = 2  # samples per side of a bin; 0: adaptive
    aligned: bool = False  # half a pixel is subtracted from the coordinates
    inclusive: bool = False  # a box ends at its last pixel's index, a pixel earlier (Detectron)
    # where an epsilon is added: to the logarithm, to side / 224, or to side / 56; rounded: nearest level
    level_rule: Literal["log_epsilon", "side_epsilon", "finest_epsilon", "rounded"] = "log_epsilon"
    scale: Literal["inferred", "stride"] = "inferred"  # inferred: 2^round(log2(feature / image))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrunkConfig(Part):
    """Layers between the pooled regions and all heads; the classes below are its kinds.

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class". It is built from this configuration and
            the backbone's, and called as ``trunk(regions, mask, train)``.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]

    @abc.abstractmethod
    def channels(self, backbone: BackboneConfig) -> int:
        """Return the channels of its output."""

    def channels_in(self, backbone: BackboneConfig) -> int:
        """Return the channels of its input: those of the backbone's last feature map."""
        return backbone.levels[-1].channels

    @abc.abstractmethod
    def side(self, size: int) -> int:
        """Return the side of its output for regions with sides of ``size``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Res5Config(TrunkConfig):
    """The last stage of a ResNet, which models on C4 apply to regions (`models/heads/res5.py`).

    The backbone's configuration determines its blocks.

    Example:
        >>> trunk = Res5Config()
        >>> trunk.channels(ResNetConfig(outputs=(4,))), trunk.side(14)
        (2048, 7)
    """

    kind: ClassVar[str] = "res5"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.res5:Res5"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.res5_names"

    def channels(self, backbone: BackboneConfig) -> int:
        """Return the channels of C5.

        Raises:
            ConfigError: The backbone is not a ResNet that ends with C4.
        """
        if not isinstance(backbone, ResNetConfig) or backbone.outputs[-1] != 4:
            raise ConfigError(
                "ModelConfig.trunk is 'res5', the last stage of a ResNet, but the backbone is "
                f"{backbone!r}; give it a ResNet whose outputs are (4,)."
            )
        return backbone.stage(5).channels

    def side(self, size: int) -> int:
        """Return half of ``size``, as the stage begins with a stride of 2."""
        return -(-size // 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxStageConfig(Part):
    """One stage of the box head; Faster R-CNN has one, a cascade several."""

    foreground_iou: Fraction = 0.5  # regions with at least this IoU are positive, all others negative
    box_weights: BoxWeights = (10.0, 10.0, 5.0, 5.0)
    loss_weight: NotNegative = 1.0  # of the stage's losses, with those of its mask head if it has its own


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedConfig(Part):
    """The classes of an image that its loss counts, where not all of its classes are annotated.

    They are those of its regions, with the background, and others that are drawn (`losses/federated.py`).
    """

    kind: ClassVar[str] = "federated"
    classes: Count = 50  # how many there are at least
    power: NotNegative = 0.5  # of the number of a class's training images, with which it is drawn
    # training images of each class; (): those of the training data, which a run writes here
    image_counts: tuple[Whole, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxConfig(Part):
    """Box head (`models/heads/box.py`, `losses/heads.py`)."""

    names: ClassVar[str] = "jaxmaskrcnn.models.heads.box_names"
    pool: PoolConfig = PoolConfig()
    convs: Whole = 0
    conv_dim: Count = 256
    fcs: Whole = 2
    fc_dim: Count = 1024
    norm: HeadNorm = "none"  # of the convolutions
    fc_norm: Literal["none", "bn", "bn_eval"] = "none"  # of the fully connected layers
    norm_epsilon: NotNegative = 1e-5  # of both
    average: bool = False  # average over a region's cells instead of flattening them
    class_agnostic: bool = False
    delta_clamp: DeltaClamp = "max"
    # above 0: logits of classes are this number times the cosine of features and weights, and a bias
    cosine_scale: NotNegative = 0.0
    scores: Scores = "softmax"
    federated: FederatedConfig | None = None  # with sigmoids: None counts all classes in every image
    class_loss: ClassLossConfig = ClassLossConfig()
    loss: BoxHeadLossConfig = BoxHeadLossConfig()
    stages: Annotated[
        tuple[BoxStageConfig, ...],
        Rule(bool, "one or more BoxStageConfig, whose settings are box.stages.0.*"),
    ] = (BoxStageConfig(),)
    # With several stages: what their mean is taken of, before or after the softmax or sigmoid
    stage_scores: Literal["probability", "logit"] = "probability"
    # divided: each stage passes 1 / stages of its gradient on to the feature maps
    stage_gradient: Literal["whole", "divided"] = "whole"

    def __post_init__(self):
        super().__post_init__()
        if self.convs:
            check_groups(self.norm, self.conv_dim, "BoxConfig.conv_dim")
        self.class_loss.check(self.scores)
        if self.federated is not None and not SCORES[self.scores].leaves_out_classes:
            raise ConfigError(
                f"BoxConfig.federated is given but scores is {self.scores!r}, whose loss cannot leave out "
                "classes; set scores to 'sigmoid' too, or federated to None."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskHeadConfig(Part):
    """Base class of mask heads; the class below, `MaskScoringConfig` and `PointRendConfig` are its kinds.

    Attributes:
        kind: Its name in files and on command lines.
        module: The class that it builds, as "package.module:Class", a `RegionHead`.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    names: ClassVar[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskConfig(MaskHeadConfig):
    """Mask head (`models/heads/mask.py`, `losses/heads.py`)."""

    kind: ClassVar[str] = "fcn"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.mask:MaskHead"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.mask_names"
    pool: PoolConfig = PoolConfig(size=14)
    convs: Whole = 4
    dim: Count = 256
    norm: HeadNorm = "none"  # of the convolutions
    norm_epsilon: NotNegative = 1e-5
    conv_bias: bool = False  # whether the convolutions have a bias although a norm follows (Keras)
    class_agnostic: bool = False
    upsample: UpsampleConfig | None = None  # what doubles the sides; None: a transposed convolution
    cosine_scale: NotNegative = 0.0  # as in BoxConfig, of the masks' logits
    # soft (torchvision) | threshold (aligned, >= 0.5) | polygon (Detectron2)
    targets: Literal["soft", "threshold", "polygon"] = "soft"
    loss: MaskLossConfig = MaskLossConfig()
    # With several box stages: one, trained on the first stage's regions, or each_stage, each trained on its
    # stage's; their mean is predicted
    heads: Literal["one", "each_stage"] = "one"

    def __post_init__(self):
        super().__post_init__()
        if self.convs:
            check_groups(self.norm, self.dim, "MaskConfig.dim")
