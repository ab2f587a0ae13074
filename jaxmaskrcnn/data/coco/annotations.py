"""Reading and checking COCO-format annotation files.

Every fault of such a file is reported in one sentence that names the file and the annotation or
image. A data set of a hundred thousand images always has a few, so each problem can also be logged,
counted and left out.
"""

import collections
import json
import logging
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.data.coco.objects import AnnotatedImage, BadAnnotation, is_int, parse_object
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

log = logging.getLogger(__name__)


class Annotations(NamedTuple):
    """A checked annotation file: images in ascending order of id."""

    categories: tuple[Category, ...]
    images: list[AnnotatedImage]


class Problem(NamedTuple):
    """One problem of a data set.

    Attributes:
        reason: Short name that problems of this sort are counted under.
        message: A sentence without its full stop.
        image_id: Id of the image, where the json gives a usable one.
        annotation_id: Id of the annotation, where the json gives a usable one.
    """

    reason: str
    message: str
    image_id: int | None = None
    annotation_id: int | None = None


class Problems:
    """The problems of a data set: collected and then raised, or logged and counted.

    Attributes:
        skipped: Number of images and annotations left out, by reason.
        keeps_missing: Whether the annotations of an image whose file is missing are checked too.
    """

    keeps_missing = False

    def __init__(self, on_error: str):
        if on_error not in ("stop", "skip"):
            raise UserError(f"on_error is {on_error!r}; it is 'stop' or 'skip'.")
        self._skip = on_error == "skip"
        self._first: str | None = None
        self.skipped: collections.Counter[str] = collections.Counter()

    def add(
        self, reason: str, message: str, *, image_id: int | None = None, annotation_id: int | None = None
    ) -> None:
        """Records one problem; the arguments are the fields of `Problem`."""
        self.skipped[reason] += 1
        if self._skip:
            log.warning("left out: %s.", message)
        elif self._first is None:
            self._first = message

    def refuse(self, reason: str, message: str) -> None:
        """Records a problem that cannot be left out: raises it, even if others are skipped."""
        raise UserError(f"{message}.")

    def stop_if_any(self) -> None:
        """Raises the first problem, with the number of further ones, unless they are skipped."""
        if self._skip or self._first is None:
            return
        others = sum(self.skipped.values()) - 1
        more = f" (one of {others + 1} problems)" if others else ""
        raise UserError(f"{self._first}, or set on_error to 'skip' to leave it out{more}.")


class AllProblems(Problems):
    """Collects every problem, for a report of them all; nothing is raised or logged.

    Attributes:
        found: The problems, in the order in which they were found.
    """

    keeps_missing = True

    def __init__(self):
        super().__init__("stop")
        self.found: list[Problem] = []

    def add(self, reason, message, *, image_id=None, annotation_id=None):
        self.skipped[reason] += 1
        self.found.append(Problem(reason, message, image_id, annotation_id))

    def refuse(self, reason, message):
        self.add(reason, message)

    def stop_if_any(self):
        pass


