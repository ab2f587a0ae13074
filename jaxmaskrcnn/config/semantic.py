"""Settings of the semantic head, and what the regions that it tells apart are called.

Things are classes of objects that are counted, such as people; stuff is the rest of an image, such as grass.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from collections.abc import Collection, Sequence
from typing import ClassVar, Literal

from jaxmaskrcnn.config.backbones import Level, check_groups
from jaxmaskrcnn.config.heads import HeadNorm
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Count, Fraction, NotNegative, Whole
from jaxmaskrcnn.structures import Category

# COCO's 53 classes of stuff in panoptic segmentation by category id.
COCO_STUFF = {
    92: "banner", 93: "blanket", 95: "bridge", 100: "cardboard", 107: "counter", 109: "curtain",
    112: "door-stuff", 118: "floor-wood", 119: "flower", 122: "fruit", 125: "gravel", 128: "house",
    130: "light", 133: "mirror-stuff", 138: "net", 141: "pillow", 144: "platform", 145: "playingfield",
    147: "railroad", 148: "river", 149: "road", 151: "roof", 154: "sand", 155: "sea", 156: "shelf",
    159: "snow", 161: "stairs", 166: "tent", 168: "towel", 171: "wall-brick", 175: "wall-stone",
    176: "wall-tile", 177: "wall-wood", 178: "water-other", 180: "window-blind", 181: "window-other",
    184: "tree-merged", 185: "fence-merged", 186: "ceiling-merged", 187: "sky-other-merged",
    188: "cabinet-merged", 189: "table-merged", 190: "floor-other-merged", 191: "pavement-merged",
    192: "mountain-merged", 193: "grass-merged", 194: "dirt-merged", 195: "paper-merged",
    196: "food-other-merged", 197: "building-other-merged", 198: "rock-merged", 199: "wall-other-merged",
    200: "rug-merged",
}  # fmt: skip
COCO_STUFF_NAMES = tuple(COCO_STUFF.values())
IGNORED = 255  # the label of pixels that nothing is learned from
MOST_STUFF = IGNORED - 1  # classes of stuff: 0 are things


def stuff_names(count: int) -> tuple[str, ...]:
    """Return the names of stuff of which only the number is known: COCO's if there are as many.

    Example:
        >>> stuff_names(53)[0], stuff_names(2)
        ('banner', ('stuff 0', 'stuff 1'))
    """
    return COCO_STUFF_NAMES if count == len(COCO_STUFF_NAMES) else tuple(f"stuff {i}" for i in range(count))


def numbered_stuff(names: Sequence[str], ids: Sequence[int], things: Collection[int]) -> tuple[Category, ...]:
    """Return the categories of stuff; their ids follow those of things if they have none of their own.

    Args:
        names: The names.
        ids: Their ids, or () for COCO's own of COCO's stuff, and unknown ones of any other.
        things: The ids of things, which stuff cannot have too.

    Example:
        >>> [category.id for category in numbered_stuff(("sky", "sea"), (3, 4), (1, 3))]
        [4, 5]
    """
    ids = ids or (tuple(COCO_STUFF) if tuple(names) == COCO_STUFF_NAMES else ())
    if not ids or not set(ids).isdisjoint(things):
        first = max(things, default=0) + 1
        ids = range(first, first + len(names))
    return tuple(map(Category, ids, names))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticConfig(Part):
    """Semantic head of Panoptic FPN (`models/heads/semantic.py`, `losses/semantic.py`, `ops/panoptic.py`).

    Example:
        >>> semantic = SemanticConfig(stuff=("sky", "grass"))
        >>> semantic.channels, semantic.things_channel, SemanticConfig().known_ids[:2]
        (3, 0, (92, 93))
    """

    kind: ClassVar[str] = "pyramid"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.semantic:SemanticHead"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.semantic_names"
    dim: Count = 128
    norm: HeadNorm = "gn"
    stuff: tuple[str, ...] = COCO_STUFF_NAMES  # names of the classes of stuff, in the order of the labels
    # their category ids; () for COCO's own, or numbers that follow those of the things
    ids: tuple[Whole, ...] = ()
    # the position of the class of all things among the logits: before the stuff or behind it (MMDetection)
    things: Literal["first", "last"] = "first"
    loss_weight: NotNegative = 0.5
    # input: logits are enlarged to the network's input; map: labels are reduced to the map (MMDetection)
    loss_at: Literal["input", "map"] = "input"
    # sum of the losses divided by the pixels that have a label, or by all (MMDetection)
    loss_count: Literal["labelled", "all"] = "labelled"
    # which detections become segments, and from which share of a mask on it is not, as others cover it
    score_threshold: Fraction = 0.5
    overlap_threshold: Fraction = 0.5
    stuff_area: Whole = 4096  # smaller regions of stuff, in pixels of the image, become no segments

    def __post_init__(self):
        super().__post_init__()
        check_groups(self.norm, self.dim, "SemanticConfig.dim")
        count = len(self.stuff)
        if not 0 < count <= MOST_STUFF or len(set(self.stuff)) != count:
            raise ConfigError(
                f"SemanticConfig.stuff has {count} names, {len(set(self.stuff))} of them different; give 1 "
                f"to {MOST_STUFF} names, each once."
            )
        if self.ids and (len(self.ids) != count or len(set(self.ids)) != count):
            raise ConfigError(
                f"SemanticConfig.ids has {len(self.ids)} numbers, {len(set(self.ids))} of them different, "
                f"for {count} classes of stuff; give one of its own for each, or none."
            )

    @property
    def channels(self) -> int:
        """Number of logits of a cell: the classes of stuff, and one of all things."""
        return len(self.stuff) + 1

    @property
    def things_channel(self) -> int:
        """Channel of the class of all things."""
        return 0 if self.things == "first" else len(self.stuff)

    @property
    def known_ids(self) -> tuple[int, ...]:
        """The category ids: those that are given, or COCO's for COCO's stuff; () if they are unknown."""
        return self.ids or (tuple(COCO_STUFF) if self.stuff == COCO_STUFF_NAMES else ())

    def check_levels(self, levels: tuple[Level, ...], neck: str | None, divisor: int) -> None:
        """Check that the head can add up the levels, each twice as large as the next one.

        Args:
            levels: The levels that regions are pooled from, finest first.
            neck: The kind of neck, for messages.
            divisor: What the sides of the network's input are multiples of.

        Raises:
            ConfigError: They are no pyramid, or do not divide the input.
        """
        strides = [level.stride for level in levels]
        if len(levels) < 2 or any(2 * a != b for a, b in zip(strides, strides[1:], strict=False)):
            raise ConfigError(
                f"ModelConfig.semantic adds up the levels of a pyramid, but with the neck {neck!r} the "
                f"levels have the strides {', '.join(map(str, strides))}; use the neck 'fpn', or set "
                "semantic to None."
            )
        if divisor % strides[-1]:
            raise ConfigError(
                f"ModelConfig.input.pad_divisor is {divisor}, but semantic needs a multiple of the last "
                f"level's stride, {strides[-1]}, so that each level is twice as large as the next one."
            )
