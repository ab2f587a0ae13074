"""A model's configuration: a tree of frozen, hashable parts.

It holds all differences between torchvision, Detectron2 and MMDetection, and between their models, as plain
data; the presets of ``zoo/`` set its values. The parts are in the files beside this one.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxmaskrcnn.config import paths
from jaxmaskrcnn.config.backbones import BackboneConfig, Level, ResNetConfig, check_groups
from jaxmaskrcnn.config.class_scores import SCORES
from jaxmaskrcnn.config.extractors import ExtractorConfig
from jaxmaskrcnn.config.heads import (
    BoxConfig,
    Classes,
    MaskConfig,
    MaskHeadConfig,
    PoolConfig,
    RegionConfig,
    TrunkConfig,
)
from jaxmaskrcnn.config.inputs import ComputeConfig, DetectionConfig, InputConfig
from jaxmaskrcnn.config.keypoints import KeypointConfig
from jaxmaskrcnn.config.mask_scoring import MaskScoringConfig
from jaxmaskrcnn.config.necks import FPNConfig, NeckConfig
from jaxmaskrcnn.config.own import ExtraConfig, HeadConfig, Place
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.point_rend import PointRendConfig
from jaxmaskrcnn.config.rpn import RPNConfig
from jaxmaskrcnn.config.semantic import SemanticConfig, numbered_stuff
from jaxmaskrcnn.config.values import (
    ConfigError,
    Count,
    ascending,
    shown,
)
from jaxmaskrcnn.structures import Category


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Part):
    """Architecture and numeric conventions of a Mask R-CNN.

    The defaults are those of torchvision's ``maskrcnn_resnet50_fpn``. Lengths are in pixels, thresholds
    are IoU or probability.

    Attributes:
        num_classes: Number of classes without the background.
        categories: Categories of the classes; () if they are unknown.
        label_order: The categories of annotations that the labels stand for, as long as their ids are not
            known. With "list", ``categories`` has at most their names.
        background: The background's position among the class logits.
        box_edges: Where the network's own boxes end: with the edge of their last pixels, or one pixel before
            it, at their last pixels (matterport).
        neck: The neck; None uses the backbone's feature maps directly.
        extractor: Layers that make the features of a region of those of all levels; None pools it from one.
        trunk: Layers between the pooled regions and the heads, or None.
        mask: The mask head; None makes a Faster R-CNN.
        keypoints: The keypoint head, or None.
        semantic: The semantic head of a panoptic model, or None.
        heads: Further region heads, of your own.
        extra: Further ground truth, which the json of the training data has.
        build_model: The function that makes the detector of ``(config, rngs=...)``, as
            "package.module:function"; "" makes a `MaskRCNN`. A recipe with a function of this name is it.

    Raises:
        ConfigError: A field has an unsupported value.

    Example:
        >>> config = ModelConfig(num_classes=2, backbone=ResNetConfig(depth=18))
        >>> config.mask.pool.size, config.replace({"mask": None, "rpn.nms_threshold": 0.8}).rpn.nms_threshold
        (14, 0.8)
    """

    written_apart = ("categories",)
    num_classes: Count = 90
    categories: tuple[Category, ...] = ()
    # of labels whose ids are unknown: ascending ids, or the order of the annotations' list (MMDetection)
    label_order: Literal["id", "list"] = "id"
    background: Literal["first", "last"] = "first"
    box_edges: Literal["outer", "last_pixel"] = "outer"
    input: InputConfig = InputConfig()
    backbone: BackboneConfig = ResNetConfig()
    neck: NeckConfig | None = FPNConfig()
    rpn: RPNConfig = RPNConfig()
    regions: RegionConfig = RegionConfig()
    extractor: ExtractorConfig | None = None
    trunk: TrunkConfig | None = None
    box: BoxConfig = BoxConfig()
    mask: MaskHeadConfig | None = MaskConfig()
    keypoints: KeypointConfig | None = None
    semantic: SemanticConfig | None = None
    heads: tuple[HeadConfig, ...] = ()
    extra: tuple[ExtraConfig, ...] = ()
    build_model: Place = ""
    detections: DetectionConfig = DetectionConfig()
    compute: ComputeConfig = ComputeConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.categories and len(self.categories) != self.num_classes:
            raise ConfigError(
                f"ModelConfig.categories names {len(self.categories)} classes but num_classes is "
                f"{self.num_classes}; give one category for each class, or none."
            )
        counts = self.box.federated.image_counts if self.box.federated else ()
        if counts and len(counts) != self.num_classes:
            raise ConfigError(
                f"ModelConfig.box.federated.image_counts has {len(counts)} numbers but num_classes is "
                f"{self.num_classes}; give one number for each class, or none."
            )
        if twice := [x.name for i, x in enumerate(self.extra) if x.name in [y.name for y in self.extra[:i]]]:
            raise ConfigError(f"ModelConfig.extra has {twice[0]!r} twice; give each a name of its own.")
        _check_levels(self.backbone, self.backbone.levels)
        if self.input.pad_divisor % self.backbone.divisor:
            raise ConfigError(
                f"ModelConfig.input.pad_divisor is {self.input.pad_divisor}, but the backbone "
                f"{self.backbone.kind!r} needs canvases whose sides are multiples of "
                f"{self.backbone.divisor}; give a multiple of it."
            )
        channels = self.input.pixels.channels
        if channels != 3 and not self.backbone.any_channels:
            raise ConfigError(
                f"ModelConfig.input.pixels.channels is {channels}, but the backbone {self.backbone.kind!r} "
                "reads pictures of three channels; choose the backbone 'resnet', or leave 3."
            )
        if self.neck is not None:
            _check_levels(self.neck, self.levels)
        if self.trunk is not None:
            self.trunk.channels(self.backbone)  # Refuses a backbone that it cannot follow.
        self._check_proposals()
        self._check_heads()
        if self.extractor is not None:
            self._check_extractor(self.extractor)
        if self.trunk is not None:
            self._check_trunk()
        if self.semantic is not None:
            self._check_semantic(self.semantic)

    def _check_proposals(self) -> None:
        """Check that the region proposal network fits the levels."""
        sizes, levels = self.rpn.anchors.sizes, self.levels
        if len(sizes) != len(levels):
            strides = ", ".join(str(level.stride) for level in levels)
            raise ConfigError(
                f"ModelConfig.rpn.anchors.sizes has {len(sizes)} entries, but there are {len(levels)} "
                f"levels, with the strides {strides}; give one entry for each."
            )
        channels = [level.channels for level in levels]
        if len(set(channels)) > 1:
            raise ConfigError(
                f"ModelConfig.neck is {self.neck and self.neck.kind!r}, and the levels have "
                f"{', '.join(map(str, channels))} channels, but one region proposal network reads them all; "
                "add a neck such as 'fpn', or a backbone with one output."
            )
        check_groups(self.rpn.norm, channels[0], "The number of channels that ModelConfig.rpn reads")
        if self.rpn.batch_padding == "ignore" and self.input.placement != "corner":
            raise ConfigError(
                f"ModelConfig.input.placement is {self.input.placement!r}, but rpn.batch_padding 'ignore' "
                "needs images in the corner of the canvas; set placement to 'corner', or batch_padding to "
                "'count'."
            )

    def _check_heads(self) -> None:
        """Check that the heads can have the features and boxes that they ask for."""
        for path, needed in SCORES[self.box.scores].needs.items():
            if (value := self.get(path)) != needed:
                raise ConfigError(
                    f"ModelConfig.box.scores is {self.box.scores!r} and {path} {value!r}, which do not go "
                    f"together; set {path} to {needed!r}, or box.scores to 'softmax'."
                )
        if isinstance(self.mask, PointRendConfig):
            if self.trunk is not None:
                raise ConfigError(
                    "ModelConfig.mask is 'point_rend', which reads feature maps at points, but heads read "
                    f"regions with the trunk {self.trunk.kind!r}; set mask to 'fcn', or trunk to None."
                )
            for name in ("grid_levels", "point_levels"):
                if (count := getattr(self.mask, name)) > len(self.pooled_levels):
                    raise ConfigError(
                        f"ModelConfig.mask.{name} is {count}, but there are {len(self.pooled_levels)} "
                        "feature maps for regions; give at most as many."
                    )
        if isinstance(self.mask, MaskScoringConfig) and (len(self.box.stages) > 1 or self.trunk is not None):
            what = "a trunk" if self.trunk is not None else "several box stages"
            raise ConfigError(
                f"ModelConfig.mask is 'mask_scoring', which is not supported with {what}; set mask to 'fcn'."
            )
        if self.regions.head_boxes == "predicted" and (len(self.box.stages) > 1 or self.trunk is not None):
            what = "a trunk" if self.trunk is not None else "several box stages"
            raise ConfigError(
                f"ModelConfig.regions.head_boxes is 'predicted', but with {what} masks and keypoints are "
                "learned in the sampled regions; set it to 'sampled'."
            )

    def _check_extractor(self, extractor: ExtractorConfig) -> None:
        """Check that regions can be pooled from all levels."""
        parts = {
            "a trunk": self.trunk is not None,
            "several box stages": len(self.box.stages) > 1,
            "the mask head 'point_rend'": isinstance(self.mask, PointRendConfig),
            "a pool.method that is 'corners'": any(
                getattr(getattr(head, "pool", None), "method", "") == "corners"
                for head in (self.box, self.mask, self.keypoints)
            ),
        }
        if unfit := [part for part, there in parts.items() if there]:
            raise ConfigError(
                f"ModelConfig.extractor is {extractor.kind!r}, which is not supported with {unfit[0]}; set "
                "extractor to None, or change that."
            )
        extractor.check(self.pooled_levels)

    def _check_trunk(self) -> None:
        """Check that the regions fit the trunk, and the heads each other."""
        assert self.trunk is not None
        given, needed = self.pooled_levels[0].channels, self.trunk.channels_in(self.backbone)
        if given != needed:
            raise ConfigError(
                f"ModelConfig.trunk is {self.trunk.kind!r}, which needs the backbone's {needed} channels, "
                f"but with the neck {self.neck and self.neck.kind!r} the regions have {given}; set neck to "
                "None, or trunk."
            )
        for name in ("mask", "keypoints"):
            head = getattr(self, name)
            if head is not None and head.pool != self.box.pool:
                raise ConfigError(
                    f"ModelConfig.{name}.pool and box.pool differ, but with a trunk the heads share the "
                    "regions that are pooled; give both the same values."
                )

    def _check_semantic(self, semantic: SemanticConfig) -> None:
        """Check that there are masks and a pyramid, which a panoptic model combines."""
        if self.mask is None:
            raise ConfigError(
                "ModelConfig.semantic is set and mask is None, but segments of things are made of masks; add "
                "a mask head, or set semantic to None."
            )
        if self.input.placement != "corner":
            raise ConfigError(
                f"ModelConfig.input.placement is {self.input.placement!r}, but semantic needs images in the "
                "corner of the canvas; set it to 'corner', or semantic to None."
            )
        pooled = self.levels[:1] if self.neck is None else self.pooled_levels
        semantic.check_levels(pooled, self.neck and self.neck.kind, self.input.pad_divisor)
        ids = {category.id for category in self.known_categories()}
        if both := sorted(ids & set(semantic.known_ids)) if self.categories else []:
            raise ConfigError(
                f"ModelConfig.categories and semantic.ids both have the id {both[0]}; give stuff and things "
                "different ones."
            )

    @property
    def levels(self) -> tuple[Level, ...]:
        """The feature maps from which proposals are computed, finest first."""
        backbone = self.backbone.levels
        return backbone if self.neck is None else self.neck.levels(backbone)

    @property
    def pooled_levels(self) -> tuple[Level, ...]:
        """The first of `levels`, from which regions are pooled."""
        return self.levels if self.neck is None else self.neck.pooled(self.levels)

    @property
    def region_channels(self) -> int:
        """Channels of the heads' input regions."""
        return self.trunk.channels(self.backbone) if self.trunk else self.pooled_levels[0].channels

    def region_side(self, pool: PoolConfig) -> int:
        """Return the side of a head's input regions.

        Args:
            pool: The head's pooling.

        Returns:
            The side in cells.
        """
        return self.trunk.side(pool.size) if self.trunk else pool.size

    @property
    def classes(self) -> Classes:
        """The number of classes and the position of the background."""
        return Classes(self.num_classes, self.background, SCORES[self.box.scores].more_logits)

    @property
    def foreground_offset(self) -> int:
        """Channel of the first object class: 1 if the background comes first, else 0."""
        return self.classes.offset

    def known_categories(self) -> tuple[Category, ...]:
        """Return the categories, or numbered ones by the source library's labels if there are none.

        torchvision's labels count the background as 0, so its first class has the id 1; Detectron2
        and MMDetection number their classes from 0.

        Returns:
            ``num_classes`` of them, in label order.
        """
        first = self.foreground_offset
        return self.categories or tuple(
            Category(i + first, f"class {i + first}") for i in range(self.num_classes)
        )

    def known_stuff(self) -> tuple[Category, ...]:
        """Return the categories of stuff of a panoptic model.

        Their ids follow those of things if they are unknown, or if the things' are and are the same numbers.

        Returns:
            One for each class of stuff, in label order; () for a model without a semantic head.
        """
        if self.semantic is None:
            return ()
        things = {category.id for category in self.known_categories()}
        return numbered_stuff(self.semantic.stuff, self.semantic.ids, things)

    def get(self, path: str) -> Any:
        """Return the value of a setting.

        Args:
            path: A dotted path such as "rpn.nms_threshold"; see `config.paths.get_path`.

        Returns:
            The value; None if a part on the path is None.

        Raises:
            ConfigError: There is no such setting.
        """
        return paths.get_path(self, path)

    def replace(self, changes: Mapping[str, Any] | None = None, **fields: Any) -> "ModelConfig":
        """Return a copy with changed settings, by dotted path; see `config.paths.replace`.

        Args:
            changes: Values by dotted path, such as ``{"rpn.post_nms_test": 500, "mask": None}``.
            **fields: Fields of the top level, such as ``num_classes=2``.

        Returns:
            The copy.

        Raises:
            ConfigError: There is no such setting, its value is not allowed, or it is given twice.
        """
        if changes is None:
            changes = {}
        twice = [name for name in fields if isinstance(changes, Mapping) and name in changes]
        if twice:
            name = twice[0]
            raise ConfigError(
                f"{name} is given as {shown(changes[name])} and as {shown(fields[name])}; give it once."
            )
        return paths.replace(
            self, {**changes, **fields} if fields and isinstance(changes, Mapping) else changes
        )


def _check_levels(part: Part, levels: Any) -> None:
    """Check the feature maps that a part says to return, as classes outside of this package may err."""
    fine = isinstance(levels, tuple) and bool(levels) and all(isinstance(level, Level) for level in levels)
    if not fine or not all(isinstance(x, int) and x > 0 for level in levels for x in level):
        raise ConfigError(
            f"{type(part).__name__}.levels is {shown(levels)}; return a tuple with a Level(stride, channels) "
            "for each feature map, finest first."
        )
    strides = [level.stride for level in levels]
    if not ascending(strides):
        raise ConfigError(
            f"{type(part).__name__}.levels has the strides {', '.join(map(str, strides))}; return the "
            "feature maps finest first, each with a larger stride than the one before."
        )
