"""COCO's json of stuff: annotations are regions without objects, as polygons or RLE.

Its class "other" stands for all things, and so do classes with ``isthing`` 1 and those of the objects' json.

Format: https://cocodataset.org/#stuff-2019
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config.semantic import MOST_STUFF
from jaxmaskrcnn.data.coco.images import Images
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.panoptic import is_panoptic
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.segmentation import mask_counts
from jaxmaskrcnn.data.coco.values import flag, whole_number
from jaxmaskrcnn.data.fields.field import BadAnnotation
from jaxmaskrcnn.data.fields.packed import unpacked
from jaxmaskrcnn.data.fields.semantic import THINGS
from jaxmaskrcnn.data.rle import mask_areas
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.texts import is_text

_OTHER = "other"  # name and supercategory of COCO's class of all things


class Regions(NamedTuple):
    """What a json of stuff holds.

    Attributes:
        names: The names of the classes of stuff, in ascending order of id.
        ids: Their ids.
        regions: By the id of an image label and compressed RLE of each region, the largest first.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    regions: dict[int, list[tuple[int, bytes]]]


def read_stuff_json(path: Path, images: Images, categories: Sequence[Mapping], problems: Problems) -> Regions:
    """Reads a json of stuff.

    Args:
        path: The json.
        images: The images of the objects' json; those whose stuff cannot be used are left out of them.
            Images that are in the json of stuff alone are not needed.
        categories: The entries of the objects' json, whose classes are things.
        problems: Collects what is wrong with an image's regions.

    Raises:
        UserError: The file cannot be read, is another kind of json, or its classes are wrong.
    """
    content = load_json(path)
    if is_panoptic(content):
        raise UserError(
            f"{path} is a panoptic json, which has the objects too; give it as the annotations, and no stuff "
            "apart."
        )
    things, stuff = _read_classes(content["categories"], categories, path)
    labels: dict[int | None, int] = {**dict.fromkeys(things, THINGS)}
    labels |= {identity: i for i, identity in enumerate(stuff, 1)}
    regions: dict[int, list[tuple[int, bytes]]] = {identity: [] for identity in images.usable}
    listed: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        identity = images.ids.of(entry.get("image_id"))
        if identity is None or identity not in images.usable:
            continue
        image = images.usable[identity]
        place = f"{path}: annotation {entry.get('id')!r} (entry {number}) of image {identity}"
        listed.add(identity)
        try:
            label = labels.get(whole_number(entry.get("category_id")))
            if label is None:
                raise UserError(
                    f"{place} has the category_id {entry.get('category_id')!r}, which 'categories' lacks; "
                    "add the category or correct the annotation"
                )
            regions[identity].append((label, _mask(entry, (image.height, image.width), place)))
        except UserError as error:
            images.leave_out(identity)
            problems.add("bad segments", str(error), image_id=identity)
    for identity, image in list(images.usable.items()):
        if identity not in listed:
            images.leave_out(identity)
            problems.add(
                "no segments",
                f"{path} has no stuff of image {identity} ({image.file_name}); add its regions, or remove "
                "the image",
                image_id=identity,
            )
            continue
        size = [image.height, image.width]
        areas = mask_areas([{"size": size, "counts": counts} for _, counts in regions[identity]])
        order = np.argsort(-areas.astype(np.int64), kind="stable").tolist()
        regions[identity] = [regions[identity][i] for i in order]
    kept = {identity: regions[identity] for identity in images.usable}
    return Regions(tuple(stuff.values()), tuple(stuff), kept)


def without_stuff(
    content: dict[str, Any], reading: Reading, notes: Notes
) -> tuple[dict[str, Any], frozenset[int]]:
    """A json of objects without its classes of stuff, if the stuff is read from elsewhere or from it too.

    Args:
        content: The json.
        reading: Says whether stuff is read.
        notes: Is told of stuff that is taken as objects.

    Returns:
        The json, and the ids of the classes whose annotations are no objects.

    Example:
        >>> grass, cat = {"id": 9, "name": "grass", "isthing": 0}, {"id": 1, "name": "cat", "isthing": 1}
        >>> without_stuff({"categories": [grass, cat]}, Reading(stuff="set.json"), Notes())
        ({'categories': [{'id': 1, 'name': 'cat', 'isthing': 1}]}, frozenset({9}))
    """
    entries = content["categories"]
    stuff = [entry for entry in entries if "isthing" in entry and flag(entry["isthing"]) is False]
    if not stuff:
        return content, frozenset()
    if not reading.stuff:
        kind = "classes of stuff ('isthing' 0) that are taken as objects, as it is not said where stuff is"
        notes.add(kind, repr(stuff[0].get("name")), len(stuff))
        return content, frozenset()
    ids = (whole_number(entry.get("id")) for entry in stuff)
    kept = [entry for entry in entries if entry not in stuff]
    return {**content, "categories": kept}, frozenset(identity for identity in ids if identity is not None)


def _read_classes(
    entries: Sequence[Mapping], objects: Sequence[Mapping], path: Path
) -> tuple[set[int], dict[int, str]]:
    """The ids of things, and the names of stuff by id, which ascend."""
    counted = {(whole_number(entry.get("id")), entry.get("name")) for entry in map(_hashable, objects)}
    things: set[int] = set()
    stuff: dict[int, str] = {}
    for entry in entries:
        identity, name = whole_number(entry.get("id")), entry.get("name")
        thing = flag(entry["isthing"]) if "isthing" in entry else False
        named = isinstance(name, str) and bool(name.strip()) and is_text(name)
        taken = identity in things or identity in stuff or name in stuff.values()
        if identity is None or not isinstance(name, str) or not named or thing is None or taken:
            raise UserError(
                f"{path} has the category {dict(list(entry.items())[:4])!r}; give each an id and a name of "
                "its own, and 'isthing' (0 or 1) or none."
            )
        other = name == entry.get("supercategory") == _OTHER
        if thing or other or (identity, name) in counted:
            things.add(identity)
        else:
            stuff[identity] = name
    if not stuff:
        raise UserError(f"{path} has no class of stuff; give COCO's json of stuff.")
    if len(stuff) > MOST_STUFF:
        raise UserError(
            f"{path} has {len(stuff)} classes of stuff, and a label of pixels is one of at most "
            f"{MOST_STUFF}; join some of them."
        )
    return things, dict(sorted(stuff.items()))


def _hashable(entry: Mapping) -> dict[str, Any]:
    """The id and the name of a category; None in the place of a value that is neither number nor text."""
    return {
        key: value if isinstance(value := entry.get(key), (str, int, float)) else None
        for key in ("id", "name")
    }


def _mask(entry: Mapping, size: tuple[int, int], place: str) -> bytes:
    """The compressed RLE of a region, empty for one without a pixel."""
    if not size[0]:
        raise UserError(f"{place} is of an image without a size; give its height and width in pixels")
    try:
        return mask_counts(unpacked(entry.get("segmentation")), size, Notes(), place, required=True)
    except BadAnnotation as bad:
        raise UserError(f"{place} {bad.found}") from bad
