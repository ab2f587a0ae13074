"""Everything that can be set: the model's conventions, and a training run.

``ModelConfig`` is frozen and hashable. It holds what differs between torchvision, Detectron2
and MMDetection as plain data; the presets of ``presets.py`` fill it in. A training run is a
nested, mutable dataclass (``Config``), so that ``--config.field.sub=value`` can change it.
"""

# No `from __future__ import annotations` here: the command line reads the field types.

import dataclasses

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category


class ConfigError(UserError):
    """A setting that cannot work; the message names the field, the value and what is allowed.

    Example:
        >>> try:
        ...     ModelConfig(background="middle")
        ... except ConfigError as error:
        ...     print(error)
        ModelConfig.background is 'middle'; choose one of 'first', 'last'.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture and numeric conventions of one Mask R-CNN.

    The defaults are those of torchvision's ``maskrcnn_resnet50_fpn``. Lengths are pixels,
    thresholds are IoU or probability, ``iou_epsilon`` and the like are dimensionless.

    Raises:
        ConfigError: A field has a value outside of its choices.

    Example:
        >>> config = ModelConfig(num_classes=2, backbone_depth=18)
        >>> config.mask_pool_size, dataclasses.replace(config, mask_head=False).mask_head
        (14, False)
    """

    # -- classes
    num_classes: int = 90  # without the background
    categories: tuple[Category, ...] = ()  # () where the source of the weights names none

    # -- input
    channel_order: str = "rgb"  # rgb | bgr
    pixel_scale: float = 1.0 / 255.0  # what uint8 values are multiplied by before mean and std
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # in channel_order
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    normalise_before_resize: bool = True
    resize_kernel: str = "torch"  # torch (float32) | pil (uint8, antialias) | cv2 (uint8)
    size_rule: str = "torchvision"  # torchvision (truncates) | detectron2 | mmdet
    test_min_size: int = 800  # short side at test time
    test_max_size: int = 1333  # limit of the long side at test time
    pad_divisor: int = 32

    # -- backbone and feature pyramid
    backbone_depth: int = 50  # 18 | 34 | 50 | 101 | 152
    backbone_width: int = 64  # channels of the stem; every stage is a multiple of it
    backbone_groups: int = 1  # ResNeXt: 32
    backbone_width_per_group: int = 64  # ResNeXt 32x8d: 8; wide ResNet: 128
    backbone_stride_in_1x1: bool = False  # where a bottleneck has its stride (MSRA: the 1x1)
    backbone_norm: str = "frozen_bn"  # frozen_bn | bn | bn_eval (fixed statistics) | gn
    norm_epsilon: float = 1e-5  # of the backbone's norm layers
    freeze_at: int = 2  # 0: nothing; 1: the stem; 2: the stem and the first stage; ...
    fpn_channels: int = 256
    fpn_norm: str = "none"  # none | bn | gn

    # -- anchors
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)  # one a level, P2 to P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    anchor_rounding: bool = True  # base anchors rounded to whole pixels
    anchor_stride: str = "derived"  # derived (extent // feature size) | fixed (4, 8, ...)

    # -- region proposal network
    rpn_convs: int = 1
    rpn_norm: str = "none"  # none | bn | gn
    rpn_ranking: str = "logit"  # logit | probability
    rpn_pre_nms_train: int = 2000  # per level
    rpn_pre_nms_test: int = 1000
    rpn_post_nms_train: int = 2000  # per image
    rpn_post_nms_test: int = 1000
    rpn_nms_threshold: float = 0.7
    rpn_min_side: float = 1e-3  # torchvision keeps sides >= 1e-3, the others sides > 0
    delta_clamp: str = "max"  # max (upper limit only) | both
    rpn_foreground_iou: float = 0.7
    rpn_background_iou: float = 0.3
    rpn_low_quality: str = "label"  # label (keeps its own best object) | reassign (MMDetection)
    rpn_low_quality_min_iou: float = 0.0
    rpn_batch_size: int = 256  # anchors sampled per image
    rpn_positive_fraction: float = 0.5
    rpn_loss_count: str = "sampled"  # sampled | constant (rpn_batch_size * images)
    iou_epsilon: float = 0.0  # lower limit of the union area in matching (MMDetection: 1e-6)

    # -- regions of interest: matching and sampling
    ground_truth_proposals: str = "append"  # append | prepend
    roi_batch_size: int = 512
    roi_positive_fraction: float = 0.25
    roi_foreground_iou: float = 0.5
    roi_low_quality: bool = False
    crowd_regions: str = "ignore"  # ignore (neither positive nor negative) | drop
    crowd_overlap: float = 0.5  # share of a box inside a crowd region from which it is ignored

    # -- regions of interest: pooling
    roi_aligned: bool = False
    roi_sampling_ratio: int = 2  # 0: adaptive
    roi_level_rule: str = "torchvision"  # torchvision | detectron2 | mmdet (place of the epsilon)
    roi_scale: str = "inferred"  # inferred (2^round(log2(feature / image))) | stride

    # -- box head
    box_pool_size: int = 7
    box_convs: int = 0
    box_conv_dim: int = 256
    box_fcs: int = 2
    box_fc_dim: int = 1024
    head_norm: str = "none"  # none | bn | gn, in the convolutions of the box and mask heads
    background: str = "first"  # first | last: the background's place among the class logits
    class_agnostic_boxes: bool = False
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 1.0 / 9.0  # 0: plain L1; both box regression losses

    # -- mask head
    mask_head: bool = True  # False: Faster R-CNN
    mask_pool_size: int = 14
    mask_convs: int = 4
    mask_dim: int = 256
    class_agnostic_masks: bool = False
    mask_targets: str = "soft"  # soft (torchvision) | threshold (aligned, >= 0.5) | polygon (Detectron2)

    # -- detections
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections_per_image: int = 100
    detection_min_side: float = 1e-2  # 0: no limit
    rescale_rule: str = "torchvision"  # torchvision | detectron2 (clip, drop empty) | mmdet
    paste_rule: str = "torchvision"  # torchvision (whole-pixel boxes) | detectron2 (grid)
    mask_threshold: float = 0.5

    # -- training
    weight_decay_exempts_norm: bool = False
    dtype: str = "float32"  # of activations; parameters and losses are float32
    remat: bool = False  # compute the backbone's stages again for the gradient, for less memory

    def __post_init__(self):
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                raise ConfigError(
                    f"ModelConfig.{field} is {value!r}; choose one of {', '.join(map(repr, choices))}."
                )
        if self.num_classes < 1:
            raise ConfigError(
                f"ModelConfig.num_classes is {self.num_classes}; it counts the object classes "
                "without the background and is at least 1."
            )
        if self.categories and len(self.categories) != self.num_classes:
            raise ConfigError(
                f"ModelConfig.categories names {len(self.categories)} classes but num_classes is "
                f"{self.num_classes}; give as many of them as there are classes, or none."
            )
        if self.normalise_before_resize and self.resize_kernel != "torch":
            raise ConfigError(
                f"ModelConfig.normalise_before_resize is True, but the kernel {self.resize_kernel!r} resizes "
                "uint8 images; set it to False or take the kernel 'torch'."
            )
        if len(self.anchor_sizes) != 5:
            raise ConfigError(
                f"ModelConfig.anchor_sizes has {len(self.anchor_sizes)} entries; give five, one "
                "for each of the levels P2 to P6."
            )

    @property
    def foreground_offset(self) -> int:
        """Channel of the first object class: 1 where the background comes first, else 0."""
        return 1 if self.background == "first" else 0

    def known_categories(self) -> tuple[Category, ...]:
        """The categories, or those that the source library's labels stand for where none are named.

        torchvision returns labels that count the background as 0, so its first class has the
        id 1; Detectron2 and MMDetection number their classes from 0.

        Returns:
            ``num_classes`` of them, in label order.
        """
        first = self.foreground_offset
        return self.categories or tuple(
            Category(i + first, f"class {i + first}") for i in range(self.num_classes)
        )


