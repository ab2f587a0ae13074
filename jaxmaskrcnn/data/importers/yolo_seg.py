"""YOLO segmentation: a txt per image, a line per object: class, then x and y as shares of the image.

Format: https://docs.ultralytics.com/datasets/segment/
"""

from pathlib import Path

import yaml

from jaxmaskrcnn.data.importers.builder import Builder, Options, check_distinct
from jaxmaskrcnn.data.importers.files import read_text
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names"})
_DESCRIPTIONS = ("data.yaml", "dataset.yaml", "data.yml")
_BEYOND = 0.01  # share of the image's side by which a point may lie outside it
_NOT_LABELS = ("classes.txt", "readme.txt", "requirements.txt")


def images(source: Path) -> Path:
    """The image folder if none is given: the path with ``images`` in place of ``labels``."""
    parts = list(source.parts)
    if (source / "labels").is_dir():
        return source / "images"
    if "labels" in parts:
        last = len(parts) - 1 - parts[::-1].index("labels")
        return Path(*parts[:last], "images", *parts[last + 1 :])
    return source


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every image of the image folder; one without a txt has no objects.

    Args:
        source: Folder of the txt files, or the data set's, which has ``labels`` or a yaml.
        builder: Collects the images and objects.
        options: ``names`` in the order of the class numbers; without them the yaml's are taken.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; give the one that holds the label files.")
    names = list(options.names) if options.names is not None else _names(source)
    builder.names = names
    if source.joinpath("labels").is_dir():
        source = source / "labels"
    labels = {
        path.relative_to(source).with_suffix("").as_posix(): path
        for path in sorted(source.rglob("*.txt"))
        if path.name.lower() not in _NOT_LABELS
    }
    if not labels:
        raise UserError(f"{source} holds no label files (.txt); give the folder that does.")
    for name in builder.folder.names():
        path = labels.pop(Path(name).with_suffix("").as_posix(), None)
        with builder.noting("bad image"):
            image = builder.image(builder.folder.root / name, str(path or name))
            for number, line in enumerate(read_text(path).splitlines() if path else (), 1):
                if line.strip():
                    with builder.noting("bad line"):
                        place = f"{path}: line {number}"
                        polygon, label = _object(line.split(), place, image[0], len(names))
                        builder.add(image, names[label], [polygon], place)
    for path in labels.values():
        with builder.noting("missing image"):
            raise UserError(f"{path} has no image of its name in {builder.folder.root}; restore the image.")


def _object(words: list[str], place: str, image, classes: int) -> tuple[list[float], int]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise UserError(f"{place} holds text that is not a number; give a class and coordinates.") from None
    label, shares = values[0], values[1:]
    if not label.is_integer():
        raise UserError(f"{place} has the class {words[0]}; give a whole number.")
    if not 0 <= label < classes:
        raise UserError(f"{place} has the class {int(label)}, and there are {classes} names; list all.")
    if len(shares) == 4:
        raise UserError(f"{place} is a box (4 numbers) and not a polygon; give labels for segmentation.")
    if len(shares) % 2 or len(shares) < 6:
        raise UserError(f"{place} has {len(shares)} coordinates; give x and y of at least 3 points.")
    if not all(-_BEYOND <= share <= 1 + _BEYOND for share in shares):
        raise UserError(
            f"{place} has a coordinate that is not between 0 and 1; divide x by the image's width and y by "
            "its height."
        )
    sides = (image.width, image.height)
    return [round(share * sides[i % 2], 4) for i, share in enumerate(shares)], int(label)


def _names(source: Path) -> list[str]:
    """The class names of the yaml in the folder or in one of the two above it."""
    for folder in (source, *list(source.absolute().parents)[:2]):
        for name in _DESCRIPTIONS:
            path = folder / name
            if path.is_file():
                return _yaml_names(path)
    raise UserError(f"{source} has no data.yaml, nor has a folder above it; name the classes with --names.")


def _yaml_names(path: Path) -> list[str]:
    try:
        names = yaml.safe_load(read_text(path))
        names = names.get("names") if isinstance(names, dict) else None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml ({' '.join(str(error).split())}); correct it.") from error
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise UserError(f"{path} has 'names' that are neither a list nor numbered from 0; list the classes.")
    return check_distinct([str(name) for name in names], str(path))
