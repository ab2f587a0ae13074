"""Finds the image that an annotation names, whichever operating system its path was written on."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import check_image_folder


class ImageFolder:
    """The images in a folder and its subfolders, by name.

    Args:
        root: The folder.

    Raises:
        UserError: There is no such folder.
    """

    def __init__(self, root: Path):
        check_image_folder(root, "give it with --images")
        self.root = root
        self._index: dict[str, dict[str, list[Path]]] | None = None

    def find(self, name: str, place: str, near: Path | None = None, beside: Collection[Path] = ()) -> Path:
        """Finds the file that an annotation names.

        It is looked for by its path (from ``near`` and from the folder), then by its file name
        anywhere in the folder, then by its name without the suffix. Only the path is case sensitive.

        Args:
            name: A path with ``/`` or ``\\``, relative or not, or a stem.
            place: Where it is named, for messages.
            near: Folder of the file that names it.
            beside: Files that are not the image, such as its masks.

        Raises:
            UserError: There is none, or more than one.
        """
        # PureWindowsPath splits at both separators, "\\" and "/".
        written = PureWindowsPath(name)
        parts = written.parts[1:] if written.anchor else written.parts
        if not parts:
            raise UserError(f"{place} names no image ({name!r}); give its file name.")
        root = os.path.abspath(self.root)
        others = {Path(os.path.abspath(path)) for path in beside}
        whole = Path(os.path.abspath(name)) if os.path.isabs(name) else None
        if whole is not None and whole.is_relative_to(root) and whole.is_file():
            return self.root / whole.relative_to(root)
        for start in filter(None, (near, self.root)):
            path = Path(os.path.abspath(start.joinpath(*parts)))
            if path.is_file() and path.is_relative_to(root) and path not in others:
                return self.root / path.relative_to(root)
        keys = [("name", parts[-1]), ("stem", parts[-1])]
        if Path(parts[-1]).suffix.lower() in SUFFIXES:
            keys.append(("stem", Path(parts[-1]).stem))
        for index, key in keys:
            found = self._all()[index].get(_key(key), []) or self._all()[index].get(_key(unquote(key)), [])
            found = [path for path in found if Path(os.path.abspath(path)) not in others]
            if len(found) > 1:
                found = _longest_end(found, parts)
            if len(found) > 1:
                raise UserError(
                    f"{place} names the image {name!r}, and {self.root} has {len(found)} such files "
                    f"({found[0]}, {found[1]}{', ...' if len(found) > 2 else ''}); make the names differ."
                )
            if found:
                return found[0]
        raise UserError(
            f"{place} names the image {name!r}, which is not in {self.root}; give its folder with --images, "
            "or restore the file."
        )

    def relative(self, path: Path) -> str:
        """A file's name relative to the folder, with ``/``."""
        return path.relative_to(self.root).as_posix()

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        files = {path for found in self._all()["name"].values() for path in found}
        return sorted(map(self.relative, files))

    def _all(self) -> dict[str, dict[str, list[Path]]]:
        if self._index is None:
            self._index = {"name": defaultdict(list), "stem": defaultdict(list)}
            for path in sorted(self.root.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    self._index["name"][_key(path.name)].append(path)
                    self._index["stem"][_key(path.stem)].append(path)
        return self._index


def _key(name: str) -> str:
    """A name for comparison: in lower case, with accents in one form (macOS stores two characters)."""
    return unicodedata.normalize("NFC", name).lower()


def _longest_end(found: list[Path], parts: Sequence[str]) -> list[Path]:
    """Those of the files that agree with the written path in the most folders, counted from its end."""

    def agreeing(path: Path) -> int:
        count = 0
        for a, b in zip(path.parent.parts[::-1], parts[-2::-1], strict=False):
            if _key(a) != _key(unquote(b)):
                break
            count += 1
        return count

    most = max(map(agreeing, found))
    return [path for path in found if agreeing(path) == most]
