"""YOLO segmentation: a txt per image, a line per object: class, then x and y as shares of the image.

Format: https://docs.ultralytics.com/datasets/segment/. What the data set says about itself is read in
``yolo_description``, and its parts in ``yolo_parts``.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import label_files, read_text
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.split import NAMES
from jaxmaskrcnn.data.importers.yolo_description import Description, describe
from jaxmaskrcnn.data.importers.yolo_parts import key_of, lists_of, parts_of
from jaxmaskrcnn.errors import UserError

# Takes a line's words and place, the image, the names of the classes, and the builder.
AddLine = Callable[[list[str], str, Any, list[str], Builder], None]

OPTIONS = frozenset({"names", "split"})
_BEYOND = 0.01  # share of the image's side by which a point may lie outside it
_NOT_LABELS = ("classes.txt", "readme.txt", "requirements.txt")


def images(source: Path) -> Path:
    """The image folder if none is given: the path with ``images`` in place of ``labels``.

    Where each part of the data set has an image folder of its own, it is the data set's folder.
    """
    parts = list(source.parts)
    if (source / "labels").is_dir():
        return source / "images"
    if "labels" in parts:
        last = len(parts) - 1 - parts[::-1].index("labels")
        return Path(*parts[:last], "images", *parts[last + 1 :])
    if (source / "images").is_dir() and not label_files(source, "*/images"):
        return source / "images"
    return source


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of the image folder; one without a txt has no objects.

    Args:
        source: Folder of the txt files, or the data set's, which has ``labels`` or a yaml.
        builder: Collects the images and objects.
        options: ``names`` in the order of the class numbers; without them the yaml's are taken.
            ``split`` reads one part alone.
    """
    read_labels(source, builder, options, _add_polygon, masks=True)


