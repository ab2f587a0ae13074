"""Joins the shapes of a group into one object, as the COCO exports of CVAT and Datumaro do.

Both exports are Datumaro's ``coco_format`` (https://github.com/openvinotoolkit/datumaro), whose
``find_instances`` makes one object of all shapes of an image with the same group, except for group 0. Where
a group has masks or polygons, its boxes say nothing more and give no pixels. Those exports give a group of
several labels the label of its largest shape; here it becomes an object for each of its labels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.shapes import unite


class Shape(NamedTuple):
    """One shape of an image.

    Attributes:
        place: Where it is, for messages.
        label: Its class.
        group: The number of its group; 0 and None are none.
        outline: A polygon, a mask [H, W], or an RLE.
        is_box: Whether it is a box only.
        crowd: Whether it is a region of many objects.
    """

    place: str
    label: Any
    group: Any
    outline: list[float] | np.ndarray | dict[str, Any]
    is_box: bool = False
    crowd: bool = False


def add_grouped(image: Any, shapes: Sequence[Shape], builder: Builder) -> None:
    """Adds the shapes of an image to the builder, those of one group and label as one object.

    Args:
        image: As `Builder.image` returns it.
        shapes: In their order.
        builder: Collects the objects.
    """
    objects: dict[Any, list[Shape]] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for number, shape in enumerate(shapes):
        group = str(shape.group or 0)
        key = (group, str(shape.label), shape.crowd) if group != "0" else number
        objects.setdefault(key, []).append(shape)
        labels[group].add(str(shape.label))
    for group, found in labels.items():
        if group != "0" and len(found) > 1:
            place = next(shape.place for shape in shapes if str(shape.group) == group)
            builder.tally("groups hold several classes and become an object for each of them", place)
    height, width = image[0].height, image[0].width
    for parts in objects.values():
        first = parts[0]
        if len(parts) > 1:
            builder.tally("objects are made of several shapes of one group", first.place)
        outlines = [part.outline for part in parts if not part.is_box] or [p.outline for p in parts]
        builder.add(image, first.label, unite(outlines, height, width), first.place, crowd=first.crowd)
