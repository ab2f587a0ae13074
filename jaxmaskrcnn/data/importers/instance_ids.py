"""Pictures whose values hold the class and the number of an object: KITTI, MOTS, Mapillary, Cityscapes.

Formats: https://www.cvlibs.net/datasets/kitti/eval_instance_seg.php?benchmark=instanceSeg2015,
https://www.vision.rwth-aachen.de/page/mots, the readme of Mapillary Vistas,
https://github.com/mcordts/cityscapesScripts (``createTrainIdInstanceImgs.py``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import read_object
from jaxmaskrcnn.data.importers.shapes import encode
from jaxmaskrcnn.errors import UserError

KINDS = ("plain", "cityscapes", "kitti", "mapillary", "mots")
CITYSCAPES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip
_MAPILLARY = ("config.json", "config_v2.0.json", "config_v1.2.json")


class Coding(NamedTuple):
    """How values hold a class.

    Attributes:
        divisor: A value is ``class * divisor + number``.
        names: The classes that have objects, by their value.
        first: The lowest number of an object; below it are regions without objects.
        crowds: Whether values below the divisor are classes of many objects that were not separated.
        ignored: Class values of regions that are nobody's.
    """

    divisor: int
    names: Mapping[int, str]
    first: int = 0
    crowds: bool = False
    ignored: tuple[int, ...] = ()


def coding(kind: str | None, folder: Path) -> Coding:
    """The coding of a data set; that of Mapillary has its names in a json in the folder or above it.

    Raises:
        UserError: There is none of that name, or Mapillary's json is not there.
    """
    match kind:
        case "cityscapes":
            return Coding(1000, CITYSCAPES, crowds=True)
        case "kitti":  # the classes of Cityscapes; 0 is a class without objects
            return Coding(256, CITYSCAPES, first=1)
        case "mots":
            return Coding(1000, {1: "car", 2: "pedestrian"}, ignored=(10,))
        case "mapillary":
            return Coding(256, _mapillary(folder))
    raise UserError(f"--ids is {kind!r}; it is one of {', '.join(KINDS)}.")


def add_coded(values: np.ndarray, image, coded: Coding, place: str, builder: Builder) -> None:
    """Adds the objects of a picture.

    Args:
        values: Whole numbers [H, W].
        image: As returned by `Builder.image`.
        coded: What the values mean.
        place: The picture, for messages.
        builder: Collects the objects; regions of other classes are counted.
    """
    for value in np.unique(values).tolist():
        where = f"{place}: value {value}"
        if coded.crowds and value < coded.divisor:
            if value in coded.names:
                builder.add(image, coded.names[value], encode(values == value), where, crowd=True)
                builder.tally("regions of several objects become crowd regions", where)
            continue
        kind, number = divmod(value, coded.divisor)
        if kind in coded.ignored:
            builder.tally("regions to be ignored are left out", where)
        elif kind in coded.names and number >= coded.first:
            builder.add(image, coded.names[kind], encode(values == value), where)
        elif kind not in coded.names and number > 0:
            builder.tally("objects of classes that are not evaluated as objects are left out", where)


def _mapillary(folder: Path) -> dict[int, str]:
    for parent in (folder, *list(folder.absolute().parents)[:4]):
        for name in _MAPILLARY:
            path = parent / name
            if path.is_file():
                labels = read_object(path).get("labels")
                if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
                    raise UserError(f"{path} has no list 'labels'; restore Mapillary's file.")
                names = {
                    i: label.get("readable") or label.get("name")
                    for i, label in enumerate(labels)
                    if label.get("instances")
                }
                return {i: str(name) for i, name in names.items()}
    raise UserError(f"{folder} has no {_MAPILLARY[0]} of Mapillary, nor has a folder above it; put it there.")
