"""What a YOLO data set says about itself: a ``data.yaml``, or the ``obj.data`` of Darknet.

Formats: https://docs.ultralytics.com/datasets/, and https://docs.cvat.ai/docs/manual/advanced/formats/format-yolo/
("YOLO 1.1", which is Darknet's: ``obj.data`` names lists of images and the file with a class in each line).
"""

from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import yaml

from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.importers.builder import check_distinct
from jaxmaskrcnn.data.importers.files import label_files, read_text
from jaxmaskrcnn.data.importers.split import NAMES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.plain_yaml import plain_yaml

_YAMLS = ("data.yaml", "dataset.yaml", "data.yml")
_DARKNET = ("obj.data",)
_LISTS = ("obj.names", "classes.txt")  # a class in each line, and nothing else
_NOTHING = ("", "null", "none", "~")  # a part that yaml leaves empty


class Description(NamedTuple):
    """A data set's description.

    Attributes:
        path: Its file; None where there is none.
        parts: The folders, lists and patterns that each part is said to be.
        root: The folder that they count from, as it is written; empty where it is not said.
        keypoints: How many numbers follow the box in a line of poses; 0 where there are none.
        classes: The names as they are written: a list, a table by number, or the path of a file.
    """

    path: Path | None
    parts: dict[str, list[str]]
    root: str
    keypoints: int
    classes: Any

    def names(self, source: Path) -> list[str]:
        """The class names in the order of their numbers.

        Args:
            source: The data set, for messages.

        Raises:
            UserError: There are none, or they have no order.
        """
        if self.path is None:
            raise UserError(
                f"{source} has no data.yaml (and no obj.data, obj.names or classes.txt), nor has a folder "
                "above it; name the classes with --names."
            )
        names = self.classes
        if isinstance(names, str) and self.path.suffix not in (".yaml", ".yml"):
            return _listed_names(self.path, names)
        if isinstance(names, dict):
            numbers = {str(key): name for key, name in names.items()}  # some tools write the numbers as text
            if sorted(numbers) == sorted(map(str, range(len(names)))):
                names = [numbers[str(i)] for i in range(len(names))]
        if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
            raise UserError(
                f"{self.path} has 'names' that are neither a list nor numbered from 0; list the classes."
            )
        return check_distinct([str(name) for name in names], str(self.path))


def describe(source: Path) -> Description:
    """Reads the description in a folder or in one of the two above it.

    Args:
        source: The data set's folder, or one in it.

    Raises:
        UserError: It cannot be read.
    """
    path = _find(source)
    if path is None:
        return Description(None, {}, "", 0, None)
    if path.name in _LISTS:
        return Description(path, {}, "", 0, path.name)
    content = _darknet(path) if path.suffix == ".data" else _yaml(path)
    parts: dict[str, list[str]] = {}
    for key, value in content.items():
        for text in value if isinstance(value, list) else [value]:
            part = NAMES.get(str(key))
            if part and isinstance(text, str) and text.strip().lower() not in _NOTHING:
                parts.setdefault(part, []).append(text.strip())
    root, names = content.get("path"), content.get("names", "")
    return Description(path, parts, root if isinstance(root, str) else "", _keypoints(content, path), names)


def steps(text: str) -> list[str]:
    """The folders of a path written on any computer, without those that lead from its file's place.

    Example:
        >>> steps("../train/images"), steps("D:\\\\set\\\\a.txt")
        (['train', 'images'], ['set', 'a.txt'])
    """
    path = PureWindowsPath(text.strip())
    return [part for part in path.parts[bool(path.anchor) :] if part not in ("..", ".")]


def beside(path: Path, places: Sequence[Sequence[str]]) -> Path | None:
    """The first of some paths, counted from the place of a description, that is a file."""
    return next((p for place in places if place and (p := path.parent.joinpath(*place)).is_file()), None)


def _find(source: Path) -> Path | None:
    folders = (source, *list(source.absolute().parents)[:2])
    named = [folder / name for folder in folders for name in (*_YAMLS, *_DARKNET)]
    others = [*label_files(source, "*.yaml"), *label_files(source, "*.yml")]
    if len(others) == 1:
        named.append(others[0])  # such as coco128-seg.yaml
    named += [folder / name for folder in folders[:2] for name in _LISTS]
    return next((path for path in named if path.is_file()), None)


def _yaml(path: Path) -> dict:
    try:
        # All values as they are written: a class may be called "no", "1.50" or "2026-02-30".
        content = plain_yaml(read_text(path), str(path), yaml.BaseLoader)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply; correct it.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml ({' '.join(str(error).split())}); correct it.") from error
    return content if isinstance(content, dict) else {}


def _darknet(path: Path) -> dict[str, str]:
    """The lines ``key = value`` of an ``obj.data``."""
    lines = [line.partition("#")[0].partition("=") for line in read_text(path).splitlines()]
    return {key.strip().lower(): value.strip() for key, sign, value in lines if sign}


def _listed_names(path: Path, text: str) -> list[str]:
    """The names in the lines of the file that a description names."""
    if not text:
        raise UserError(f"{path} has no line 'names'; add one, or name the classes with --names.")
    file = beside(path, [steps(text), steps(text)[-1:]])
    if file is None:
        raise UserError(
            f"{path} names {text!r} as the file of the classes, and it is not there; restore it, or name the "
            "classes with --names."
        )
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    count = _darknet(path).get("classes") if path.suffix == ".data" else None
    if count is not None and count != str(len(names)):
        raise UserError(
            f"{path} has 'classes = {count}', and {file} lists {len(names)} names; correct one of them, or "
            "name the classes with --names."
        )
    return check_distinct(names, str(file))


def _keypoints(content: dict, path: Path) -> int:
    """How many numbers the ``kpt_shape`` of a yaml, keypoints and numbers of each, asks for."""
    shape = content.get("kpt_shape")
    if shape is None or shape == "":
        return 0
    numbers = [whole_number(value) for value in shape] if isinstance(shape, list) else []
    whole = [number for number in numbers if number is not None and number > 0]
    if len(whole) != 2 or len(numbers) != 2:
        raise UserError(f"{path} has the kpt_shape {shape!r}; give two numbers, such as [17, 3].")
    return whole[0] * whole[1]