def load_json(path: Path) -> dict:
    """Reads a COCO-format json and checks its outer structure.

    Args:
        path: The file.

    Returns:
        The content.

    Raises:
        UserError: The file is missing, or is not json, or not COCO json.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the annotation file {path} cannot be read ({error.strerror}); check the path."
        ) from error
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UserError(f"{path} is not valid json ({error}); export the annotations again.") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__} where a COCO annotation file holds an object "
            "with 'images', 'annotations' and 'categories'; give the annotation file (a list is "
            "usually a file of results)."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            found = "no" if key not in content else f"a {type(content[key]).__name__} as"
            raise UserError(
                f"{path} has {found} {key!r}; a COCO annotation file has the lists 'images', "
                "'annotations' and 'categories'."
            )
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise UserError(f"{path} has an entry in {key!r} that is not an object; export it again.")
    return content


def parse_annotations(
    content: dict, path: Path, images_dir: Path | None, problems: Problems, *, masks: bool = True
) -> Annotations:
    """Checks every entry of a COCO-format json and converts it to a common form.

    Args:
        content: As returned by ``load_json``.
        path: The file, for messages.
        images_dir: Folder that the file names are relative to; with None the files are not looked for.
        problems: Collects the problems; raises at the end unless problems are skipped.
        masks: Whether every object needs a segmentation.

    Returns:
        The categories in ascending order of id and the usable images with their usable objects.

    Raises:
        UserError: There is a problem and ``problems`` is set to stop.
    """
    categories = _categories(content["categories"], path, problems)
    labels = {category.id: label for label, category in enumerate(categories)}
    images, left_out = _images(content["images"], path, images_dir, problems)
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        identity = entry.get("id")
        image_id = entry.get("image_id")
        if is_int(image_id) and image_id in left_out:
            continue
        image = images.get(image_id) if is_int(image_id) else None
        place = f"{path}: annotation {identity!r}"
        try:
            if not is_int(identity):
                place = f"{path}: entry {number} of 'annotations'"
                raise BadAnnotation(
                    "bad annotation entry", f"has the id {identity!r}; give it a whole number"
                )
            if image is None:
                raise BadAnnotation(
                    "unknown image",
                    f"refers to the image_id {image_id!r}, which 'images' does not list; add the "
                    "image or remove the annotation",
                )
            place += f" of image {image.id} ({image.file_name})"
            if identity in seen:
                raise BadAnnotation(
                    "duplicate annotation id", "has an id that was used before; make ids unique"
                )
            seen.add(identity)
            image.objects.append(parse_object(entry, image, labels, masks))
        except BadAnnotation as bad:
            problems.add(
                bad.reason,
                f"{place} {bad.found}",
                image_id=image.id if image else None,
                annotation_id=identity if is_int(identity) else None,
            )
    problems.stop_if_any()
    return Annotations(categories, [images[key] for key in sorted(images)])


def read_categories(path: Path) -> tuple[Category, ...]:
    """The categories of an annotation file, in ascending order of id.

    Raises:
        UserError: The file is not COCO json, or its categories are wrong.

    Example:
        >>> from jaxmaskrcnn.data import write_shapes
        >>> read_categories(write_shapes("read_categories", 1, 64, seed=0)[0])[0].name
        'circle'
    """
    return _categories(load_json(path)["categories"], path, Problems("stop"))


def _categories(entries: list[dict], path: Path, problems: Problems) -> tuple[Category, ...]:
    names: dict[int, str] = {}
    for entry in entries:
        identity = entry.get("id")
        if not is_int(identity):
            problems.refuse(
                "bad category",
                f"{path} has a category with the id {identity!r}; give every category a whole number",
            )
            continue
        if identity in names:
            problems.add(
                "duplicate category id",
                f"{path}: category id {identity} is used for {names[identity]!r} and for "
                f"{entry.get('name')!r}; make category ids unique",
            )
            continue
        names[identity] = str(entry.get("name", f"category {identity}"))
    if not names:
        raise UserError(f"{path} lists no categories; list at least one in 'categories'.")
    return tuple(Category(identity, names[identity]) for identity in sorted(names))


def _images(
    entries: list[dict], path: Path, images_dir: Path | None, problems: Problems
) -> tuple[dict[int, AnnotatedImage], set[int]]:
    """The usable images by id, and the ids of those that were left out."""
    images: dict[int, AnnotatedImage] = {}
    left_out = set()
    for number, entry in enumerate(entries):
        identity, name = entry.get("id"), entry.get("file_name")
        height, width = entry.get("height"), entry.get("width")
        place = f"{path}: image {identity!r} ({name})"
        if not is_int(identity):
            message = f"{path}: entry {number} of 'images' has the id {identity!r}; give it a whole number"
            problems.add("bad image entry", message)
            continue
        if identity in images or identity in left_out:
            message = f"{place} has an id that was used before; make image ids unique"
            problems.add("duplicate image id", message, image_id=identity)
            continue
        if not isinstance(name, str) or not name:
            message = f"{path}: image {identity} has no file_name; add one"
            problems.add("bad image entry", message, image_id=identity)
        elif not (is_int(height) and is_int(width) and height > 0 and width > 0):
            message = f"{place} has the height {height!r} and width {width!r}; give its size in pixels"
            problems.add("bad image entry", message, image_id=identity)
        else:
            missing = images_dir is not None and not (images_dir / name).is_file()
            if missing:
                message = f"{place} is not in {images_dir}; check the image folder, restore the file"
                problems.add("missing image", message, image_id=identity)
            if not missing or problems.keeps_missing:
                images[identity] = AnnotatedImage(identity, name, height, width, [])
                continue
        left_out.add(identity)
    return images, left_out
