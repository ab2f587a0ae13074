"""Finds the files that a json names, however their paths were written."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from jaxmaskrcnn.data.images import SUFFIXES

_LEFT_FOLDERS = frozenset({".ipynb_checkpoints", "__MACOSX"})
_KEYS = ("coco_url",)  # what names the file where 'file_name' does not


class Found(NamedTuple):
    """What was found for an entry of a json's 'images'.

    Attributes:
        name: The file's path relative to the folder, or as it is given; None if there is none.
        how: How the file's name differs from what is written; empty where it is the path as written.
        candidates: Files that fit equally well, or have the name in another folder.
        outside: Whether there is a file where the path leads, outside of the folder.
    """

    name: str | None
    how: str = ""
    candidates: tuple[str, ...] = ()
    outside: bool = False


class FileNames:
    """The files of an image folder, by the names that annotations have for them.

    A path that leads to a file is taken as it is. Otherwise the file is found by its last parts: one of
    the two paths, of the file and of the annotation, has to end with the other. Separators of other
    systems, addresses (URLs), percent codes, Unicode's composed and decomposed letters, upper and lower
    case, and a missing suffix (of an image) make no difference as long as one file fits alone. Files for
    which `is_leftover` holds are passed over.

    A json may come from anybody, so a path out of the folder is not followed unless that is allowed: its
    picture would go into records, reports and drawings.

    Args:
        root: The folder.
        allow_outside: Whether paths may lead out of it.
    """

    def __init__(self, root: Path, allow_outside: bool = False):
        self.root, self._allow_outside = root, allow_outside
        self._index: dict[str, list[tuple[str, ...]]] | None = None

    def find(self, entry: Mapping[str, Any]) -> Found:
        """Finds the file of an image.

        Args:
            entry: Of the json's 'images'.
        """
        name = entry.get("file_name")
        outside = False
        if isinstance(name, str) and name and self.is_file(name):
            outside = not self._allow_outside and leads_outside(name, self.root)
            if not outside:
                return Found(name)
        best = Found(None, outside=outside)
        for written in written_names(entry):
            found = self._search(written)
            if found.name is not None:
                return found
            best = found if found.candidates and not outside else best
        return best

    def is_file(self, name: str) -> bool:
        """Whether a path, as it is written, leads from the folder to a file."""
        return os.path.isfile(os.path.join(self.root, name))  # quicker than pathlib's

    def _search(self, written: str) -> Found:
        parts = path_parts(written)
        if not parts:
            return Found(None)
        for keys in (parts, (*parts[:-1], _key(unquote(parts[-1])))):
            index = self._files()
            same = index.get(keys[-1], [])
            if not same and "." not in keys[-1]:
                same = index.get(f"{keys[-1]}.*", [])
            fitting = [file for file in same if ends_alike(_keys(file), keys)]
            exact = [file for file in fitting if file[-1] == written.replace("\\", "/").rsplit("/", 1)[-1]]
            fitting = exact or fitting
            fitting = [fitting[i] for i in longest_ends([_keys(file) for file in fitting], keys)]
            if len(fitting) == 1:
                return Found("/".join(fitting[0]), "found by the last parts of their paths")
            if same:
                return Found(None, "", tuple("/".join(file) for file in (fitting or same)))
        return Found(None)

    def _files(self) -> dict[str, list[tuple[str, ...]]]:
        if self._index is None:
            self._index = {}
            for folder, subfolders, files in os.walk(self.root):
                subfolders[:] = sorted(name for name in subfolders if name not in _LEFT_FOLDERS)
                above = Path(folder).relative_to(self.root).parts
                for file in sorted(name for name in files if not is_leftover((name,))):
                    key = _key(file)
                    self._index.setdefault(key, []).append((*above, file))
                    stem, _, suffix = key.rpartition(".")
                    if stem and f".{suffix}" in SUFFIXES:
                        self._index.setdefault(f"{stem}.*", []).append((*above, file))
        return self._index


def leads_outside(name: str, folder: Path) -> bool:
    """Whether a path leads out of a folder, as it is written: links inside of the folder are its owner's.

    Args:
        name: The path, relative to the folder or absolute.
        folder: The folder.

    Example:
        >>> [leads_outside(name, Path("/data/a")) for name in ("b/../1.jpg", "../1.jpg", "/data/a/1.jpg")]
        [False, True, False]
    """
    if ".." not in name and not os.path.isabs(name):  # nearly all
        return False
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))
    return os.path.commonpath([root, path]) != root


def is_leftover(parts: Sequence[str]) -> bool:
    """Whether a file is what macOS or Jupyter left behind, and none of the user's.

    Args:
        parts: Of its path, from the folder that the user named.

    Example:
        >>> is_leftover(["a", "._1.jpg"]), is_leftover(["__MACOSX", "1.jpg"]), is_leftover(["a", "1.jpg"])
        (True, True, False)
    """
    return parts[-1].startswith("._") or not _LEFT_FOLDERS.isdisjoint(parts)


def written_names(entry: Mapping[str, Any]) -> list[str]:
    """The texts by which an entry of 'images' may name its file, the most likely first."""
    return [entry[key] for key in ("file_name", *_KEYS) if isinstance(entry.get(key), str) and entry[key]]


def path_parts(written: str) -> tuple[str, ...]:
    """The parts of a path of any system, or of an address, as keys for comparisons.

    Example:
        >>> path_parts("C:\\\\Data\\\\A.png"), path_parts("http://host/b/A%201.png?x=1")
        (('data', 'a.png'), ('host', 'b', 'a 1.png'))
    """
    text = written
    if "://" in text:
        text = unquote(text.split("://", 1)[1].split("?")[0].split("#")[0])
    parts = [_key(part) for part in text.replace("\\", "/").split("/")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts = parts[1:]
    kept: list[str] = []
    for part in parts:
        if part == ".." and kept:
            kept.pop()
        elif part not in ("", ".", ".."):
            kept.append(part)
    return tuple(kept)


def _key(part: str) -> str:
    return unicodedata.normalize("NFC", part).casefold().strip()


def _keys(file: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_key, file))


def ends_alike(file: Sequence[str], written: Sequence[str]) -> bool:
    """Whether one of two paths is the end of the other, apart from their last parts, the files' own names.

    Args:
        file: The parts of a file's path from the image folder, as `path_parts` makes them.
        written: Those of the path that an annotation has.

    Example:
        >>> ends_alike(["b", "1.jpg"], ["a", "b", "1.jpg"]), ends_alike(["b", "1.jpg"], ["a", "1.jpg"])
        (True, False)
    """
    count = min(len(file), len(written)) - 1
    return count == 0 or list(file[-1 - count : -1]) == list(written[-1 - count : -1])


def longest_ends(
    files: Sequence[Sequence[str]], written: Sequence[str], above: Sequence[str] = ()
) -> list[int]:
    """Which of some files have the most parts in common with a path, counted from its end.

    Args:
        files: The parts of their paths from the image folder.
        written: Those of the path that an annotation has.
        above: Those of the image folder's own path, if they are compared too.

    Example:
        >>> longest_ends([["1.jpg"], ["b", "1.jpg"]], ["b", "1.jpg"])
        [1]
    """
    shared = [_shared((*above, *file), written) for file in files]
    return [i for i, count in enumerate(shared) if count == max(shared)]


def _shared(file: Sequence[str], written: Sequence[str]) -> int:
    """The number of parts that two paths have in common at their ends."""
    return next(
        (i for i, (a, b) in enumerate(zip(file[::-1], written[::-1], strict=False)) if a != b and i),
        min(len(file), len(written)),
    )