_CHOICES = {
    "channel_order": ("rgb", "bgr"),
    "resize_kernel": ("torch", "pil", "cv2"),
    "size_rule": ("torchvision", "detectron2", "mmdet"),
    "backbone_depth": (18, 34, 50, 101, 152),
    "backbone_norm": ("frozen_bn", "bn", "bn_eval", "gn"),
    "fpn_norm": ("none", "bn", "gn"),
    "anchor_stride": ("derived", "fixed"),
    "rpn_norm": ("none", "bn", "gn"),
    "rpn_ranking": ("logit", "probability"),
    "delta_clamp": ("max", "both"),
    "rpn_low_quality": ("label", "reassign"),
    "rpn_loss_count": ("sampled", "constant"),
    "ground_truth_proposals": ("append", "prepend"),
    "crowd_regions": ("ignore", "drop"),
    "roi_level_rule": ("torchvision", "detectron2", "mmdet"),
    "roi_scale": ("inferred", "stride"),
    "head_norm": ("none", "bn", "gn"),
    "background": ("first", "last"),
    "mask_targets": ("soft", "threshold", "polygon"),
    "rescale_rule": ("torchvision", "detectron2", "mmdet"),
    "paste_rule": ("torchvision", "detectron2"),
    "dtype": ("float32", "bfloat16", "float64"),
    "freeze_at": (0, 1, 2, 3, 4, 5),
}


@dataclasses.dataclass(kw_only=True)
class ShapesConfig:
    """The generated data set of ``data/shapes.py``."""

    train_images: int = 1000
    eval_images: int = 200
    size: int = 128  # height and width in pixels
    seed: int = 0


