"""Finds the image that an annotation names, whichever operating system its path was written on."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from jaxmaskrcnn.data.coco.file_names import ends_alike, is_leftover, longest_ends, path_parts
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import check_image_folder


class ImageFolder:
    """The images in a folder and its subfolders, by name.

    Args:
        root: The folder.

    Raises:
        UserError: There is no such folder.

    Attributes:
        elsewhere: The files that were found in another place than was named, and what was named.
    """

    def __init__(self, root: Path):
        check_image_folder(root, "give it with --images")
        self.root = root
        self.elsewhere: dict[Path, str] = {}
        self._index: dict[str, dict[str, list[Path]]] | None = None

    def find(
        self,
        name: str,
        place: str,
        near: Path | None = None,
        beside: Collection[Path] = (),
        named: str | None = None,
    ) -> Path:
        """Finds the file that an annotation names.

        It is looked for by its path (from ``near`` and from the folder), then by its file name
        anywhere in the folder, then by its name without the suffix. Only the path is case sensitive.
        A file in another place is taken if its path ends with the written one or the other way round, as
        in training; so ``b/1.jpg`` is never ``a/1.jpg``.

        Args:
            name: A path with ``/`` or ``\\``, relative or not, or a stem.
            place: Where it is named, for messages.
            near: Folder of the file that names it.
            beside: Files that are not the image, such as its masks.
            named: What the annotation itself says, where ``name`` is more: a path that it should have.

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
            self.elsewhere.pop(self.root / whole.relative_to(root), None)
            return self.root / whole.relative_to(root)
        keys_written = path_parts(name)
        if "://" in name and len(keys_written) > 1:
            keys_written = keys_written[1:]  # without the host or the bucket, which is no folder
        expected = [Path(os.path.abspath(start.joinpath(*parts))) for start in (near, self.root) if start]
        for path in expected:
            if path.is_file() and path.is_relative_to(root) and path not in others:
                self.elsewhere.pop(self.root / path.relative_to(root), None)
                return self.root / path.relative_to(root)
        keys = [("name", parts[-1]), ("stem", parts[-1])]
        if Path(parts[-1]).suffix.lower() in SUFFIXES:
            keys.append(("stem", Path(parts[-1]).stem))
        others_there: list[Path] = []
        for index, key in keys:
            found = self._all()[index].get(_key(key), []) or self._all()[index].get(_key(unquote(key)), [])
            found = [path for path in found if Path(os.path.abspath(path)) not in others]
            others_there += found
            found = [path for path in found if ends_alike(self._keys(path), keys_written)]
            if index == "stem" and key != parts[-1]:  # of another kind, which only counts where it should be
                places = {path.parent for path in expected}
                found = [path for path in found if Path(os.path.abspath(path)).parent in places]
            if len(found) > 1:
                above, whole_path = map(_key, self.root.parts), tuple(map(unquote, path_parts(name)))
                ends = longest_ends([self._keys(path) for path in found], whole_path, tuple(above))
                found = [found[i] for i in ends]
            if len(found) > 1:
                raise UserError(
                    f"{place} names the image {name!r}, and {self.root} has {len(found)} such files "
                    f"({found[0]}, {found[1]}{', ...' if len(found) > 2 else ''}); make the names differ."
                )
            if found:
                self._note(found[0], name, parts, named)
                return found[0]
        there = f" ({others_there[0]} is another path)" if others_there else ""
        raise UserError(
            f"{place} names the image {name!r}, which is not in {self.root}{there}; give its folder with "
            "--images, or restore the file."
        )

    def _keys(self, path: Path) -> tuple[str, ...]:
        return path_parts(self.relative(path))

    def _note(self, path: Path, name: str, parts: Sequence[str], named: str | None) -> None:
        """Remembers that a file is in another place than its name says, if that says a place."""
        if named is not None and self.relative(path) == named:
            return
        if len(parts) > 1 or Path(parts[-1]).suffix.lower() in SUFFIXES:
            self.elsewhere[path] = named or name

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
                if is_leftover(path.relative_to(self.root).parts):
                    continue
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    self._index["name"][_key(path.name)].append(path)
                    self._index["stem"][_key(path.stem)].append(path)
        return self._index


def find_in_part(folder: ImageFolder, name: str, part: str, place: str) -> Path:
    """Finds the image of a part of the data set, whose folder may have the part's name.

    Args:
        folder: The image folder.
        name: As `ImageFolder.find` takes it.
        part: Such as ``"Train"``. Tools call the part of data that has none ``"default"``.
        place: Where it is named, for messages.

    Raises:
        UserError: There is none, or more than one; an image in the folder of another part does not count.
    """
    if part.lower() in ("", "default"):
        return folder.find(name, place, folder.root / part)
    try:
        return folder.find(f"{part}/{name}", place, named=name)
    except UserError:
        if (folder.root / name).is_file():
            return folder.find(name, place)
        raise


def _key(name: str) -> str:
    """A name for comparison: in lower case, with accents in one form (macOS stores two characters)."""
    return unicodedata.normalize("NFC", name).lower()
