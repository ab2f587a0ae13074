"""Draws panoptic results: every segment of things and stuff with its outline and name.

Shape legend: H, W height and width of the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.visualize.drawing import draw_detections, palette_colour

_FIRST_OF_STUFF = 12  # so that the colours of a few classes of stuff are not those of the first things


def draw_panoptic(
    image: Any,
    out: Mapping[str, Any],
    class_names: Mapping[int, str] | Sequence | None = None,
    *,
    thing_colours: Sequence[tuple[int, int, int]] | None = None,
    **options: Any,
) -> Image.Image:
    """Draws the segments of an image.

    A thing has a colour of its own, and a class of stuff the same one in every picture.

    Args:
        image: Path, PIL image or uint8 RGB array [H, W, 3].
        out: A result of ``Predictor`` with ``panoptic`` and ``segments``.
        class_names: Names by category id, or categories of things and stuff, as of `draw_detections`.
        thing_colours: RGB of each segment of a thing, in the order of the segments; None chooses by
            ``colour_by``.
        **options: Further options of `draw_detections`, such as ``long_side`` and ``colour_by``.

    Returns:
        An RGB picture.

    Example:
        >>> segment = {"id": 1, "category": 4, "isthing": False, "score": None, "area": 3072}
        >>> out = {"panoptic": np.ones((48, 64), np.int32), "segments": [segment]}
        >>> draw_panoptic(np.zeros((48, 64, 3), np.uint8), out, {4: "grass"}).size
        (256, 192)
    """
    panoptic, segments = np.asarray(out["panoptic"]), list(out["segments"])
    masks = [panoptic == segment["id"] for segment in segments]
    kept = [i for i, mask in enumerate(masks) if mask.any()]
    if thing_colours is None:
        things = [segment["category"] for segment in segments if segment["isthing"]]
        numbers = things if options.get("colour_by") == "class" else range(len(things))
        thing_colours = [palette_colour(number) for number in numbers]
    own = iter(thing_colours)
    colours = [
        next(own) if s["isthing"] else palette_colour(_FIRST_OF_STUFF + s["category"] % _FIRST_OF_STUFF)
        for s in segments
    ]
    drawn = {
        "boxes": np.array([_box(masks[i]) for i in kept], np.float32).reshape(-1, 4),
        "labels": np.array([segments[i]["category"] for i in kept], int),
        "scores": [segments[i]["score"] for i in kept],
        "masks": [masks[i] for i in kept],
    }
    return draw_detections(image, drawn, class_names, colours=[colours[i] for i in kept], **options)


def thing_boxes(out: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The segments of things as objects, by which a `ColourTracker` knows them again.

    Args:
        out: A result of ``Predictor`` with ``panoptic`` and ``segments``.

    Returns:
        ``boxes`` [T, 4] around their pixels, and ``labels`` [T].

    Example:
        >>> segment = {"id": 1, "category": 4, "isthing": True, "score": 0.9, "area": 2}
        >>> thing_boxes({"panoptic": np.array([[0, 1, 1]]), "segments": [segment]})["boxes"].tolist()
        [[1.0, 0.0, 3.0, 1.0]]
    """
    panoptic = np.asarray(out["panoptic"])
    things = [segment for segment in out["segments"] if segment["isthing"]]
    boxes = [_box(panoptic == segment["id"]) for segment in things]
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array([segment["category"] for segment in things], int),
    }


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