@dataclasses.dataclass(kw_only=True)
class DataConfig:
    """Where the images are and how they become batches."""

    source: str = "coco"  # coco (the four paths below) | shapes (generated into the workdir)
    train_annotations: str = ""  # COCO-format json
    train_images: str = ""  # its image folder
    eval_annotations: str = ""
    eval_images: str = ""
    cache_dir: str = ""  # prepared records; "" is <workdir>/data
    on_error: str = "stop"  # stop | skip: bad annotations are logged, counted and left out
    keep_empty: bool = True  # train on images without objects

    batch_size: int = 2  # images per step over all devices
    eval_batch_size: int = 1
    min_sizes: tuple[int, ...] = (800,)  # short sides to draw from in training; 0: the test size
    max_size: int = 1333  # limit of the long side in training
    flip: float = 0.5  # probability of a horizontal flip
    canvases: tuple[int, ...] = ()  # h0, w0, h1, w1, ...; () derives them from the images
    max_canvases: int = 3
    max_objects: int = 0  # ground-truth slots per image; 0: the largest count in the data
    threads: int = 2  # worker threads that decode and transform
    processes: int = 0  # worker processes instead, where threads do not keep up
    prefetch: int = 2  # batches made ahead on the host
    repeat_threshold: float = 0.0  # share of images below which a class's images are repeated; 0: off

    shapes: ShapesConfig = dataclasses.field(default_factory=ShapesConfig)

    jitter_size: int = 0  # side of the square canvas of large-scale jitter in pixels; 0: off
    jitter_scale: tuple[float, ...] = (1.0, 1.0)  # its smallest and largest scale, e.g. 0.1,2.0
    crop: float = 1.0  # smallest share of height and width that a random crop keeps; 1: off
    rotate: float = 0.0  # largest angle in degrees, to both sides; 0: off
    photometric: float = 0.0  # probability of each colour distortion; 0: off
    copy_paste: float = 0.0  # probability that objects of another image are pasted; 0: off

    exact_decode: bool = (
        True  # False: large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size in training
    )
    device_resize: bool = False  # training images are resized on the device, to a grey level or so


@dataclasses.dataclass(kw_only=True)
class OptimizerConfig:
    """SGD with momentum, its schedule and its rules."""

    learning_rate: float = 0.02  # for a global batch of `reference_batch_size`
    reference_batch_size: int = 16  # the rate is scaled by batch_size / reference; 0: not scaled
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    clip_norm: float = 0.0  # global gradient norm; 0: no clipping
    schedule: str = "step"  # step | cosine | constant
    decay_steps: tuple[int, ...] = (60000, 80000)  # schedule "step": where it decays
    decay_factor: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    freeze: tuple[str, ...] = ()  # glob patterns of parameter paths, e.g. "backbone.*"
    groups: tuple[str, ...] = ()  # PATTERN:FACTOR of the rate, or PATTERN:FACTOR:DECAY; the first wins
    ema_decay: float = 0.0  # moving average of the parameters, for evaluation and saving; 0: none


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """The run itself."""

    steps: int = 90000
    seed: int = 0
    log_every: int = 20
    eval_every: int = 0  # 0: only at the end
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    tensorboard: bool = False  # needs the [tensorboard] extra
    pictures: int = 8  # evaluation images drawn with their predictions at the end
    on_nonfinite: str = "stop"  # stop | skip (go on without) | rollback (to the latest checkpoint)
    skip_limit: int = 10  # steps in a row that are skipped before the run stops
    rollback_limit: int = 3  # rollbacks before the run stops
    patience: int = 0  # evaluations without a better mask AP before the run ends; 0: never
    eval_loss: bool = False  # the losses over the evaluation data, at every evaluation
    parallel: str = "auto"  # auto (jit on one device, else shard_map) | jit | pmap | shard_map
    device_batch: int = 0  # images a device computes at a time, the rest follow; 0: its whole share


def _model_section():
    """A mutable twin of ModelConfig with the one field that only a run has, `weights`.

    ``--config.model.*`` needs a mutable dataclass, the model a hashable one; making one out of
    the other keeps the list of fields in a single place.
    """
    fields = [("weights", str, "")]
    for f in dataclasses.fields(ModelConfig):
        # Categories come from the annotations, never from a command line.
        if f.name != "categories":
            fields.append((f.name, f.type, f.default))
    doc = (
        "The model of a run: every field of ModelConfig except categories, and where to start from.\n\n"
        "``weights`` is a checkpoint or an ImageNet backbone; num_classes 0 takes the number of\n"
        "categories in the training annotations."
    )
    return dataclasses.make_dataclass("ModelSection", fields, kw_only=True, namespace={"__doc__": doc})


ModelSection = _model_section()


@dataclasses.dataclass(kw_only=True)
class Config:
    """A training run: what ``configs/*.py`` return from ``get_config()``."""

    model: ModelSection = dataclasses.field(default_factory=ModelSection)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
