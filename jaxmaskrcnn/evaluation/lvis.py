"""LVIS' average precision.

An image counts for the classes that were looked for in it: those with objects there, and its negative ones.
Detections of other classes are left out, and so is all but an image's best 300, of all classes together.
Where not all objects of a class are annotated, a detection without a match is ignored. There are no crowd
regions; an object that is to be ignored takes one detection.

Equal to the package ``lvis`` 0.5.3 (``LVISEval`` and ``LVISResults``). This is AP with a limit for each
image, not "AP fixed" (Dave et al., 2021), which has one for each class of the data set.

Shape legend: N detections, G objects of all images, K classes.
"""

from collections.abc import Mapping

import numpy as np

from jaxmaskrcnn.data.coco.lvis import FREQUENCIES, Vocabulary
from jaxmaskrcnn.evaluation.accumulate import accumulate, class_precision, summarize
from jaxmaskrcnn.evaluation.matching import match
from jaxmaskrcnn.evaluation.regions import Regions
from jaxmaskrcnn.evaluation.tables import LVIS_STATS

MAX_DETECTIONS = 300  # of one image, of all classes together


class Lvis:
    """LVIS' protocol, see `protocols.Rules`.

    Args:
        vocabulary: The classes, and what is known of them in each image.
        places: The place of each image that is scored, by id.
        reason: Why it is used.
    """

    name, iou_types = "lvis", ("bbox", "segm")

    def __init__(self, vocabulary: Vocabulary, places: Mapping[int, int], reason: str):
        self.reason = reason
        self._count = len(vocabulary.frequencies)
        self._negative = self._keys(vocabulary.negative, places)
        self._partial = self._keys(vocabulary.partial, places)
        letters = np.array(vocabulary.frequencies)
        self._groups = {name: letters == letter for letter, name in FREQUENCIES.items()}

    def _keys(self, by_image: Mapping[int, frozenset[int]], places: Mapping[int, int]) -> np.ndarray:
        """One number for each pair of an image and a class."""
        pairs = [places[image] * self._count + k for image, own in by_image.items() for k in own]
        return np.array(pairs, int)

    def measure(
        self, objects: Regions, crowd: np.ndarray, detections: Regions, scores: np.ndarray, num_classes: int
    ) -> tuple[dict[str, float], list[dict[str, float]]]:
        """See `protocols.Rules.measure`; ``crowd`` are the objects that are to be ignored."""
        keys = detections.images * num_classes + detections.labels
        known = np.union1d(self._negative, objects.images * num_classes + objects.labels)
        counts = best_of_images(detections.images, scores) & (detections.labels >= 0) & np.isin(keys, known)
        matched = match(
            objects,
            np.zeros(len(crowd), bool),
            detections._replace(labels=np.where(counts, detections.labels, -1)),
            scores,
            num_classes,
            ignored=crowd,
            doubtful=np.isin(keys, self._partial),
            limit=MAX_DETECTIONS,
        )
        curves = accumulate(matched, LVIS_STATS)
        numbers = summarize(curves, LVIS_STATS, self._groups)
        return numbers, [{"AP": value} for value in class_precision(curves)]


def best_of_images(images: np.ndarray, scores: np.ndarray, limit: int = MAX_DETECTIONS) -> np.ndarray:
    """Which detections are among the best of their image; of equal ones the first are.

    Args:
        images: int [N], the place of each one's image.
        scores: float64 [N].
        limit: How many of an image count.

    Returns:
        bool [N].

    Example:
        >>> best_of_images(np.array([0, 1, 0, 0]), np.array([0.5, 0.1, 0.7, 0.5]), 2)
        array([ True,  True,  True, False])
    """
    order = np.lexsort((-scores, images))
    ordered = images[order]
    best = np.zeros(len(order), bool)
    best[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered) < limit
    return best
