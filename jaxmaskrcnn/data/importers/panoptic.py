"""COCO's panoptic format: a json, and a folder of pictures whose colours are numbers of segments.

The folder has the json's name without its suffix. A number is ``red + 256 green + 65536 blue``; 0 is
nobody's.

Format: https://cocodataset.org/#format-data (section 4), https://github.com/cocodataset/panopticapi.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.panoptic import picture_folder, read_kinds, segment_numbers
from jaxmaskrcnn.data.coco.values import flag, whole_number
from jaxmaskrcnn.data.importers.builder import Builder, check_distinct
from jaxmaskrcnn.data.importers.files import label_files, read_object
from jaxmaskrcnn.data.importers.numbered import encode_values
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names"})


def images(source: Path) -> Path:
    """The image folder if none is given: that of the json."""
    return source.parent


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds the segments of classes that are things; of the others, called stuff, none.

    Args:
        source: The json.
        builder: Collects the images and objects.
        options: ``names`` are the classes to be read; without them all things of the json are.
    """
    if source.is_dir():
        raise UserError(f"{source} is a folder; give the panoptic json beside the folder of its pictures.")
    content = read_object(source)
    lists: list[Any] = [content.get(key) for key in ("images", "annotations", "categories")]
    if not all(isinstance(entries, list) and all(isinstance(e, dict) for e in entries) for entries in lists):
        raise UserError(f"{source} lacks 'images', 'annotations' or 'categories'; give COCO's panoptic json.")
    listed, annotations, categories = lists
    counted = {category.id for category in read_kinds(categories, source)[0]}
    # The names of classes by id; those of stuff are empty.
    ids = [whole_number(entry["id"]) for entry in categories]
    things = {i: entry["name"] if i in counted else "" for i, entry in zip(ids, categories, strict=True)}
    if options.names is None:
        builder.names = check_distinct([name for name in things.values() if name], str(source))
    folder = picture_folder(source)
    pictures = {path.absolute() for path in label_files(folder, "*.png")}
    builder.not_images.update(pictures)
    by_id = {str(entry.get("id")): entry for entry in listed}
    for i, entry in enumerate(annotations):
        place = f"{source}: annotation {i}"
        with builder.noting("bad annotation"):
            image = by_id.get(str(entry.get("image_id")))
            if image is None:
                raise UserError(f"{place} has the image_id {entry.get('image_id')!r}, which 'images' lacks.")
            _read_one(entry, image, folder, things, place, pictures, builder)


def _read_one(
    entry: dict,
    listed: dict,
    folder: Path,
    things: Mapping[int | None, str],
    place: str,
    pictures: set,
    builder: Builder,
) -> None:
    file, name, segments = entry.get("file_name"), listed.get("file_name"), entry.get("segments_info")
    if not isinstance(file, str) or not isinstance(name, str):
        raise UserError(f"{place} or its image has no file_name; export it again.")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise UserError(f"{place} has no list 'segments_info'; give COCO's panoptic json.")
    picture = folder / Path(file.replace("\\", "/")).name
    size = stated_size(listed.get("height"), listed.get("width"), place)
    numbers = segment_numbers(picture, place, size)
    path = builder.folder.find(name, place)
    if path.absolute() in pictures:
        raise UserError(f"{place}: {name!r} is found among the pictures of segments only; give --images.")
    image = builder.image(path, place, numbers.shape)
    rles = encode_values(numbers)
    seen: set[int] = set()
    for segment in segments:
        identity = whole_number(segment.get("id"))
        where = f"{place}, segment {segment.get('id')!r}"
        with builder.noting("bad segment"):
            category = whole_number(segment.get("category_id"))
            if category is None or category not in things:
                raise UserError(
                    f"{where} has the category_id {segment.get('category_id')!r}; 'categories' lacks it."
                )
            if identity is None or identity not in rles or identity in seen:
                found = "twice" if identity in seen else "without a pixel of its number"
                raise UserError(f"{where} is there {found} in {picture}; correct its id or remove it.")
            seen.add(identity)
            crowd = flag(segment.get("iscrowd"))
            if crowd is None:
                raise UserError(f"{where} has the iscrowd {segment['iscrowd']!r}; give 0 or 1.")
            if things[category] and (builder.names is None or things[category] in builder.names):
                builder.add(image, things[category], rles[identity], where, crowd=crowd)
    if rles.keys() - seen:
        builder.tally("pictures have segments that the json does not list, which are left out", place)
