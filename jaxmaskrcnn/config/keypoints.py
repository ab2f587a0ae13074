"""Settings of the keypoint head, and what the keypoints of an object are called."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxmaskrcnn.config.heads import PoolConfig
from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Count, NotNegative, Positive, Whole

Pair = tuple[Whole, Whole]  # the numbers of two keypoints, from 0

# COCO's keypoints of a person, their sigmas (pycocotools, `Params.setKpParams`) and the lines between them.
COCO_POINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087,
    0.087, 0.089, 0.089,
)  # fmt: skip
COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
    (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
OTHER_SIGMA = 0.05  # of keypoints that are not COCO's, as wide as the mean of a person's smaller ones

_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


def mirrored_pairs(points: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The keypoints that change places in a mirrored image, found by their names.

    Args:
        points: Names of the keypoints.

    Returns:
        Pairs of numbers, of a left keypoint and the right one of the same name.

    Example:
        >>> mirrored_pairs(["nose", "left_eye", "right_eye"])
        ((1, 2),)
    """
    numbers = {name: number for number, name in enumerate(points)}
    pairs = []
    for name, number in numbers.items():
        for left, right in _SIDES:
            other = numbers.get(name.replace(left, right)) if left in name else None
            if other is not None:
                pairs.append((number, other))
                break
    return tuple(pairs)


def point_names(count: int) -> tuple[str, ...]:
    """Return the names of keypoints of which only the number is known: COCO's if there are as many.

    Example:
        >>> point_names(17)[0], point_names(2)
        ('nose', ('keypoint 0', 'keypoint 1'))
    """
    return COCO_POINTS if count == len(COCO_POINTS) else tuple(f"keypoint {i}" for i in range(count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeypointConfig(Part):
    """Keypoint head (`models/heads/keypoint.py`, `losses/keypoints.py`, `ops/keypoints.py`).

    Example:
        >>> keypoints = KeypointConfig(points=("head", "left_hand", "right_hand"))
        >>> keypoints.flip_order, KeypointConfig().flip_order[:5]
        ((0, 2, 1), (0, 2, 1, 4, 3))
    """

    kind: ClassVar[str] = "heatmap"
    module: ClassVar[str] = "jaxmaskrcnn.models.heads.keypoint:KeypointHead"
    names: ClassVar[str] = "jaxmaskrcnn.models.heads.keypoint_names"
    pool: PoolConfig = PoolConfig(size=14)
    convs: Count = 8
    dim: Count = 512
    points: tuple[str, ...] = COCO_POINTS  # names of the keypoints, in the order of the annotations
    # lines that are drawn, each between two keypoints; () for COCO's own or none
    skeleton: tuple[Pair, ...] = ()
    # pairs that change places in a mirrored image; () where left and right follow from the names of `points`
    flips: tuple[Pair, ...] = ()
    # by which distance a keypoint's place varies, for COCO's similarity; () for COCO's own or 0.05
    sigmas: tuple[Positive, ...] = ()
    # what is added to annotated coordinates: 0.5 where 0 is the middle of the first pixel (Detectron2)
    offset: NotNegative = 0.0
    # sum of the losses divided by the keypoints in regions, or by all that there could be in an image
    loss_count: Literal["visible", "constant"] = "visible"
    loss_weight: NotNegative = 1.0
    # logit: the highest value of the heat-map; softmax: about its probability (Detectron2)
    score: Literal["logit", "softmax"] = "logit"
    # images with fewer annotated keypoints are not trained on
    min_per_image: Whole = 1

    def __post_init__(self):
        super().__post_init__()
        count = len(self.points)
        if count == 0 or len(set(self.points)) != count:
            raise ConfigError(
                f"KeypointConfig.points is {self.points}; give at least one name, and each name once."
            )
        for name in ("skeleton", "flips"):
            wrong = [pair for pair in getattr(self, name) if max(pair) >= count]
            if wrong:
                raise ConfigError(
                    f"KeypointConfig.{name} has {wrong[0]}, but there are {count} keypoints, which are "
                    "numbered from 0; correct it."
                )
        paired = [number for pair in self.flips for number in pair]
        if len(set(paired)) != len(paired):
            raise ConfigError(
                f"KeypointConfig.flips has a keypoint twice ({self.flips}); a keypoint changes places with "
                "one other."
            )
        if self.sigmas and len(self.sigmas) != count:
            raise ConfigError(
                f"KeypointConfig.sigmas has {len(self.sigmas)} numbers for {count} keypoints; give one for "
                "each, or none."
            )

    @property
    def flip_order(self) -> tuple[int, ...]:
        """The number of the keypoint that takes each place in a mirrored image."""
        order = list(range(len(self.points)))
        for left, right in self.flips or mirrored_pairs(self.points):
            order[left], order[right] = right, left
        return tuple(order)

    @property
    def lines(self) -> tuple[tuple[int, int], ...]:
        """The lines of the skeleton: those that are given, or COCO's for the points of a person."""
        return self.skeleton or (COCO_SKELETON if self.points == COCO_POINTS else ())

    @property
    def known_sigmas(self) -> tuple[float, ...]:
        """The sigmas; COCO's for the points of a person, and 0.05 for others whose sigmas are not given."""
        if self.sigmas:
            return self.sigmas
        return COCO_SIGMAS if self.points == COCO_POINTS else (OTHER_SIGMA,) * len(self.points)
