"""VGG Image Annotator 3: a project with shapes as lists of numbers.

Format: https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md
"""

from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.shapes import ellipse, number, rectangle
from jaxmaskrcnn.errors import UserError

_NAMES = {1: "point", 5: "line", 6: "polyline", 8: "extreme rectangle", 9: "extreme circle"}


def read(content: dict, source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of a project of VIA 3, also those without regions.

    Args:
        content: The project.
        source: Its file.
        builder: Collects the images and objects.
        options: ``class_name`` of all regions, or the ``class_attribute`` that holds it.
    """
    files, views, metadata = (_table(content, key, source) for key in ("file", "view", "metadata"))
    attribute = None if options.class_name else _attribute(content, metadata, source, options.class_attribute)
    added = {}
    for key, view in views.items():
        place = f"{source}: view {key}"
        with builder.noting("bad image"):
            listed = view.get("fid_list")
            file = files.get(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else None
            if file is None or not isinstance(file.get("fname"), str):
                raise UserError(f"{place} does not show one image; make a view an image.")
            path = builder.folder.find(file["fname"], place, near=source.parent)
            added[key] = builder.image(path, place)
    for key, region in metadata.items():
        place = f"{source}: region {key}"
        points = region.get("xy")
        if not points:
            continue  # about the image as a whole
        image = added.get(str(region.get("vid")))
        if image is None:
            if str(region.get("vid")) not in views:
                builder.problems.add(
                    "unknown image", f"{place} belongs to a view that is not listed; remove it"
                )
            continue
        with builder.noting("bad shape"):
            name = options.class_name or _class(region, attribute, place)
            polygon = _polygon(points, place, (image[0].height, image[0].width), builder)
            if polygon is not None:
                builder.add(image, name, [polygon], place)


def _table(content: dict, key: str, source: Path) -> dict[str, dict]:
    table = content[key]
    if not isinstance(table, dict) or not all(isinstance(value, dict) for value in table.values()):
        raise UserError(f"{source} has a {key!r} that is no table of objects; save the project again in VIA.")
    return table


def _attribute(content: dict, metadata: dict, source: Path, requested: str | None) -> tuple[str, dict]:
    """The id of the attribute that holds the class, and the names of its choices by their id."""
    table = _table(content, "attribute", source) if "attribute" in content else {}
    used = {key for region in metadata.values() if region.get("xy") for key in _values(region)}
    names = {key: str(table[key].get("aname", key)) for key in table if key in used}
    found = [key for key, name in names.items() if requested in (None, name)]
    if len(found) != 1:
        listed = ", ".join(map(repr, names.values())) or "none"
        raise UserError(
            f"{source} has the region attributes {listed}; choose one by --class_attribute, or name the "
            "class of all by --class_name."
        )
    options = table[found[0]].get("options")
    return found[0], options if isinstance(options, dict) else {}


def _values(region: dict) -> dict:
    """The attributes of a region; none where they are no table."""
    values = region.get("av")
    return values if isinstance(values, dict) else {}


def _class(region: dict, attribute: tuple[str, dict] | None, place: str) -> str:
    assert attribute is not None
    value = _values(region).get(attribute[0])
    if value is None or value == "":
        raise UserError(f"{place} has no class; give it one.")
    if "," in str(value) and attribute[1]:
        raise UserError(f"{place} has several choices ({value}); make exactly one.")
    return str(attribute[1].get(str(value), value))


def _polygon(points: Any, place: str, size: tuple[int, int], builder: Builder) -> list[float] | None:
    """The shape as a polygon, or None where it has no area."""
    if not isinstance(points, list):
        raise UserError(f"{place} has an 'xy' that is no list; draw it again.")
    kind, *values = [number(value, "the coordinate", place) for value in points]
    match kind, values:
        case 2, [x, y, width, height]:
            return rectangle(x, y, x + width, y + height)
        case 3, [x, y, radius]:
            return ellipse(x, y, radius, radius, size=size, place=place)
        case 4, [x, y, rx, ry]:
            return ellipse(x, y, rx, ry, size=size, place=place)
        case 7, _:
            return values
        case ((1 | 5 | 6 | 8 | 9), _):
            builder.leave_out(f"shape {_NAMES[int(kind)]!r}", place)
            return None
    raise UserError(f"{place} has a shape of the kind {kind:g} with {len(values)} numbers; draw it again.")
