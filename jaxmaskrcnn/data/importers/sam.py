"""Segment Anything's data set, SA-1B: a json for each image, with masks as RLE and without classes.

Format: https://github.com/facebookresearch/segment-anything#dataset
"""

from pathlib import Path

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, json_files, read_object
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name"})
_CLASS = "object"


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json files."""
    return folder_of(source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every json of a folder, or one json.

    Args:
        source: The folder (with its subfolders) or file.
        builder: Collects the images and objects.
        options: ``class_name`` is the class of all objects, "object" if it is not given.
    """
    for path in json_files(source, builder):
        with builder.noting("bad file"):
            content = read_object(path)
            if {"images", "annotations"} <= content.keys() and not source.is_file():
                continue  # such as the output of an earlier import
            _read_file(content, path, builder, options.class_name or _CLASS)


def _read_file(content: dict, path: Path, builder: Builder, class_name: str) -> None:
    info, annotations = content.get("image"), content.get("annotations")
    if not isinstance(info, dict) or not isinstance(annotations, list):
        raise UserError(
            f"{path} has no 'image' and no list 'annotations'; give Segment Anything's json files."
        )
    name = info.get("file_name")
    if not isinstance(name, str):
        raise UserError(f"{path} has the file_name {name!r}; give the name of the image file.")
    size = stated_size(info.get("height"), info.get("width"), str(path))
    image = builder.image(builder.folder.find(name, str(path), near=path.parent), str(path), size)
    for i, item in enumerate(annotations):
        place = f"{path}: annotation {item['id'] if isinstance(item, dict) and 'id' in item else i}"
        with builder.noting("bad annotation"):
            segmentation = item.get("segmentation") if isinstance(item, dict) else None
            if not isinstance(segmentation, dict):
                raise UserError(f"{place} has no RLE as its segmentation; give Segment Anything's own files.")
            builder.add(image, class_name, segmentation, place)
