"""COCO's instances json: read as training reads it, in every spelling, and written as COCO writes it.

Several json files of a folder become a json each: those that Roboflow writes beside the images of
each part (``train/_annotations.coco.json``), or those of COCO (``annotations/instances_val2017.json``).
"""

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from jaxmaskrcnn.data.coco.annotations import AllProblems, Annotations, parse_annotations
from jaxmaskrcnn.data.coco.crowd import count_classes
from jaxmaskrcnn.data.coco.file_names import FileNames, written_names
from jaxmaskrcnn.data.coco.load import check_content, decode_json, load_json, parse_json
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, Object
from jaxmaskrcnn.data.coco.packing import freed, packed
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.skeleton import has_keypoints
from jaxmaskrcnn.data.coco.tools import without_objects
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import json_files
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.shares import to_pixels
from jaxmaskrcnn.data.importers.split import NAMES, chosen_part, part_of
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name", "split", "crowd", "rename", "boxes_only", "relative"})
_ROBOFLOW = "_annotations.coco.json"
_SAMPLE = 50  # images by which the folder of a json is found


def images(source: Path) -> Path:
    """The image folder if none is given: the source's, or the one above a folder ``annotations``."""
    folder = source if source.is_dir() else source.parent
    return folder.parent if folder.name == "annotations" else folder


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image and object of a json, or of those of a folder, each of which is a part.

    Args:
        source: The json or the folder.
        builder: Collects the images and objects.
        options: ``crowd`` and ``class_name`` are those of `Reading`; ``rename`` gives classes other names,
            and two classes of one name become one; ``names`` is the order of the names that they have then;
            ``boxes_only`` takes objects without masks; ``relative`` takes polygons as shares of the image;
            ``split`` reads one part alone.
    """
    if options.rename and options.class_name:
        raise UserError("--rename has no effect with --class_name, which names all classes; leave one out.")
    paths = _paths(source, builder)
    parts = _parts(paths, source)
    wanted = chosen_part(options.split, parts.values(), source)
    builder.masks = not options.boxes_only
    read_files = []
    for path, part in parts.items():
        if wanted is None or part == wanted:
            with builder.noting("bad file") if source.is_dir() else contextlib.nullcontext():
                content = _content(path, source, builder)
                if content is not None:
                    read_files.append(
                        (path, part, *_parsed(content, path, builder, options, source.is_file()))
                    )
    if not read_files and not builder.problems.found:
        raise UserError(
            f"{source} holds no COCO json with 'images' and 'annotations'; give the folder that does."
        )
    rename = options.rename or {}
    found = [str(c.name) for _, _, _, annotations in read_files for c in annotations.categories]
    _check_renamed(rename, found, source)
    if options.names is None:
        builder.names = list(dict.fromkeys(rename.get(name, name) for name in found))
    files: dict[str | None, Path] = {}
    for path, part, folder, annotations in read_files:
        if files.setdefault(part, path) != path:
            builder.notes.append(f"{files[part]} and {path} are both {part!r} and become one json")
        if len({category.name for category in annotations.categories}) < len(annotations.categories):
            builder.notes.append(f"{path}: classes of one name become one")
        builder.notes += annotations.notes
        builder.notes += _crowd_notes(annotations, path)
        _add(annotations, path, folder, part, rename, builder)


def _paths(source: Path, builder: Builder) -> list[Path]:
    """The json, or those of a folder: Roboflow's or COCO's if there are such, or else all."""
    paths = json_files(source, builder)
    for chosen in (
        [path for path in paths if path.name == _ROBOFLOW],
        [path for path in paths if path.name.startswith("instances")],
    ):
        if chosen:
            return chosen
    return paths


def _parts(paths: Sequence[Path], source: Path) -> dict[Path, str | None]:
    """The part of the data set that each json is, by a word of its name or by its folder."""
    if len(paths) == 1:
        return {paths[0]: None}
    found: dict[Path, str | None] = {}
    for path in paths:
        words = re.split(r"[\W\d_]+", path.stem.lower())
        named = [NAMES[word] for word in words if word in NAMES] or [
            NAMES[folder.lower()] for folder in path.relative_to(source).parts[:-1] if folder.lower() in NAMES
        ]
        other = path.parent.name if path.name == _ROBOFLOW else path.stem
        found[path] = named[-1] if named else part_of(other)
    return found


def _content(path: Path, source: Path, builder: Builder) -> dict | None:
    """The json; None for one of a folder that is of another kind, such as captions."""
    if not source.is_dir():
        return load_json(path)
    try:
        content = parse_json(decode_json(path.read_bytes(), path), path, packed)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    listed = isinstance(content, dict) and {"images", "annotations"} <= content.keys()
    if not listed or without_objects(content):
        builder.tally("json files that are not COCO's instances are passed over", str(path))
        return None
    return check_content(content, path)


def _parsed(
    content: dict, path: Path, builder: Builder, options: Options, alone: bool
) -> tuple[Path, Annotations]:
    """The checked json, and the folder that its file names are relative to."""
    folder = _folder(content["images"], path, builder.folder.root, alone)
    if options.relative:
        count = to_pixels(content, path)
        builder.notes.append(f"{path}: polygons that are multiplied by the sizes of their images: {count}")
    # What is outside of the image folder is refused below, with advice of the importer's own.
    reading = Reading(options.crowd or "ignore", options.class_name or "", allow_outside=True)
    problems = _Problems(builder.problems)
    annotations = parse_annotations(
        content, path, folder, problems, masks=builder.masks, keypoints=has_keypoints(content),
        reading=reading, consume=freed,
    )  # fmt: skip
    return folder, annotations


class _Problems(AllProblems):
    """Collects problems among those of the builder; raises what cannot be left out."""

    keeps_missing = False

    def __init__(self, others: AllProblems):
        super().__init__()
        self.found, self.skipped = others.found, others.skipped

    def refuse(self, reason, message):
        raise UserError(f"{message}.")


def _folder(entries: Iterable[dict], path: Path, root: Path, alone: bool) -> Path:
    """The folder of a json's images: that of all, its own or one named like it, if a sample is there.

    Where there are several jsons, images of the same name can lie beside each, so its own comes first.
    """
    names = [names[0] for entry in list(entries)[:_SAMPLE] if (names := written_names(entry))]
    stem = [root / word for word in (path.stem, path.stem.split("_")[-1], path.parent.name)]
    beside = [path.parent, path.parent / "images"]
    for folder in [root, *beside, *stem] if alone else [*beside, root, *stem]:
        if names and folder.is_dir() and Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(root)):
            files = FileNames(folder)
            if all(files.is_file(name) for name in names):
                return folder
    return root


def _check_renamed(rename: Mapping[str, str], found: Sequence[str], source: Path) -> None:
    for old in rename:
        if old not in found:
            near = difflib.get_close_matches(old, found, n=3) or list(dict.fromkeys(found))[:5]
            raise UserError(
                f"--rename has the class {old!r}, which {source} does not have; give one of its "
                f"classes, such as {' or '.join(map(repr, dict.fromkeys(near)))}."
            )


def _crowd_notes(annotations: Annotations, path: Path) -> Iterator[str]:
    """Sentences about classes of which most is crowd regions."""
    for category, objects, crowds in count_classes(annotations.categories, annotations.images):
        if crowds > objects:
            yield (
                f"{path}: {crowds} of the {objects + crowds} annotations of {category.name!r} are crowd "
                "regions ('iscrowd': 1), which are not learned; --crowd=objects takes them as objects"
            )


def _add(
    annotations: Annotations,
    path: Path,
    folder: Path,
    part: str | None,
    rename: Mapping[str, str],
    builder: Builder,
) -> None:
    names = [rename.get(str(c.name), str(c.name)) for c in annotations.categories]
    root = Path(os.path.abspath(builder.folder.root))
    skeleton = annotations.skeleton
    if skeleton is not None:
        builder.keypoints.add_skeleton(skeleton)
    for item in annotations.images:
        place = f"{path}: image {item.id} ({item.file_name})"
        with builder.noting("bad image"):
            file = Path(os.path.abspath(folder / item.file_name))
            if not file.is_relative_to(root):
                raise UserError(
                    f"{place} is not in the image folder {root}; give the one that holds all by --images."
                )
            file = builder.folder.root / file.relative_to(root)
            image = builder.image(file, place, (item.height, item.width), part)
            for thing in item.objects:
                if thing.counts and not _mask_area(thing, item):
                    builder.tally("objects have masks without a pixel", f"{place}: annotation {thing.id}")
                fields = _fields(thing, item)
                if skeleton is not None and thing.keypoints:
                    values = json.loads(thing.keypoints)
                    rows = (tuple(values[3 * k : 3 * k + 3]) for k in range(len(skeleton.points)))
                    fields["keypoints"] = {
                        name: row for name, row in zip(skeleton.points, rows, strict=True) if row[2] > 0
                    }
                builder.keep(image, names[thing.label], fields, f"{place}: annotation {thing.id}")


def _mask_area(item: Object, image: AnnotatedImage) -> int:
    """Pixels of an object's mask."""
    return int(mask_utils.area({"size": [image.height, image.width], "counts": item.counts}))


def _fields(item: Object, image: AnnotatedImage) -> dict[str, Any]:
    """An object's entry in the json but for the ids."""
    x0, y0, x1, y1 = item.box
    fields: dict[str, Any] = {
        "iscrowd": int(item.crowd),
        "bbox": [round(value, 4) for value in (x0, y0, x1 - x0, y1 - y0)],
        "area": item.area,
    }
    if item.polygons:
        fields["segmentation"] = json.loads(item.polygons)
    elif item.counts:
        size = [image.height, image.width]
        fields["segmentation"] = {"size": size, "counts": item.counts.decode("ascii")}
    return fields
