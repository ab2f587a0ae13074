"""Rates images by their detections, to choose the worst and the best.

Shape legend: D detections and G objects of one image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.matches import Match, Sample


class Outcome(NamedTuple):
    """The rating of one image by its detections above a score threshold.

    Attributes:
        quality: Sum of the IoUs of found objects, divided by found + false / 2 + lost / 2; None for an
            image without objects and without detections.
        found: Number of objects that were found.
        false: Number of detections that are wrong.
        lost: Number of objects that were not found.
    """

    quality: float | None
    found: int
    false: int
    lost: int


def outcome(sample: Sample, match: Match, score_threshold: float) -> Outcome:
    """Rates an image with the measure of panoptic quality, all classes together.

    Kirillov et al. 2019, "Panoptic Segmentation", https://arxiv.org/abs/1801.00868, section 4.1. Missed
    objects, false detections and inexact masks all lower it.

    Args:
        sample: The image.
        match: Its matching at the IoU 0.5.
        score_threshold: Detections below it do not count.
    """
    counted = (sample.scores >= score_threshold) & ~match.ignored
    right = np.flatnonzero(counted & (match.partner >= 0))
    found, false = len(right), int(counted.sum()) - len(right)
    lost = int((~sample.crowd).sum()) - found
    weight = found + (false + lost) / 2
    if not weight:
        return Outcome(None, 0, 0, 0)
    return Outcome(float(sample.ious[right, match.partner[right]].sum() / weight), found, false, lost)


def worst_and_best(outcomes: Sequence[Outcome], count: int) -> tuple[list[int], list[int]]:
    """Indices of the worst images (worst first) and of the best ones (best first).

    Among images of equal quality, those with more errors are worse and those with more found objects
    are better. No image is in both lists; images without objects and detections are in none.

    Args:
        outcomes: Rating of each image.
        count: Largest number of images in each list.
    """
    rated = [i for i, o in enumerate(outcomes) if o.quality is not None]
    worst = sorted(rated, key=lambda i: (outcomes[i].quality, -outcomes[i].false - outcomes[i].lost))
    best = sorted(rated, key=lambda i: (-outcomes[i].quality, -outcomes[i].found))
    worst = worst[: min(count, (len(rated) + 1) // 2)]
    return worst, [i for i in best if i not in worst][:count]
