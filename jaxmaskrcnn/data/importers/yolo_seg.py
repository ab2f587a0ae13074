"""YOLO segmentation: a txt per image, a line per object: class, then x and y as shares of the image.

Format: https://docs.ultralytics.com/datasets/segment/
"""

import fnmatch
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.importers.builder import Builder, Options, check_distinct
from jaxmaskrcnn.data.importers.files import read_text
from jaxmaskrcnn.data.importers.split import NAMES
from jaxmaskrcnn.errors import UserError

# Takes a line's words and place, the image, the names of the classes, and the builder.
AddLine = Callable[[list[str], str, Any, list[str], Builder], None]

OPTIONS = frozenset({"names", "split"})
_DESCRIPTIONS = ("data.yaml", "dataset.yaml", "data.yml")
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
    if (source / "images").is_dir() and not any(source.glob("*/images")):
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
    found = _description(source)
    names = list(options.names) if options.names is not None else _names(found, source)
    builder.names = names
    labels = _labels(source)
    pictures: dict[str, str] = {}
    for name in builder.folder.names():
        other = pictures.setdefault(_key(Path(name)), name)
        if other != name:
            builder.problems.add(
                "same labels", f"{other} and {name} would have the same labels; keep one of the images"
            )
    parts = _parts(found, [*labels, *pictures], builder)
    if options.split is not None:
        wanted = NAMES.get(options.split, options.split)
        if wanted not in parts.values():
            there = ", ".join(dict.fromkeys(parts.values())) or "none"
            raise UserError(
                f"{source} has no part {options.split!r}; --split is one of those there are ({there})."
            )
        parts = {key: part for key, part in parts.items() if part == wanted}
    if parts:
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
    for key, name in pictures.items():
        path = labels.pop(key, None)
        with builder.noting("bad image"):
            image = builder.image(builder.folder.root / name, str(path or name), split=parts.get(key))
            for number, line in enumerate(lines.get(key, ()), 1):
                if line.strip():
                    with builder.noting("bad line"):
                        place = f"{path}: line {number}"
                        add(line.split(), place, image, names, builder)
    for path in labels.values():
        with builder.noting("missing image"):
            raise UserError(f"{path} has no image of its name in {builder.folder.root}; restore the image.")


def _labels(source: Path) -> dict[str, Path]:
    """The label files by key."""
    found = [p for p in sorted(source.rglob("*.txt")) if p.name.lower() not in _NOT_LABELS]
    kept = [p for p in found if "labels" in p.relative_to(source).parent.parts] or found
    if not kept:
        raise UserError(f"{source} holds no label files (.txt); give the folder that does.")
    return {_key(path.relative_to(source)): path for path in kept}


def _key(path: Path) -> str:
    """What the path of an image and that of its labels have in common, with accents in one form."""
    parts = [unicodedata.normalize("NFC", part) for part in path.with_suffix("").parts]
    folders = [i for i, part in enumerate(parts[:-1]) if part in ("images", "labels")]
    if folders:
        del parts[folders[-1]]
    return "/".join(parts)


def _parts(description: Path | None, keys: list[str], builder: Builder) -> dict[str, str]:
    """The part of the data set that each key belongs to; none where there are no parts."""
    content = _yaml(description) if description else {}
    found: dict[str, str] = {}
    named, absent = [], []
    for part in ("train", "val", "test"):
        value = content.get(part)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip():
                inside = _named(text.strip(), description, content.get("path"), keys)
                if inside is None:
                    continue
                named.append(f"{part} ({text})")
                absent += [] if inside else [f"{part} ({text})"]
                found |= dict.fromkeys(inside - found.keys(), part)
    by_folder = {key: part for key in keys if (part := _part_of_folder(key.split("/")[0])) is not None}
    if not found and not by_folder and len(named) > 1:
        raise UserError(
            f"{description} names the parts {', '.join(named)}, and no image is in any of them; restore the "
            "folders and lists, or take the parts out of the yaml."
        )
    if found:
        builder.notes += [f"{description}: no image here is of the part {text}" for text in absent]
    return found or by_folder


def _part_of_folder(name: str) -> str | None:
    """The part that a folder is, such as ``Train`` or ``val2017``."""
    return NAMES.get(re.sub(r"[\W_]*\d*$", "", name).lower())


def _named(text: str, description: Path | None, root: Any, keys: list[str]) -> set[str] | None:
    """The keys of the images in a folder, in a list, or of a pattern; None for the folder of all images."""
    steps = _steps(text)
    if text.endswith(".txt") and description is not None:
        above = _steps(root) if isinstance(root, str) else []
        places = [steps, [*above, *steps], steps[-1:]]
        path = next((p for place in places if (p := description.parent.joinpath(*place)).is_file()), None)
        if path is None:
            return set()
        lines = read_text(path).splitlines()
        listed = [_key(Path(*_steps(line))).split("/") for line in lines if line.strip()]
        ends = {"/".join(parts[i:]) for parts in listed for i in range(len(parts))}
        return {key for key in keys if key in ends}
    if "*" in text:
        pattern = _key(Path(*steps))
        return {key for key in keys if fnmatch.fnmatchcase(key, pattern)}
    prefix = _key(Path(*steps, "x"))[:-1]
    if prefix == "":
        return None
    return {key for key in keys if key.startswith(prefix)} or {
        key for key in keys if "/" in prefix[:-1] and key.startswith(prefix[:-1].split("/")[-1] + "/")
    }


def _steps(text: str) -> list[str]:
    """The folders of a path written on any computer, without those that lead from the yaml's place."""
    path = PureWindowsPath(text.strip())
    return [part for part in path.parts[bool(path.anchor) :] if part not in ("..", ".")]


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


def _description(source: Path) -> Path | None:
    """The yaml in the folder or in one of the two above it."""
    for folder in (source, *list(source.absolute().parents)[:2]):
        for name in _DESCRIPTIONS:
            if (folder / name).is_file():
                return folder / name
    others = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
    return others[0] if len(others) == 1 else None  # such as coco128-seg.yaml


def _yaml(path: Path) -> dict:
    try:
        # All values as they are written: a class may be called "no", "1.50" or "2026-02-30".
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply; correct it.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml ({' '.join(str(error).split())}); correct it.") from error
    return content if isinstance(content, dict) else {}


def _names(path: Path | None, source: Path) -> list[str]:
    """The class names of the yaml."""
    if path is None:
        raise UserError(
            f"{source} has no data.yaml, nor has a folder above it; name the classes with --names."
        )
    names = _yaml(path).get("names")
    if isinstance(names, dict):
        numbers = {str(key): name for key, name in names.items()}  # some tools write the numbers as text
        if sorted(numbers) == sorted(map(str, range(len(names)))):
            names = [numbers[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise UserError(f"{path} has 'names' that are neither a list nor numbered from 0; list the classes.")
    return check_distinct([str(name) for name in names], str(path))
