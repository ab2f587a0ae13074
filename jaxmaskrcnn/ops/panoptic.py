"""Combining the masks of instances and the labels of pixels to one panoptic segmentation, on the host.

Source: Kirillov et al., Panoptic Feature Pyramid Networks, 2019, section 3; Kirillov et al., Panoptic
Segmentation, 2019, section 7.

Shapes: H, W height and width of an image, N instances, h, w of a window that a mask is given in.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Window = tuple[np.ndarray, tuple[int, int]]  # bool [h, w], and the row and column of its first pixel


class Segment(NamedTuple):
    """One segment of a panoptic segmentation.

    Attributes:
        id: Its number in the map, from 1.
        label: Of a thing its label, of stuff its number among the classes of stuff, from 0.
        isthing: Whether it is a thing.
        area: Pixels.
        instance: Of a thing its number among the instances, of stuff -1.
    """

    id: int
    label: int
    isthing: bool
    area: int
    instance: int


def combine(
    masks: Sequence[Window],
    scores: np.ndarray,
    labels: np.ndarray,
    semantic: np.ndarray,
    *,
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area: int = 4096,
) -> tuple[np.ndarray, list[Segment]]:
    """Give every pixel to one segment at most.

    Instances come first, by falling score: what an instance shares with those before it is theirs, and it is
    left out if that is more than a share of its mask. Stuff takes the pixels that remain, unless it covers
    too few of them. Source: Detectron2 ``combine_semantic_and_instance_outputs``, MMDetection
    ``HeuristicFusionHead``, which agree (MMDetection has the first threshold among those of its detections).

    Args:
        masks: A window for each of the N instances.
        scores: [N]; of equal ones the first comes first.
        labels: int [N].
        semantic: int [H, W], 0 where a pixel is some thing, else the number of stuff from 1.
        score_threshold: Instances with a lower score are left out.
        overlap_threshold: Share of a mask's pixels; an instance of which more is taken is left out.
        stuff_area: Fewest pixels of a segment of stuff.

    Returns:
        int32 [H, W], the number of each pixel's segment, 0 for none; and the segments by their number.

    Example:
        >>> mask = (np.ones((2, 2), bool), (0, 0))
        >>> semantic = np.ones((2, 4), int)
        >>> panoptic, segments = combine([mask], np.array([0.9]), np.array([5]), semantic, stuff_area=1)
        >>> panoptic.tolist(), [(s.label, s.isthing, s.area) for s in segments]
        ([[1, 1, 2, 2], [1, 1, 2, 2]], [(5, True, 4), (0, False, 4)])
    """
    panoptic = np.zeros(semantic.shape, np.int32)
    segments: list[Segment] = []
    for i in np.argsort(-np.asarray(scores), kind="stable").tolist():
        if scores[i] < score_threshold:
            break
        mask, (top, left) = masks[i]
        part = panoptic[top : top + mask.shape[0], left : left + mask.shape[1]]
        area = np.count_nonzero(mask)
        free = mask & (part == 0)
        own = int(np.count_nonzero(free))
        if area == 0 or (area - own) / area > overlap_threshold:
            continue
        if own == 0:  # covered completely, with a threshold of 1
            continue
        segments.append(Segment(len(segments) + 1, int(labels[i]), True, own, i))
        part[free] = len(segments)
    rest = np.where(panoptic == 0, semantic, 0)
    for label, area in enumerate(np.bincount(rest.ravel())[1:].tolist()):
        if area >= max(stuff_area, 1):
            segments.append(Segment(len(segments) + 1, label, False, area, -1))
            panoptic[rest == label + 1] = len(segments)
    return panoptic, segments
