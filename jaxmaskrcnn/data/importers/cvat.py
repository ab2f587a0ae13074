"""CVAT's own xml: 'CVAT for images 1.1', and 'CVAT for video 1.1' in ``cvat_video``.

Format: https://docs.cvat.ai/docs/other/xml_format, and ``dataset_manager/formats/cvat.py`` of
https://github.com/cvat-ai/cvat. Rotations are in degrees from the x to the y axis about the centre, as its
``RotatedBoxesToPolygons`` takes them. A mask is a list of runs along the rows of its own rectangle, the first
of them of zeros.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.importers import cvat_video
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import label_files, read_xml
from jaxmaskrcnn.data.importers.groups import Shape, add_grouped
from jaxmaskrcnn.data.importers.image_folder import find_in_part
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.data.importers.shapes import ellipse, encode, number, rectangle, rotated_rectangle
from jaxmaskrcnn.data.importers.split import chosen_part, part_of
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "split"})
_NO_AREA = ("points", "polyline", "skeleton", "cuboid", "tag")
_AREAS = ("polygon", "box", "ellipse", "mask")


def images(source: Path) -> Path:
    """The image folder if none is given: ``images`` beside the xml, or else the xml's own folder."""
    folder = source if source.is_dir() else source.parent
    return folder / "images" if (folder / "images").is_dir() else folder


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of an xml, or of all of CVAT's xmls in a folder, also those without shapes.

    Subsets of a project are parts of the data set. Shapes of one group and label are one object.

    Args:
        source: The xml, or a folder.
        builder: Collects the images and objects.
        options: ``names`` in the order of their ids; without them those of the task's labels.
            ``class_name`` is the class of all objects. ``split`` reads one subset alone.
    """
    roots = dict(_roots(source, builder))
    if not roots and not builder.problems.found:
        raise UserError(f"{source} holds no xml file of CVAT; give its annotations.xml.")
    if options.class_name is not None:
        builder.names = None
    elif options.names is None:
        builder.names = list(_names(roots.values())) or None
    parts = {part_of(e.get("subset", "")) for root in roots.values() for e in [*root.iter("image"), *root]}
    wanted = chosen_part(options.split, sorted(parts), source)
    for path, root in roots.items():
        pictures = [(e, part_of(e.get("subset", ""))) for e in root.iter("image")]
        for i, (element, part) in enumerate(pictures):
            if wanted is None or part == wanted:
                with builder.noting("bad image"):
                    _read_image(element, part, f"{path}: image {i}", builder, options)
        frames = cvat_video.frames(root, path, builder, wanted)
        for frame in frames:
            with builder.noting("bad image"):
                file = builder.folder.find(frame.name, frame.place)
                image = builder.image(file, frame.place, frame.size, frame.part)
                _add(image, frame.shapes, frame.place, builder, options)


def _roots(source: Path, builder: Builder) -> Iterator[tuple[Path, Element]]:
    """The xml files of CVAT, parsed."""
    if not source.is_dir():
        root = read_xml(source)
        if root.tag != "annotations":
            raise UserError(f"{source} begins with <{root.tag}> and not <annotations>; give an xml of CVAT.")
        yield source, root
        return
    for path in label_files(source, "**/*.xml", builder):
        with builder.noting("bad file"):
            root = read_xml(path)
            if root.tag == "annotations":
                yield path, root
            else:
                builder.tally("xml files that are not of CVAT are passed over", str(path))


def _names(roots: Iterable[Element]) -> dict[str, None]:
    """The labels of the tasks in their order, without those of shapes that have no area."""
    names: dict[str, None] = {}
    for root in roots:
        for label in root.iter("label"):
            name = (label.findtext("name") or "").strip()
            if name and label.findtext("type") not in _NO_AREA and label.find("parent") is None:
                names[name] = None
    if names:  # a label that was removed from the task can still be in use
        shapes = (e for root in roots for e in root.iter() if e.tag in (*_AREAS, "track"))
        names |= dict.fromkeys(sorted({(e.get("label") or "").strip() for e in shapes} - {"", *names}))
    return names


def _read_image(element: Element, part: str, place: str, builder: Builder, options: Options) -> None:
    name = element.get("name")
    if not name:
        raise UserError(f"{place} has no name; export it again.")
    place = f"{place} ({name})"
    image = builder.image(
        find_in_part(builder.folder, name, element.get("subset", ""), place),
        place,
        stated_size(element.get("height"), element.get("width"), place),
        part or None,
    )
    shapes = [(shape, shape.get("label"), shape.get("group_id")) for shape in element]
    _add(image, shapes, place, builder, options)


def _add(image: Any, elements: Iterable, place: str, builder: Builder, options: Options) -> None:
    """Adds the shapes of an image, each with its label and group."""
    shapes = []
    size = image[0].height, image[0].width
    for i, (element, label, group) in enumerate(elements):
        where = f"{place}: {element.tag} {i} ({label!r})"
        if element.tag in _NO_AREA:
            builder.leave_out(f"shape {element.tag!r}", where)
        elif element.tag not in _AREAS:
            builder.tally("elements that are no known shapes are passed over", where)
        else:
            with builder.noting("bad shape"):
                outline = _outline(element, where, size)
                name = options.class_name or label
                shapes.append(Shape(where, name, group, outline, element.tag == "box"))
    add_grouped(image, shapes, builder)


def _outline(element: Element, place: str, size: tuple[int, int]) -> list[float] | dict[str, Any]:
    def value(key: str, default: str | None = None) -> float:
        return _number(element.get(key, default), key, place)

    angle = math.radians(value("rotation", "0"))
    match element.tag:
        case "polygon":
            pairs = [pair.split(",") for pair in (element.get("points") or "").split(";")]
            if any(len(pair) != 2 for pair in pairs):
                raise UserError(f"{place} has no points x,y;x,y;...; draw it again.")
            return [_number(text, "the coordinate", place) for pair in pairs for text in pair]
        case "box":
            corners = value("xtl"), value("ytl"), value("xbr"), value("ybr")
            return rotated_rectangle(*corners, angle) if angle else rectangle(*corners)
        case "ellipse":
            rx, ry = value("rx"), value("ry")
            if min(rx, ry) <= 0:
                raise UserError(f"{place} has the radii {rx:g} and {ry:g}; make both positive.")
            return ellipse(value("cx"), value("cy"), rx, ry, angle, size, place)
    return _mask(element, place, size)


def _mask(element: Element, place: str, size: tuple[int, int]) -> dict[str, Any]:
    """RLE of the whole image from the runs in the mask's own rectangle."""
    texts = [element.get(key) for key in ("left", "top", "width", "height")]
    values = [whole_number(text) for text in texts + (element.get("rle") or "").split(",")]
    whole = [value for value in values if value is not None]
    if len(whole) < len(values) or min(whole) < 0 or not (whole[2] and whole[3]):
        raise UserError(f"{place} has no whole numbers for left, top, width, height and rle; draw it again.")
    left, top, width, height, *runs = whole
    if left + width > size[1] or top + height > size[0]:
        raise UserError(
            f"{place} is {width} x {height} pixels at ({left}, {top}), which reaches beyond its image of "
            f"{size[1]} x {size[0]}; draw it again."
        )
    if sum(runs) != width * height:
        raise UserError(
            f"{place} has runs of {sum(runs)} pixels for a rectangle of {width} x {height}; draw it again."
        )
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = inside
    return encode(mask)


def _number(text: str | None, field: str, place: str) -> float:
    try:
        return number(float(text or ""), field, place)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{place} has {field} {text!r}; give a finite number.") from error
