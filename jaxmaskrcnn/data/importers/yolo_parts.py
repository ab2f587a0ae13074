"""The parts (train, val, test) of a YOLO data set: which image belongs to which.

Images and labels are known by keys: what the path of an image and that of its labels have in common.
"""

import fnmatch
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import read_text
from jaxmaskrcnn.data.importers.split import NAMES
from jaxmaskrcnn.data.importers.yolo_description import Description, beside, steps
from jaxmaskrcnn.errors import UserError


class _Found(NamedTuple):
    """What a folder, list or pattern of a description is.

    Attributes:
        keys: The keys in it; None for the folder of all images.
        absent: Why there are none, or what a list names that is not there; empty where nothing is wrong.
    """

    keys: set[str] | None
    absent: str = ""


def key_of(path: Path) -> str:
    """What the path of an image and that of its labels have in common, with accents in one form.

    Example:
        >>> key_of(Path("train/images/a.jpg")), key_of(Path("labels/day/a.txt"))
        ('train/a', 'day/a')
    """
    parts = [unicodedata.normalize("NFC", part) for part in path.with_suffix("").parts]
    folders = [i for i, part in enumerate(parts[:-1]) if part in ("images", "labels")]
    if folders:
        del parts[folders[-1]]
    return "/".join(parts)


def lists_of(description: Description) -> set[Path]:
    """The files in which a description lists its images."""
    texts = [text for parts in description.parts.values() for text in parts if text.endswith(".txt")]
    files = (_list_file(text, description) for text in texts)
    return {Path(os.path.abspath(file)) for file in files if file is not None}


def parts_of(
    description: Description, source: Path, keys: Iterable[str], wanted: str | None, builder: Builder
) -> dict[str, str]:
    """The part of the data set that each key belongs to; none where there are no parts.

    A part that the description names and that is not there is a problem, unless it is the part "test",
    another one is wanted, or the source is a folder of one part.

    Args:
        description: Of the data set.
        source: The folder that keys are relative to.
        keys: Of the images and labels.
        wanted: The part that is to be read alone; None for all.
        builder: Collects the problems and notes.

    Raises:
        UserError: No image is in any part.
    """
    base = _base(description, source)
    whole = {base + key: key for key in keys}
    found: dict[str, str] = {}
    named, absent, rest = [], [], []
    for part, texts in description.parts.items():
        for text in texts:
            inside = _named(text, description, list(whole), source)
            if inside.keys is None:
                rest.append(part)
                continue
            named.append(f"{part} ({text})")
            if inside.absent and wanted in (None, part):
                absent.append((part, text, inside))
            own = {whole[key] for key in inside.keys}
            shared = sorted(key for key in own & found.keys() if found[key] != part)
            if shared:
                builder.notes.append(
                    f"{description.path}: {len(shared)} images of the part {part} ({text}) are of the part "
                    f"{found[shared[0]]} too, and only written there"
                )
            found |= dict.fromkeys(own - found.keys(), part)
    by_folder = {key: part for key in whole.values() if (part := part_of_folder(key.split("/")[0]))}
    if not found and not by_folder and len(named) > 1:
        raise UserError(
            f"{description.path} names the parts {', '.join(named)}, and no image is in any of them; restore "
            "the folders and lists, or take the parts out of it."
        )
    for part, text, inside in absent:
        if not base and part == "test" and found and not inside.keys:
            # Roboflow's exports name this part whether they have it or not.
            builder.notes.append(f"{description.path} names the part test ({text}), and {inside.absent}")
        elif not base:
            builder.problems.add(
                "missing part",
                f"{description.path} names the part {part} ({text}), and {inside.absent}; restore it, or "
                "take the part out of that file",
            )
        elif found and not inside.keys:
            builder.notes.append(f"{description.path}: no image here is of the part {part} ({text})")
    if found and rest:  # the folder of all images, in which other parts lie
        found |= {key: rest[0] for key in whole.values() if key not in found}
    return found or by_folder


def part_of_folder(name: str) -> str | None:
    """The part that a folder is.

    Example:
        >>> part_of_folder("Train"), part_of_folder("val2017"), part_of_folder("obj_valid_data")
        ('train', 'val', 'val')
    """
    name = re.sub(r"^obj_(.*)_data$", r"\1", name, flags=re.IGNORECASE)
    return NAMES.get(re.sub(r"[\W_]*\d*$", "", name).lower())


def _base(description: Description, source: Path) -> str:
    """What keys relative to the source lack to be relative to the description."""
    if description.path is None:
        return ""
    above = Path(os.path.abspath(description.path.parent))
    place = Path(os.path.abspath(source))
    return key_of(place.relative_to(above) / "x")[:-1] if place.is_relative_to(above) else ""


def _list_file(text: str, description: Description) -> Path | None:
    assert description.path is not None  # what has parts has a file
    own = steps(text)
    return beside(description.path, [own, [*steps(description.root), *own], own[-1:]])


def _named(text: str, description: Description, keys: Sequence[str], source: Path) -> _Found:
    """The keys of the images in a folder, in a list, or of a pattern."""
    assert description.path is not None
    if text.endswith(".txt"):
        path = _list_file(text, description)
        return _Found(set(), "there is no such list") if path is None else _listed(path, description, keys)
    own = steps(text)
    if "*" in text or "?" in text:
        pattern = key_of(Path(*own)).split("/")
        fitting = {key for key in keys if _fits(key.split("/"), pattern)}
        # A pattern can name folders, whose last part may be called ``images``.
        folders = key_of(Path(*own, "x")).split("/")[:-1]
        fitting = fitting or {
            key for key in keys for n in range(1, key.count("/") + 1) if _fits(key.split("/")[:n], folders)
        }
        return _Found(fitting, "" if fitting else "no image fits that pattern")
    prefix = key_of(Path(*own, "x"))[:-1]
    if prefix == "":
        return _Found(None)
    inside = {key for key in keys if key.startswith(prefix)} or {
        key for key in keys if "/" in prefix[:-1] and key.startswith(prefix[:-1].split("/")[-1] + "/")
    }
    there = any(folder.joinpath(*own).is_dir() for folder in (description.path.parent, source))
    absent = "that folder has no image" if there else "there is no such folder"
    return _Found(inside, "" if inside else absent)


def _listed(path: Path, description: Description, keys: Sequence[str]) -> _Found:
    """The keys of the images of a list, each the longest end of a line."""
    assert description.path is not None
    known, found, lost = set(keys), set(), []
    above = path.parent.parts[len(description.path.parent.parts) :]
    for line in read_text(path).splitlines():
        if line.strip():
            # Lines count from the data set's folder, from one on another computer, or from the list's own.
            places = [steps(line), [*above, *steps(line)]]
            ends = (
                "/".join(parts[i:])
                for parts in (key_of(Path(*place)).split("/") for place in places if place)
                for i in range(len(parts))
            )
            key = next((end for end in ends if end in known), None)
            if key is None:
                lost.append(line.strip())
            else:
                found.add(key)
    if lost:
        return _Found(found, f"{len(lost)} of the images that it lists are not there (the first: {lost[0]})")
    return _Found(found, "" if found else "the list is empty")


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern in which ``**`` stands for any folders, and ``*`` for a part of one name.

    Example:
        >>> _fits(["a", "b"], ["*"]), _fits(["a", "b"], ["**", "b*"]), _fits(["b"], ["**", "b"])
        (False, True, True)
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
