"""Builds a COCO json object by object; every importer uses it.

Every object passes the checks of training as soon as it is added, so that a message can name the file and
the place that it comes from. Problems are collected, so that the user sees all of them together.
"""

import collections
import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from jaxmaskrcnn.data.coco.annotations import AllProblems
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, BadAnnotation, parse_object
from jaxmaskrcnn.data.images import check_header, decode_image, upright_size
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.importers.keypoint_names import KeypointNames, Point
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.texts import is_text, printable


class _Entry(NamedTuple):
    class_name: str
    fields: dict[str, Any]


class Builder:
    """Collects images and objects, and the problems found in them.

    Args:
        folder: Where the images are.
        names: Class names in the order of their ids; None takes those that occur, sorted.

    Attributes:
        problems: The images and objects that cannot be used, and why.
        left_out: Shapes that have no area, such as points, by type: their number and the first one's place.
        not_images: Files of the image folder that are not images to annotate, such as masks.
        notes: Sentences about choices that the user may not expect.
        splits: The part of the data set that an image belongs to, by file name, where the source says so.
        pictures: Files to be written beside the json: images that the source holds inside of it.
        masks: Whether every object needs a mask.
        leftovers: Files of macOS and Jupyter that were found among the source's, and passed over.
        keypoints: The keypoints that objects have.
    """

    def __init__(self, folder: ImageFolder, names: Sequence[str] | None = None):
        self.folder = folder
        self.keypoints = KeypointNames()
        self.names = None if names is None else list(names)
        self.problems = AllProblems()
        self.left_out: dict[str, list] = {}
        self.not_images: set[Path] = set()
        self.notes: list[str] = []
        self.splits: dict[str, str] = {}
        self.pictures: dict[Path, bytes] = {}
        self.masks = True
        self.leftovers: dict[Path, None] = {}
        self._tally: dict[str, list] = {}
        self._images: dict[str, tuple[AnnotatedImage, list[_Entry]]] = {}
        self._from: dict[str, str] = {}
        self._of_images: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def noting(self, reason: str) -> Iterator[None]:
        """Notes a `UserError` raised in the block as a problem and continues after the block."""
        try:
            yield
        except UserError as error:
            self.problems.add(reason, str(error).removesuffix("."))

    def image(
        self, path: Path, place: str, size: tuple[int, int] | None = None, split: str | None = None
    ) -> tuple[AnnotatedImage, list[_Entry]]:
        """Adds an image.

        Args:
            path: The file, within the image folder.
            place: Where it is named, for messages.
            size: Height and width that its annotations refer to. None where the format does not give
                them: the size of the upright image is taken.
            split: The part of the data set that it belongs to, where the source says so.

        Returns:
            The image and its objects, to be passed to `add`.

        Raises:
            UserError: The file is not an image, has another size, or was added before.
        """
        name = self.folder.relative(path)
        if name in self._images:
            raise UserError(f"{place} is about the image {name}, as is {self._from[name]}; keep one of them.")
        if path not in self.pictures:
            if size is None:
                size = upright_size(path)
            else:
                check_header(path, size, name=f"{place}: the image {path}")
        assert size is not None  # those of pictures inside of the source are known
        image = AnnotatedImage(0, name, *size, [])
        if split is not None:
            self.splits[name] = split
        if path in self.folder.elsewhere:
            found = f"{self.folder.elsewhere[path]} is {name}"
            self.tally("image names are no path to the file, which is found by their last parts", found)
        self._from[name] = place
        self._images[name] = image, []
        return self._images[name]

    def describe(self, image: tuple[AnnotatedImage, list[_Entry]], **fields: Any) -> None:
        """Adds fields of its own to an image's entry in the json.

        Args:
            image: As returned by `image`.
            **fields: Values that json can hold.
        """
        self._of_images.setdefault(image[0].file_name, {}).update(fields)

    def add(
        self,
        image: tuple[AnnotatedImage, list[_Entry]],
        class_name: Any,
        segmentation: Any,
        place: str,
        *,
        box: Sequence[float] | None = None,
        crowd: bool = False,
        keypoints: Mapping[str, Point] | None = None,
    ) -> None:
        """Adds an object; one that cannot be used is noted as a problem.

        Args:
            image: As returned by `image`.
            class_name: Class of the object.
            segmentation: Polygons or an RLE, in COCO's form; None where there are boxes only.
            place: Where it is, for messages.
            box: XYXY in pixels; None takes the extent of the polygons or the mask.
            crowd: Whether it is a region of many objects.
            keypoints: The annotated keypoints by name: x and y in pixels, and COCO's visibility.
        """
        name = self._class(class_name, place)
        if name is None:
            return
        entry = {"id": 0, "category_id": 0, "segmentation": segmentation}
        if box is None and isinstance(segmentation, list):
            box = _extent(segmentation)
        if box is not None:
            entry["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        try:
            item = parse_object(entry, image[0], {0: 0}, masks=self.masks)
        except BadAnnotation as bad:
            self.problems.add(bad.reason, f"{place} {bad.found}")
            return
        x0, y0, x1, y1 = item.box
        fields = {
            "iscrowd": int(crowd),
            "bbox": [_round(v) for v in (x0, y0, x1 - x0, y1 - y0)],
            "area": item.area,
            "segmentation": segmentation,
        }
        if keypoints:
            self.keypoints.add(keypoints)
            fields["keypoints"] = dict(keypoints)  # `content` makes COCO's list, once all names are known
        image[1].append(_Entry(name, fields))

    def keep(
        self, image: tuple[AnnotatedImage, list[_Entry]], class_name: str, fields: dict[str, Any], place: str
    ) -> None:
        """Adds an object that training's reader has checked already.

        Args:
            image: As returned by `image`.
            class_name: Class of the object.
            fields: Its entry in the json but for the ids.
            place: Where it is, for messages.
        """
        name = self._class(class_name, place)
        if name is not None:
            image[1].append(_Entry(name, fields))

    def _class(self, name: Any, place: str) -> str | None:
        """The name of a class, or None if it cannot be used, which is noted as a problem."""
        if not isinstance(name, str) or not name.strip() or not is_text(name):
            self.problems.add(
                "no class", f"{place} has the class {name!r}; give every object the name of a class"
            )
            return None
        name = name.strip()
        if self.names is not None and name not in self.names:
            self.problems.add(
                "unknown class",
                f"{place} has the class {name!r}, which is not among the names; add it to them, or "
                "correct the annotation",
            )
            return None
        return name

    def leave_out(self, shape_type: str, place: str) -> None:
        """Counts a shape that has no area, such as a point."""
        self.left_out.setdefault(printable(shape_type), [0, printable(place)])[0] += 1

    def tally(self, what: str, place: str) -> None:
        """Counts what is unusual but read, or passed over, for one sentence at the end."""
        self._tally.setdefault(printable(what), [0, printable(place)])[0] += 1

    def all_notes(self) -> list[str]:
        """The notes, and a sentence for each thing that was counted."""
        return [printable(note) for note in self.notes] + [sentence for _, sentence in self._tallied()]

    def counted(self) -> list[tuple[int, str]]:
        """Sentences about shapes without an area and about all that was counted, with their numbers."""
        counts = (count for count, _ in self.left_out.values())
        return [*zip(counts, self.without_area(), strict=True), *self._tallied()]

    def without_area(self) -> list[str]:
        """A sentence about each type of shapes that were left out because they have no area."""
        return [f"{n} of {kind}, which has no area (first: {at})" for kind, (n, at) in self.left_out.items()]

    def _tallied(self) -> list[tuple[int, str]]:
        found = {what: (n, place) for what, (n, place) in self._tally.items()}
        if self.leftovers:
            first = printable(str(next(iter(self.leftovers))))
            found["files that macOS or Jupyter left behind are passed over"] = len(self.leftovers), first
        return [(n, f"{n} {what} (first: {place})") for what, (n, place) in found.items()]

    def picture(self, name: str, data: bytes, place: str) -> tuple[Path, tuple[int, int]]:
        """Notes an image that the source holds inside of it; it is written together with the json.

        Args:
            name: Its file name without the suffix, relative to the image folder.
            data: The encoded image.
            place: Where it is, for messages.

        Returns:
            Its future path in the image folder, and its height and width, upright.

        Raises:
            UserError: The bytes are no image.
        """
        try:
            with Image.open(io.BytesIO(data)) as image:
                kind = str(image.format).lower()
            height, width = decode_image(data, name=f"{place}: the picture inside of it").shape[:2]
        except Image.DecompressionBombError as error:
            raise UserError(
                f"{place} holds a picture of more pixels than Pillow opens; cut it into tiles."
            ) from error
        except OSError as error:
            raise UserError(f"{place} holds a picture that is no image; give the image file.") from error
        path = self.folder.root / f"{name}.{ {'jpeg': 'jpg', 'tiff': 'tif'}.get(kind, kind) }"
        if path.exists() and path.read_bytes() != data:
            raise UserError(f"{path} exists and is not the picture inside of {place}; move it away.")
        self.pictures[path] = data
        return path, (height, width)

    def content(self) -> dict[str, list]:
        """The COCO json. Ids count from 1: images by file name, classes in their order."""
        used = {entry.class_name for _, entries in self._images.values() for entry in entries}
        names = sorted(used) if self.names is None else self.names
        for name in names:
            if not is_text(name):
                raise UserError(f"There is a class {name!r}, which is no text; give it another name.")
        ids = {name: i + 1 for i, name in enumerate(names)}
        images, annotations = [], []
        for number, name in enumerate(sorted(self._images), 1):
            image, entries = self._images[name]
            size = {"height": image.height, "width": image.width}
            images.append({"id": number, "file_name": name, **size, **self._of_images.get(name, {})})
            for entry in entries:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": ids[entry.class_name],
                        **{key: value for key, value in entry.fields.items() if value is not None},
                        **self.keypoints.fields(entry.fields.get("keypoints")),
                    }
                )
        entries = (entry for _, entries in self._images.values() for entry in entries)
        with_points = {entry.class_name for entry in entries if "keypoints" in entry.fields}
        categories = [
            {"id": identity, "name": name, **(self.keypoints.of_category() if name in with_points else {})}
            for name, identity in ids.items()
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

    def unused(self) -> list[str]:
        """Names of the images in the folder that have no annotations."""
        others = {path.absolute() for path in self.not_images}
        root = self.folder.root.absolute()
        return [n for n in self.folder.names() if n not in self._images and root / n not in others]


def check_distinct(names: Sequence[str], place: str) -> list[str]:
    """Checks that no name occurs twice and none is empty, and returns the names.

    Raises:
        UserError: A name occurs twice or is empty, or there is none.
    """
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice or not names or not all(name.strip() for name in names):
        found = f"{twice[0]!r} twice" if twice else "an empty name" if names else "no name"
        raise UserError(f"{place} has {found}; list every class once.")
    return list(names)


def _extent(polygons: list) -> list[float] | None:
    try:
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        return [min(xs), min(ys), max(xs), max(ys)]
    except (TypeError, ValueError):
        return None  # malformed; the checks of the object report it


def _round(value: float) -> float:
    return round(value, 4)
