"""The entries of a json's 'images': ids, file names and sizes as they come."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.file_names import FileNames, Found, written_names
from jaxmaskrcnn.data.coco.ids import Ids
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.images import upright_size
from jaxmaskrcnn.errors import UserError

_MOST_PIXELS = 2**31  # of an image; pycocotools computes places in 32 bits, and crashes beyond


class Images:
    """The usable images of a json, by id.

    Args:
        entries: The json's 'images'.
        path: Its path, for messages.
        folder: The image folder; with None the files are not looked for.
        problems: Collects the images that cannot be used.
        notes: Counts what is read although it is not written as COCO writes it.
        sizes: Height and width by id where they are known from elsewhere; images that are not listed are
            left out without a word. None takes the json's.
        scoring: Whether file names and sizes may be missing, as they may where detections are scored.
        allow_outside: Whether file names may lead out of the image folder.

    Attributes:
        usable: The images by id; a size that is missing is 0 x 0.
        left_out: Ids of those that cannot be used.
    """

    def __init__(
        self,
        entries: list[dict],
        path: Path,
        folder: Path | None,
        problems: Problems,
        notes: Notes,
        *,
        sizes: Mapping[int, tuple[int, int]] | None = None,
        scoring: bool = False,
        allow_outside: bool = False,
    ):
        self.usable: dict[int, AnnotatedImage] = {}
        self.left_out: set[int] = set()
        self.ids = Ids(entry.get("id") for entry in entries)
        self._path, self._folder, self._problems, self._notes = path, folder, problems, notes
        self._sizes, self._scoring = sizes, scoring
        self._files = None if folder is None else FileNames(folder, allow_outside)
        self._first: dict[int, dict] = {}
        self._taken: dict[str, list[tuple[int, str]]] = {}  # files found by the ends of paths
        self._exact: dict[str, str] = {}  # files found where they are written to be
        if self.ids.rewritten:
            texts = (e["id"] for e in entries if type(e.get("id")) is not int)
            first = next(text for text in texts if str(text).strip() not in self.ids.apart)
            notes.add("image ids written as text or floats", repr(first), self.ids.rewritten)
        for text, identity in self.ids.numbered.items():
            notes.add("image ids that are no numbers, numbered in their order", f"{text!r} is {identity}")
        for text, identity in self.ids.apart.items():
            notes.add(
                "image ids that are another one's number in another spelling", f"{text!r} is {identity}"
            )
        for number, entry in enumerate(entries):
            self._add(number, entry)
        self._refuse_shared_files()

    def _add(self, number: int, entry: dict) -> None:
        identity = self.ids.of(entry.get("id"))
        if identity is None:
            self._problem(
                "bad image entry",
                f"{self._path}: entry {number} of 'images' has the id {entry.get('id')!r}; give it a whole "
                "number",
            )
            return
        if identity in self._first:
            if entry == self._first[identity]:
                self._notes.add("images listed twice with the same content, taken once", f"image {identity}")
            else:
                self._problem(
                    "duplicate image id",
                    f"{self._place(entry, identity)} has an id that was used before; make image ids unique",
                    identity,
                )
                # An annotation of this id can belong to either image, so neither is used.
                self.leave_out(identity)
            return
        self._first[identity] = entry
        if self._sizes is not None and identity not in self._sizes:
            self.left_out.add(identity)
            return
        image = self._checked(entry, identity)
        if image is None:
            self.left_out.add(identity)
        else:
            self.usable[identity] = image

    def _checked(self, entry: dict, identity: int) -> AnnotatedImage | None:
        names = written_names(entry)
        if not names and not self._scoring:
            self._problem(
                "bad image entry", f"{self._path}: image {identity} has no file_name; add one", identity
            )
            return None
        found = Found(names[0] if names else "")
        if self._files is not None and names:
            found = self._files.find(entry)
            if found.name is None:
                self._missing(found, entry, identity)
                if not self._problems.keeps_missing:
                    return None
            elif found.how:
                self._notes.add(
                    f"image names that are no path from {self._folder}, {found.how}",
                    f"{names[0]} is {found.name}",
                )
                self._taken.setdefault(found.name, []).append((identity, names[0]))
            else:
                self._exact.setdefault(found.name, names[0])
        elif names and not isinstance(entry.get("file_name"), str):
            found = Found(names[0].rsplit("/", 1)[-1])
        size = self._size(entry, identity, found.name)
        if size is None:
            return None
        return AnnotatedImage(identity, found.name or (names[0] if names else ""), *size, [])

    def leave_out(self, identity: int) -> None:
        """Takes an image out of the usable ones, and its annotations with it."""
        self.usable.pop(identity, None)
        self.left_out.add(identity)

    def _place(self, entry: dict, identity: int) -> str:
        """The image, for messages."""
        return f"{self._path}: image {identity!r} ({entry.get('file_name')})"

    def _missing(self, found: Found, entry: dict, identity: int) -> None:
        place = self._place(entry, identity)
        if found.outside:
            message = (
                f"{place} leads out of the image folder {self._folder}, and a file there is read only if "
                "that is allowed; give --allow_outside (data.allow_outside=true in training), or the folder "
                "that holds all images"
            )
        elif found.candidates:
            listed = ", ".join(found.candidates[:3]) + (", ..." if len(found.candidates) > 3 else "")
            message = (
                f"{place} is not in {self._folder}, where {len(found.candidates)} other path"
                f"{'s end' if len(found.candidates) > 1 else ' ends'} with that name ({listed}); give "
                "the folder that the names count from, or write the path in 'file_name'"
            )
        else:
            message = f"{place} is not in {self._folder}; check the image folder, restore the file"
        self._problem("missing image", message, identity)

    def _size(self, entry, identity, name) -> tuple[int, int] | None:
        if self._sizes is not None:
            height, width = self._sizes[identity]
            return int(height), int(width)
        written = entry.get("height"), entry.get("width")
        size = height, width = whole_number(written[0]), whole_number(written[1])
        if height is not None and width is not None and min(height, width) > 0:
            if height * width >= _MOST_PIXELS:
                self._problem(
                    "bad image entry",
                    f"{self._place(entry, identity)} has the height {height} and width {width}, which is "
                    "more than masks can have; "
                    f"correct its size, or cut it into tiles of less than {_MOST_PIXELS} pixels",
                    identity,
                )
                return None
            if type(written[0]) is not int or type(written[1]) is not int:
                self._notes.add("image sizes written as text or floats", f"image {identity}")
            return height, width
        if None in written and all(v is None or n for v, n in zip(written, size, strict=True)):
            found = self._size_of_file(name, size)
            if found is not None:
                self._notes.add("image sizes that are missing, read from the files", f"image {identity}")
                return found
            if self._scoring:
                return 0, 0
        self._problem(
            "bad image entry",
            f"{self._place(entry, identity)} has the height {written[0]!r} and width {written[1]!r}; "
            "give its size in pixels",
            identity,
        )
        return None

    def _size_of_file(self, name, given) -> tuple[int, int] | None:
        """The size of the upright picture, if it agrees with the side that is given."""
        if self._folder is None or name is None:
            return None
        try:
            upright = upright_size(self._folder / name)
        except (UserError, OSError, ValueError):
            return None
        fits = all(side in (None, own) for side, own in zip(given, upright, strict=True))
        return upright if fits else None

    def _refuse_shared_files(self) -> None:
        """Refuses images found by the ends of their paths if another image is the same file."""
        for file, found in self._taken.items():
            names = {name for _, name in found} | ({self._exact[file]} if file in self._exact else set())
            if len(names) < 2:
                continue
            for identity, name in found:
                self._problem(
                    "missing image",
                    f"{self._path}: image {identity} ({name}) is not in {self._folder}, and {file} would be "
                    f"{len(names)} different images; give the folder that the names count from",
                    identity,
                )
                self.leave_out(identity)

    def _problem(self, reason: str, message: str, image_id: Any = None) -> None:
        self._problems.add(reason, message, image_id=image_id)
