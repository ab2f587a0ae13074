"""Panoptic quality (PQ), of an image and of a data set.

Source: Kirillov et al., Panoptic Segmentation, 2019, section 4; the rules for what is not labelled and for
crowd regions are those of COCO's ``panopticapi``.

Shape legend: H, W height and width of an image, C categories.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.coco.segments import Segments
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

PQ_NAMES = ("PQ", "SQ", "RQ")


class PanopticCounts(NamedTuple):
    """What panoptic quality is computed of; counts of several images are added up.

    Attributes:
        iou: float64 [C], the sum of the IoU of matched segments.
        matched: int64 [C], pairs of a predicted and an annotated segment (true positives).
        wrong: int64 [C], predicted segments without a partner (false positives).
        missed: int64 [C], annotated segments without one (false negatives).
    """

    iou: np.ndarray
    matched: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    @classmethod
    def none(cls, classes: int) -> "PanopticCounts":
        """The counts of no image."""
        return cls(np.zeros(classes), *(np.zeros(classes, np.int64) for _ in range(3)))

    def __add__(self, other: "PanopticCounts") -> "PanopticCounts":  # pyright: ignore[reportIncompatibleMethodOverride]
        return PanopticCounts(*(a + b for a, b in zip(self, other, strict=True)))


def count_segments(
    predicted: np.ndarray,
    found: Mapping[int, int],
    annotated: np.ndarray,
    truth: Mapping[int, tuple[int, bool]],
    classes: int,
) -> PanopticCounts:
    """Match the predicted segments of an image with the annotated ones.

    Two segments of one class match if their IoU is above one half, which no segment's can be with two others.
    Pixels that are not annotated do not count for the IoU. A predicted segment without a partner is not wrong
    if more than half of it is not annotated, or lies in crowd regions of its class.

    Args:
        predicted: int [H, W], the number of each pixel's segment, 0 for none.
        found: Class of each predicted segment by its number.
        annotated: int [H, W], likewise.
        truth: Class of each annotated segment by its number, and whether it is a crowd region.
        classes: C.

    Returns:
        The counts of the image.

    Raises:
        ValueError: The maps have different shapes.

    Example:
        >>> predicted, annotated = np.array([[1, 1, 1, 2]]), np.array([[7, 7, 0, 8]])
        >>> counts = count_segments(predicted, {1: 0, 2: 1}, annotated, {7: (0, False), 8: (0, False)}, 2)
        >>> counts.iou.tolist(), counts.matched.tolist(), counts.wrong.tolist(), counts.missed.tolist()
        ([1.0, 0.0], [1, 0], [0, 1], [1, 0])
    """
    if predicted.shape != annotated.shape:
        raise ValueError(
            f"count_segments: predicted has the shape {list(predicted.shape)} and annotated "
            f"{list(annotated.shape)}; give maps of one image."
        )
    rows, ours = _numbered(predicted, found)
    columns, theirs = _numbered(annotated, truth)
    # Pixels that two segments share; the first row and column are those of pixels without one.
    shared = np.bincount(
        (ours * (len(columns) + 1) + theirs).ravel(), minlength=(len(rows) + 1) * (len(columns) + 1)
    )
    shared = shared.reshape(len(rows) + 1, len(columns) + 1)
    areas, unlabelled = shared.sum(1)[1:], shared[1:, 0]
    result = PanopticCounts.none(classes)
    partners: set[int] = set()
    for j, number in enumerate(columns):
        label, crowd = truth[number]
        if crowd:
            continue
        whole = shared[:, j + 1].sum()
        for i in np.flatnonzero(shared[1:, j + 1]):
            common = shared[i + 1, j + 1]
            iou = common / (areas[i] + whole - common - unlabelled[i])
            if found[rows[i]] == label and iou > 0.5:
                result.iou[label] += iou
                result.matched[label] += 1
                partners.add(int(i))
                break
        else:
            result.missed[label] += 1
    for i, number in enumerate(rows):
        if i in partners or not areas[i]:
            continue
        label = found[number]
        crowds = [j + 1 for j, other in enumerate(columns) if truth[other] == (label, True)]
        if (unlabelled[i] + shared[i + 1, crowds].sum()) / areas[i] <= 0.5:
            result.wrong[label] += 1
    return result


def _numbered(values: np.ndarray, known: Mapping[int, Any]) -> tuple[list[int], np.ndarray]:
    """The known numbers that occur in a map, ascending, and the map with 1, 2, ... for them, 0 for others."""
    distinct, places = np.unique(values, return_inverse=True)
    numbers = [int(x) for x in distinct if int(x) in known and x != 0]
    order = {number: i for i, number in enumerate(numbers, 1)}
    new = np.array([order.get(int(x), 0) for x in distinct])
    return numbers, new[places.reshape(values.shape)]


def panoptic_metrics(counts: PanopticCounts, categories: Sequence[Category], things: int) -> dict[str, Any]:
    """Panoptic quality, segmentation quality and recognition quality of a data set.

    Args:
        counts: Those of all images.
        categories: The C categories, those of things first.
        things: Number of things.

    Returns:
        ``PQ``, ``SQ`` and ``RQ``, the same with ``_things`` and ``_stuff``, in 0..1: means over the
        categories that occur among the annotated or the predicted segments, None if there is none. And
        ``per_class``, the three of each category by its place.

    Example:
        >>> counts = PanopticCounts(*map(np.array, ([1.5, 0.0], [2, 0], [1, 0], [1, 0])))
        >>> metrics = panoptic_metrics(counts, [Category(1, "cat"), Category(2, "sky")], 1)
        >>> metrics["PQ"], metrics["SQ"], metrics["PQ_stuff"], metrics["per_class"][1]["PQ"]
        (0.5, 0.75, None, None)
    """
    iou, matched, wrong, missed = (np.asarray(x, np.float64) for x in counts)
    halves = matched + 0.5 * wrong + 0.5 * missed
    occurs = halves > 0
    quality = iou / np.where(occurs, halves, 1)
    segmentation = iou / np.maximum(matched, 1)
    recognition = matched / np.where(occurs, halves, 1)
    each = np.stack([quality, segmentation, recognition], 1)
    metrics: dict[str, Any] = {}
    places = np.arange(len(categories))
    for suffix, group in (("", places >= 0), ("_things", places < things), ("_stuff", places >= things)):
        chosen = each[group & occurs]
        for k, name in enumerate(PQ_NAMES):
            metrics[name + suffix] = float(chosen[:, k].mean()) if len(chosen) else None
    rows = [dict(zip(PQ_NAMES, row, strict=True)) for row in each.tolist()]
    empty = dict.fromkeys(PQ_NAMES)
    return {**metrics, "per_class": [row if o else empty for row, o in zip(rows, occurs, strict=True)]}


@dataclasses.dataclass(frozen=True)
class PanopticTruth:
    """The segments that a panoptic model is scored against.

    Attributes:
        segments: The segments of the annotations.
        things: The categories of things as they are scored.
        label: Gives the place of a category of things among these, by its id; None if it is unknown.
        image_id: Gives the number of an image's id as it is written.
    """

    segments: Segments
    things: tuple[Category, ...]
    label: Callable[[Any], int | None]
    image_id: Callable[[Any], int | None]

    @property
    def categories(self) -> tuple[Category, ...]:
        """The categories that are scored: things, then stuff."""
        return (*self.things, *self.segments.stuff)

    def entries(self) -> list[dict[str, Any]]:
        """The categories as COCO's panoptic json has them, with ``isthing``."""
        return [
            {**category._asdict(), "isthing": int(i < len(self.things))}
            for i, category in enumerate(self.categories)
        ]

    def keys(self) -> dict[int | None, Any]:
        """The ids of the images as the json has them, by number."""
        return {self.image_id(key): key for key in self.segments.images}

    def count(self, key: Any, panoptic: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> PanopticCounts:
        """Count the matches of one image.

        Args:
            key: The image's id as the json has it.
            panoptic: int [H, W], and
            segments: the segments, as the predictor returns them.
        """
        places = {category.id: i for i, category in enumerate(self.segments.stuff, len(self.things))}
        places |= {category.id: i for i, category in enumerate(self.things)}
        image = self.segments.images[key]
        truth = {}
        for segment in image.segments:
            label = self.label(segment.category_id)
            truth[segment.id] = places[segment.category_id] if label is None else label, segment.crowd
        # The classes of a model that the annotations lack count for none.
        found = {s["id"]: places[s["category"]] for s in segments if s["category"] in places}
        return count_segments(panoptic, found, image.numbers(), truth, len(self.categories))


def match_stuff(config: ModelConfig, annotated: Sequence[Category], path: Any) -> tuple[Category, ...]:
    """Find the annotations' category of each of a model's classes of stuff, by its name or else its id.

    Args:
        config: The model's configuration, with a semantic head.
        annotated: The annotations' categories of stuff.
        path: Their file, for the message.

    Raises:
        UserError: The model has a class that the annotations lack.
    """
    by_name, by_id = {c.name: c for c in annotated}, {c.id: c for c in annotated}
    matched = []
    for category in config.known_stuff():
        found = by_name.get(category.name) or by_id.get(category.id)
        if found is None:
            some = ", ".join(c.name for c in annotated[:5])
            raise UserError(
                f"{path or 'The annotations'} lack the model's class of stuff {category.name!r} and have "
                f"{some or 'none'}; give annotations with the classes that it was trained on."
            )
        matched.append(found)
    return tuple(matched)
