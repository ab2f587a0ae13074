"""How detections are scored: by COCO's rules, LVIS' or Cityscapes'.

A protocol says which numbers there are and how they come from objects and detections. COCO's is here, the
others are in `lvis` and `cityscapes`. They do not give the same numbers: masks of one model on
Cityscapes differ by several points.

Shape legend: N detections, G objects of all images, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.accumulate import accumulate, class_precision, summarize
from jaxmaskrcnn.evaluation.cityscapes import Cityscapes, void_regions
from jaxmaskrcnn.evaluation.lvis import Lvis
from jaxmaskrcnn.evaluation.matching import match
from jaxmaskrcnn.evaluation.regions import Regions

PROTOCOLS = ("auto", "coco", "lvis", "cityscapes")


class Scored(NamedTuple):
    """The G objects that are scored as boxes, or as masks.

    Attributes:
        ids: int [G], their new ids.
        crowd: bool [G], regions in which nothing is right or wrong.
        regions: Their places, classes, areas and shapes.
    """

    ids: np.ndarray
    crowd: np.ndarray
    regions: Regions


class Rules(Protocol):
    """A protocol.

    Attributes:
        name: Its name, one of `PROTOCOLS`.
        iou_types: What it measures.
        reason: Why it is used, for a sentence.
    """

    name: str
    iou_types: tuple[str, ...]
    reason: str

    def measure(
        self, objects: Regions, crowd: np.ndarray, detections: Regions, scores: np.ndarray, num_classes: int
    ) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Scores the detections of all images.

        Args:
            objects: The G objects.
            crowd: bool [G], crowd regions.
            detections: The N detections; those of unknown classes have the label -1.
            scores: float64 [N].
            num_classes: K.

        Returns:
            The numbers by the names of the protocol's table in `tables`, NaN where there is nothing to score
            against, and those of each class, of which there is "AP" at least.
        """
        ...


class Coco:
    """COCO's protocol."""

    name, iou_types = "coco", ("bbox", "segm", "keypoints")

    def __init__(self, reason: str):
        self.reason = reason

    def measure(
        self, objects: Regions, crowd: np.ndarray, detections: Regions, scores: np.ndarray, num_classes: int
    ) -> tuple[dict[str, float], list[dict[str, float]]]:
        """See `Rules.measure`."""
        curves = accumulate(match(objects, crowd, detections, scores, num_classes))
        return summarize(curves), [{"AP": value} for value in class_precision(curves)]


def choose(
    protocol: str, content: Mapping[str, Any], found: Annotations, path: Path, reading: Reading
) -> Rules:
    """The protocol that annotations are scored by.

    Args:
        protocol: One of `PROTOCOLS`. "auto" takes LVIS' for a json of LVIS, which its categories'
            ``frequency`` and its images' ``neg_category_ids`` tell, and COCO's for any other.
        content: The json.
        found: The same, checked.
        path: Its path, for messages.
        reading: How it was read.

    Raises:
        UserError: There is no such protocol, or the json lacks what it needs.
    """
    if protocol not in PROTOCOLS:
        raise UserError(
            f"the evaluation's protocol is {protocol!r}; choose one of {', '.join(map(repr, PROTOCOLS))}."
        )
    if protocol == "cityscapes":
        if reading.crowd != "ignore":
            raise UserError(
                f"{path} cannot be scored as Cityscapes with crowd {reading.crowd!r}, because groups of "
                "objects are neither right nor wrong there; leave crowd at 'ignore'."
            )
        return Cityscapes(void_regions(content, found, path))
    vocabulary = found.vocabulary
    if protocol == "lvis" and vocabulary is None:
        why = (
            "all objects get the one class that class_name gives"
            if reading.class_name
            else "its categories have no 'frequency', or its images no 'neg_category_ids'"
        )
        raise UserError(
            f"{path} cannot be scored as LVIS, because {why}; give LVIS' own json file, or the protocol "
            "'coco'."
        )
    if vocabulary is None or protocol == "coco":
        return Coco("it was chosen" if protocol == "coco" else "the annotations are not those of LVIS")
    reason = "its categories have a frequency and its images name classes that they do not show"
    places = {image.id: place for place, image in enumerate(found.images)}
    return Lvis(vocabulary, places, "it was chosen" if protocol == "lvis" else reason)