def read_labels(source: Path, builder: Builder, options: Options, add: AddLine, *, masks: bool) -> None:
    """Adds every image of the image folder and what its txt says.

    An image and its txt have the same path but for a folder ``images`` or ``labels`` in it. The parts of the
    data set are those of the yaml (``train``, ``val``, ``test``), or else folders of these names.

    Args:
        source: Folder of the txt files, or the data set's, which has ``labels`` or a yaml.
        builder: Collects the images and objects.
        options: As of `read`.
        add: Adds the object of a line's words.
        masks: Whether labels that are boxes alone are refused.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; give the one that holds the label files.")
    description = describe(source)
    names = list(options.names) if options.names is not None else description.names(source)
    builder.names = names
    labels = _labels(source, description, builder)
    pictures: dict[str, str] = {}
    for name in builder.folder.names():
        other = pictures.setdefault(key_of(Path(name)), name)
        if other != name:
            builder.problems.add(
                "same labels", f"{other} and {name} would have the same labels; keep one of the images"
            )
    if description.path and description.path.suffix == ".data" and not labels.keys() & pictures.keys():
        # Exported without its images, which have no folders obj_train_data.
        labels = {key.partition("/")[2] or key: path for key, path in labels.items()}
    wanted = None if options.split is None else NAMES.get(options.split, options.split)
    parts = parts_of(description, source, [*labels, *pictures], wanted, builder)
    if wanted is not None:
        if wanted not in parts.values():
            there = ", ".join(dict.fromkeys(parts.values())) or "none"
            raise UserError(
                f"{source} has no part {options.split!r}; --split is one of those there are ({there})."
            )
        parts = {key: part for key, part in parts.items() if part == wanted}
    if parts:
        for path in () if wanted else [path for key, path in labels.items() if key not in parts]:
            builder.tally("label files are of no part of the data set and are left out", str(path))
        labels = {key: path for key, path in labels.items() if key in parts}
        pictures = {key: name for key, name in pictures.items() if key in parts}
    lines: dict[str, list[str]] = {}
    for key, path in labels.items():
        with builder.noting("bad file"):
            lines[key] = read_text(path).splitlines()
    counts = [len(line.split()) for text in lines.values() for line in text if line.strip()]
    boxes = sum(count == 5 for count in counts)
    if masks and boxes > 1 and boxes == len(counts):
        raise UserError(
            f"{source} has boxes alone ({boxes} of {boxes} objects have 4 numbers and no polygon), and masks "
            "cannot be made of them; export the labels for segmentation, or import the boxes for a Faster "
            "R-CNN with --format=yolo."
        )
    pose = 5 + description.keypoints if description.keypoints else None
    if masks and pose in counts:
        raise UserError(
            f"{source} has boxes with keypoints ({description.path} has a kpt_shape) and no polygons, and "
            "masks cannot be made of them; import the boxes for a Faster R-CNN with --format=yolo."
        )
    for key, name in pictures.items():
        path = labels.pop(key, None)
        with builder.noting("bad image"):
            image = builder.image(builder.folder.root / name, str(path or name), split=parts.get(key))
            for number, line in enumerate(lines.get(key, ()), 1):
                if line.strip():
                    with builder.noting("bad line"):
                        place = f"{path}: line {number}"
                        words = line.split()
                        if pose is not None and not masks:
                            words = _box_of_pose(words, pose, place, builder)
                        add(words, place, image, names, builder)
    for path in labels.values():
        with builder.noting("missing image"):
            raise UserError(f"{path} has no image of its name in {builder.folder.root}; restore the image.")


def _labels(source: Path, description: Description, builder: Builder) -> dict[str, Path]:
    """The label files by key."""
    others = lists_of(description)
    found = [
        path
        for path in label_files(source, "**/*.txt", builder)
        if path.name.lower() not in _NOT_LABELS and Path(os.path.abspath(path)) not in others
    ]
    kept = [p for p in found if "labels" in p.relative_to(source).parent.parts] or found
    if not kept:
        raise UserError(f"{source} holds no label files (.txt); give the folder that does.")
    return {key_of(path.relative_to(source)): path for path in kept}


def _box_of_pose(words: list[str], pose: int, place: str, builder: Builder) -> list[str]:
    """The words of the class and the box, without those of the keypoints."""
    if len(words) not in (5, pose):
        raise UserError(
            f"{place} has {len(words)} numbers, and the kpt_shape of the yaml asks for {pose}, or for 5 "
            "where there are no keypoints; correct one of them."
        )
    if len(words) == pose:
        builder.tally("boxes have keypoints, which are left out", place)
    return words[:5]


def _add_polygon(words: list[str], place: str, image, names: list[str], builder: Builder) -> None:
    label, shares = parse_line(words, place, len(names))
    if len(shares) == 4:
        raise UserError(f"{place} is a box (4 numbers) and not a polygon; give labels for segmentation.")
    builder.add(image, names[label], [polygon_of(shares, place, image[0])], place)


def parse_line(words: list[str], place: str, classes: int) -> tuple[int, list[float]]:
    """The number of the class, and the numbers after it.

    Args:
        words: Of a line.
        place: The line, for messages.
        classes: Number of classes.

    Raises:
        UserError: They are no numbers, or there is no such class.
    """
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise UserError(f"{place} holds text that is not a number; give a class and coordinates.") from None
    label, shares = values[0], values[1:]
    if not label.is_integer():
        raise UserError(f"{place} has the class {words[0]}; give a whole number.")
    if not 0 <= label < classes:
        raise UserError(f"{place} has the class {int(label)}, and there are {classes} names; list all.")
    return int(label), shares


def polygon_of(shares: list[float], place: str, image: AnnotatedImage) -> list[float]:
    """The polygon of x and y as shares of the image's sides, in pixels.

    Raises:
        UserError: There are fewer than three points, or one is outside of the image.
    """
    if len(shares) % 2 or len(shares) < 6:
        raise UserError(f"{place} has {len(shares)} coordinates; give x and y of at least 3 points.")
    if not all(-_BEYOND <= share <= 1 + _BEYOND for share in shares):
        raise UserError(
            f"{place} has a coordinate that is not between 0 and 1; divide x by the image's width and y by "
            "its height."
        )
    sides = (image.width, image.height)
    return [round(share * sides[i % 2], 4) for i, share in enumerate(shares)]
