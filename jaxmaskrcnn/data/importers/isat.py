"""ISAT (with Segment Anything): a json for each image, with a list of polygons in pixels.

Format: https://github.com/yatengLG/ISAT_with_segment_anything (``ISAT/annotation.py``, ``formats/coco.py``).
"""

from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.values import flag
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, json_files, label_files, read_object
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import polygon, stated_size
from jaxmaskrcnn.data.importers.shapes import number
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names"})
_BACKGROUND = "__background__"  # ISAT's own; no class


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json files, or else ``images`` beside it."""
    folder = folder_of(source)
    beside = folder.absolute().parent / "images"
    among = any(path.suffix.lower() in SUFFIXES for path in label_files(folder, "*"))
    return beside if beside.is_dir() and not among else folder


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every json of a folder, or one json.

    Polygons of one group and category are one object. Objects are in the order of their layers.

    Args:
        source: The folder (with its subfolders) or file.
        builder: Collects the images and objects.
        options: Unused; every importer takes it.
    """
    del options
    for path in json_files(source, builder):
        with builder.noting("bad file"):
            content = read_object(path)
            if {"images", "annotations"} <= content.keys() and not source.is_file():
                continue  # such as the output of an earlier import
            _read_file(content, path, builder)


def _read_file(content: dict, path: Path, builder: Builder) -> None:
    info, objects = content.get("info"), content.get("objects")
    if not isinstance(info, dict) or not isinstance(objects, list):
        raise UserError(f"{path} has no 'info' and no list 'objects'; give ISAT's json files.")
    name = info.get("name")
    if not isinstance(name, str):
        raise UserError(f"{path} has the name {name!r} in 'info'; give the name of the image file.")
    size = stated_size(info.get("height"), info.get("width"), str(path))
    image = builder.image(builder.folder.find(name, str(path), near=path.parent), str(path), size)
    found: dict[Any, tuple[str, Any, bool, list, float]] = {}
    for i, item in enumerate(objects):
        category = item.get("category") if isinstance(item, dict) else None
        place = f"{path}: object {i} ({category!r})"
        if category == _BACKGROUND:
            builder.tally(f"polygons of ISAT's {_BACKGROUND!r} are left out", place)
            continue
        with builder.noting("bad object"):
            if not isinstance(item, dict):
                raise UserError(f"{place} is not an object; save the file again in ISAT.")
            crowd = flag(item.get("iscrowd"))
            if crowd is None:
                raise UserError(f"{place} has the iscrowd {item['iscrowd']!r}; give true or false.")
            layer = number(item.get("layer", 1.0), "the layer", place)
            ring = polygon(item.get("segmentation"), place, (image[0].height, image[0].width))
            group = item.get("group")
            alone = group in (None, "") or not isinstance(group, (int, float, str))
            key = ("alone", i) if alone else ("group", str(group), str(category), crowd)
            found.setdefault(key, (place, category, crowd, [], layer))[3].append(ring)
    for place, category, crowd, rings, _ in sorted(found.values(), key=lambda entry: entry[4]):
        builder.add(image, category, rings, place, crowd=crowd)
