"""Datumaro's own json: a file for each subset in ``annotations``, images in ``images/SUBSET``.

Format: https://github.com/openvinotoolkit/datumaro (``plugins/data_formats/datumaro``). CVAT exports it too,
and writes the rotation of a box, in degrees from the x to the y axis, among the box's attributes.
"""

import contextlib
import math
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.objects import is_int
from jaxmaskrcnn.data.coco.values import flag, number
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import json_files, read_object
from jaxmaskrcnn.data.importers.groups import Shape, add_grouped
from jaxmaskrcnn.data.importers.image_folder import find_in_part
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import numbers, stated_size
from jaxmaskrcnn.data.importers.shapes import checked_rle, ellipse, rectangle, rotated_rectangle
from jaxmaskrcnn.data.importers.split import chosen_part, part_of
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "split", "crowd"})
_NO_AREA = ("label", "points", "polyline", "caption", "cuboid_2d", "cuboid_3d", "skeleton")


def images(source: Path) -> Path:
    """The image folder if none is given: ``images`` in the data set's folder, or else that folder."""
    folder = source if source.is_dir() else source.parent
    if folder.name == "annotations":
        folder = folder.parent
    return folder / "images" if (folder / "images").is_dir() else folder


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every item of every subset, also those without annotations.

    Subsets are parts of the data set. Annotations of one group and label are one object.

    Args:
        source: The data set's folder, its folder ``annotations``, or one json.
        builder: Collects the images and objects.
        options: ``names`` in the order of their ids; without them those of the json. ``class_name`` is the
            class of all objects, ``crowd`` says what those with the attribute ``is_crowd`` are, and ``split``
            reads one subset alone.
    """
    contents, labels = {}, {}
    for path in json_files(source / "annotations" if (source / "annotations").is_dir() else source, builder):
        with builder.noting("bad file") if source.is_dir() else contextlib.nullcontext():
            content = read_object(path)
            if isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
                labels[path] = _labels(content, path)
                contents[path] = content
            elif source.is_dir():
                builder.tally("json files that are not of Datumaro are passed over", str(path))
            else:
                raise UserError(f"{path} has no list 'items' and no 'categories'; give a json of Datumaro.")
    if not contents and not builder.problems.found:
        raise UserError(f"{source} holds no json of Datumaro; give the folder that has 'annotations'.")
    if options.class_name is not None:
        builder.names = None
    elif options.names is None:
        builder.names = list(dict.fromkeys(name for names in labels.values() for name in names)) or None
    wanted = chosen_part(options.split, [part_of(path.stem) for path in labels], source)
    for path, names in labels.items():
        part = part_of(path.stem)
        if wanted is None or part == wanted:
            for i, item in enumerate(contents[path]["items"]):
                with builder.noting("bad item"):
                    _read_item(item, f"{path}: item {i}", path.stem, part, names, builder, options)


def _labels(content: dict, path: Path) -> list[str]:
    """The names of the classes by their number."""
    table = content["categories"].get("label") or {}
    labels = table.get("labels", []) if isinstance(table, dict) else None
    if not isinstance(labels, list):
        raise UserError(f"{path} has no list of labels in 'categories'; export it again.")
    names = [label.get("name") if isinstance(label, dict) else label for label in labels]
    good = [name.strip() for name in names if isinstance(name, str) and name.strip()]
    if len(good) < len(names):
        bad = next(name for name in names if not isinstance(name, str) or not name.strip())
        raise UserError(f"{path} has the label {bad!r}; give every label a name.")
    return good


def _read_item(
    item: Any, place: str, subset: str, part: str, names: list[str], builder: Builder, options: Options
) -> None:
    if not isinstance(item, dict) or not isinstance(item.get("annotations"), list):
        raise UserError(f"{place} has no list 'annotations'; export it again.")
    picture = item.get("image") or item.get("media") or {}
    if not isinstance(picture, dict):
        raise UserError(f"{place} has an 'image' that is not an object; export it again.")
    name = picture.get("path") or item.get("id")
    if not isinstance(name, str) or not name:
        raise UserError(f"{place} names no image; give its 'path'.")
    place = f"{place} ({name})"
    size = picture.get("size")
    if size is not None and not (isinstance(size, list) and len(size) == 2):
        raise UserError(f"{place} has the size {size!r}; give its height and width in pixels.")
    file = find_in_part(builder.folder, name, subset, place)
    height, width = size or (None, None)
    image = builder.image(file, place, stated_size(height, width, place), part)
    shapes = []
    for i, entry in enumerate(item["annotations"]):
        with builder.noting("bad annotation"):
            shape = _shape(
                entry, f"{place}: annotation {i}", (image[0].height, image[0].width), names, builder, options
            )
            if shape is not None:
                shapes.append(shape)
    add_grouped(image, shapes, builder)


def _shape(
    entry: Any, place: str, size: tuple[int, int], names: list[str], builder: Builder, options: Options
) -> Shape | None:
    """An annotation as a shape; None where it has no area or is left out."""
    if not isinstance(entry, dict):
        raise UserError(f"{place} is not an object; export it again.")
    kind, attributes = entry.get("type"), entry.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    if kind in _NO_AREA:
        builder.leave_out(f"type {kind!r}", place)
        return None
    match kind:
        case "polygon":
            outline = _list(entry, "points", None, place)
        case "bbox":
            x, y, width, height = _list(entry, "bbox", 4, place)
            angle = math.radians(number(attributes.get("rotation")) or 0)
            corners = x, y, x + width, y + height
            outline = rotated_rectangle(*corners, angle) if angle else rectangle(*corners)
        case "ellipse":
            x0, y0, x1, y1 = _list(entry, "points", 4, place)
            if x1 <= x0 or y1 <= y0:
                raise UserError(f"{place} is an ellipse without a width or a height; draw it again.")
            centre, radii = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
            outline = ellipse(*centre, *radii, size=size, place=place)
        case "mask":
            outline = checked_rle(entry.get("rle"), *size, place)
        case _:
            builder.tally("annotations of types that are not known are passed over", f"{place}, {kind!r}")
            return None
    crowd = flag(attributes.get("is_crowd")) or False
    if crowd and options.crowd in ("objects", "drop"):
        done = {"objects": "taken as objects", "drop": "dropped"}[options.crowd]
        builder.tally(f"crowd regions are {done} (--crowd={options.crowd})", place)
        if options.crowd == "drop":
            return None
        crowd = False
    label = options.class_name or _label(entry.get("label_id"), names, place)
    return Shape(place, label, entry.get("group"), outline, kind == "bbox", crowd)


def _label(value: Any, names: list[str], place: str) -> str:
    if not is_int(value) or not 0 <= value < len(names):
        raise UserError(
            f"{place} has the label_id {value!r}, and there are {len(names)} labels; give it one of them, or "
            "name the class of all with --class_name."
        )
    return names[value]


def _list(entry: dict, key: str, count: int | None, place: str) -> list[float]:
    """A list of coordinates."""
    values = entry.get(key)
    if not isinstance(values, list) or count not in (None, len(values)):
        wanted = "numbers" if count is None else f"{count} numbers"
        raise UserError(f"{place} has no list {key!r} of {wanted}; draw it again.")
    return numbers(values, place)
