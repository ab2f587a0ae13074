"""VGG Image Annotator 1 and 2 (3 is in ``via_three``): a project or exported annotations, in one json.

Format: https://www.robots.ox.ac.uk/~vgg/software/via/ (``via-2.x.y/CodeDoc.md`` of its repository).
"""

from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.importers import via_three
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, read_object
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.shapes import ellipse, number, rectangle
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "class_attribute"})


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json."""
    return folder_of(source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of a project, also those without regions.

    Args:
        source: The json.
        builder: Collects the images and objects.
        options: ``class_name`` for all regions, or the ``class_attribute`` that holds it; neither
            is needed where regions have one attribute.
    """
    if source.is_dir():
        raise UserError(f"{source} is a folder; give the json that VIA saved or exported.")
    content = read_object(source)
    if {"file", "metadata", "view"} <= content.keys():
        via_three.read(content, source, builder, options)
        return
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and "filename" in entry and "regions" in entry for entry in entries.values()
    ):
        raise UserError(
            f"{source} has an image without 'filename' or 'regions'; give a project of VIA or its "
            "annotations, exported as json."
        )
    attribute = None if options.class_name else _attribute(entries, source, options.class_attribute)
    for key, entry in entries.items():
        place = f"{source}: image {key!r}"
        with builder.noting("bad image"):
            if not isinstance(entry["filename"], str):
                raise UserError(f"{place} has the filename {entry['filename']!r}; give the image's name.")
            file = builder.folder.find(entry["filename"], place, near=source.parent)
            image = builder.image(file, place)
            size = (image[0].height, image[0].width)
            for i, region in enumerate(_regions(entry["regions"], place)):
                where = f"{source}: region {i} of {entry['filename']}"
                with builder.noting("bad shape"):
                    name = options.class_name or _class(region, attribute, where)
                    polygon = _polygon(region.get("shape_attributes"), where, size, builder)
                    if polygon is not None:
                        builder.add(image, name, [polygon], where)


def _regions(regions: Any, place: str) -> list[dict]:
    if isinstance(regions, dict):  # VIA 1 numbers them
        regions = list(regions.values())
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise UserError(f"{place} has 'regions' that are not a list of objects; export them again.")
    return regions


def _attribute(entries: dict, source: Path, requested: str | None) -> str:
    """The region attribute that holds the class."""
    found: dict[str, None] = {}
    for entry in entries.values():
        for region in _regions(entry["regions"], f"{source}: image {entry['filename']!r}"):
            attributes = region.get("region_attributes")
            found.update(dict.fromkeys(attributes if isinstance(attributes, dict) else ()))
    listed = ", ".join(map(repr, found))
    if requested is not None and requested not in found:
        there = f"have {listed}" if found else "have none"
        raise UserError(f"{source} has no region attribute {requested!r}; its regions {there}.")
    if requested is None and len(found) != 1:
        if not found:
            raise UserError(f"{source} has no region attributes; name the class of all with --class_name.")
        raise UserError(f"{source} has the region attributes {listed}; choose one by --class_attribute.")
    return requested or next(iter(found))


def _class(region: dict, attribute: str | None, place: str) -> str:
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):  # a checkbox: every choice, and whether it is ticked
        chosen = [name for name, on in value.items() if on]
        if len(chosen) != 1:
            raise UserError(f"{place} has {len(chosen)} choices of {attribute!r}; make exactly one.")
        return chosen[0]
    if value is None or value == "":
        raise UserError(f"{place} has no value of {attribute!r}; give it a class.")
    return str(value)


def _polygon(shape: Any, place: str, size: tuple[int, int], builder: Builder) -> list[float] | None:
    """The shape as a polygon, or None where it has no area."""
    if not isinstance(shape, dict):
        raise UserError(f"{place} has no 'shape_attributes'; draw it again.")

    def value(field: str) -> float:
        return number(shape.get(field), field, place)

    match shape.get("name"):
        case "polygon" | "polyline":
            xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
            if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
                raise UserError(f"{place} has not as many all_points_x as all_points_y; draw it again.")
            flat = [v for point in zip(xs, ys, strict=True) for v in point]
            return [number(v, "the coordinate", place) for v in flat]
        case "rect":
            x, y = value("x"), value("y")
            return rectangle(x, y, x + value("width"), y + value("height"))
        case "circle":
            return ellipse(value("cx"), value("cy"), value("r"), value("r"), size=size, place=place)
        case "ellipse":
            angle = value("theta") if "theta" in shape else 0.0  # radians; older versions have none
            return ellipse(value("cx"), value("cy"), value("rx"), value("ry"), angle, size, place)
        case other:
            builder.leave_out(f"shape {other!r}", place)
            return None
