"""Pascal VOC's boxes: an xml for each image, with the corners of every object.

Format: the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, section 2.5. Pixels
count from 1, and the last row and column belong to a box. Some tools write other coordinates of the same
names, which count from 0 and are the borders of the box; the last corner is the same number then.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import label_files, read_text, read_xml
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.data.importers.split import NAMES, chosen_part
from jaxmaskrcnn.errors import UserError

_LISTS = ("Main", "Segmentation")  # folders of ImageSets, the first that has the list


class Box(NamedTuple):
    """An object of an xml: its class, and XYXY in pixels, continuous."""

    name: str
    corners: tuple[float, float, float, float]


def boxes_of(root: Element, path: Path, first_pixel: int = 1) -> list[Box]:
    """The objects of an xml, in their order.

    Args:
        root: The xml.
        path: Its path, for messages.
        first_pixel: The number of the first row and column; `first_pixel_of` finds it.

    Raises:
        UserError: One has no box.
    """
    boxes = []
    for i, item in enumerate(root.iter("object")):
        texts = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(text) for text in texts if text is not None)
        except ValueError:
            raise UserError(
                f"{path}: object {i + 1} has the bndbox {texts}; give xmin, ymin, xmax and ymax."
            ) from None
        boxes.append(Box((item.findtext("name") or "").strip(), (x0 - first_pixel, y0 - first_pixel, x1, y1)))
    return boxes


def first_pixel_of(paths: Iterable[Path], builder: Builder, given: str | None) -> int:
    """Whether a data set counts pixels from 1, as VOC does, or from 0, which is noted.

    Where pixels count from 1, no box begins before 1. A box that begins before 0 reaches out of its image in
    both ways of counting, and tells nothing.

    Args:
        paths: All xml files of the data set; those that cannot be read are passed over.
        builder: Gets the note.
        given: "0" or "1" if the user says it; None looks at the boxes.
    """
    if given is not None:
        return int(given)
    count, total, place = 0, 0, ""
    for path in paths:
        with contextlib.suppress(UserError):
            for number, box in enumerate(boxes_of(read_xml(path), path, 0), 1):
                total += 1
                if any(0 <= side < 1 for side in box.corners[:2]):
                    place = place or f"{path}: object {number}"
                    count += 1
    if not count:
        return 1
    builder.notes.append(
        "boxes that begin at 0, so that the pixels of this data set are taken to count from 0, and not from "
        f"1 as Pascal VOC's do: {count} of {total} (the first: {place}); --first_pixel=1 reads them as VOC's"
    )
    return 0


def xml_files(source: Path, builder: Builder | None = None) -> list[Path]:
    """The xml files of a data set: those in ``Annotations``, or else all in its folder."""
    folder = source / "Annotations"
    return label_files(folder if folder.is_dir() else source, "**/*.xml", builder)


def read_boxes(source: Path, builder: Builder, split: str | None, first_pixel: str | None = None) -> None:
    """Adds every image that has an xml, also those without objects.

    Folders called ``train``, ``valid`` or ``test``, as Roboflow has them, are parts of the data set.

    Args:
        source: Folder with ``Annotations``, or with xml files.
        builder: Collects the images and objects.
        split: A list of ``ImageSets/Main``, or else one of the parts; None reads all.
        first_pixel: As of `first_pixel_of`.
    """
    paths = xml_files(source, builder)
    if not paths:
        raise UserError(f"{source} holds no xml files; give the folder that has VOC's Annotations.")
    first = first_pixel_of(paths, builder, first_pixel)
    parts = {path: NAMES.get(path.relative_to(source).parts[0].lower()) for path in paths}
    if split is not None and (source / "ImageSets").is_dir():
        paths = _listed(source, split, paths, builder)
    else:
        wanted = chosen_part(split, parts.values(), source)
        paths = [path for path in paths if wanted in (None, parts[path])]
    for path in paths:
        with builder.noting("bad file"):
            root = read_xml(path)
            if root.tag != "annotation":
                builder.tally("xml files that are not of VOC are passed over", str(path))
                continue
            boxes = boxes_of(root, path, first)
            image = builder.image(_image(root, path, builder), str(path), _size(root, path), parts[path])
            for i, box in enumerate(boxes, 1):
                builder.add(image, box.name, None, f"{path}: object {i}", box=box.corners)


def _listed(source: Path, split: str, paths: list[Path], builder: Builder) -> list[Path]:
    """The xml files of the images of a list."""
    folders = [source / "ImageSets" / name for name in _LISTS]
    path = next((f / f"{split}.txt" for f in folders if (f / f"{split}.txt").is_file()), None)
    if path is None:
        there = sorted({p.stem for folder in folders for p in label_files(folder, "*.txt")})
        raise UserError(
            f"{source} has no list {split}.txt in ImageSets; --split is one of the lists there are "
            f"({', '.join(there[:20]) or 'none'})."
        )
    by_stem = {xml.stem: xml for xml in paths}
    found = []
    for line in read_text(path).splitlines():
        if line.strip():
            with builder.noting("bad file"):
                if line.split()[0] not in by_stem:
                    raise UserError(f"{path} lists {line.split()[0]!r}, which has no xml; restore it.")
                found.append(by_stem[line.split()[0]])
    return found


def _image(root: Element, path: Path, builder: Builder) -> Path:
    """The image that an xml names, or else that of its own name."""
    named = (root.findtext("filename") or "").strip()
    try:
        return builder.folder.find(named or path.stem, str(path), near=path.parent)
    except UserError as error:
        if named:
            with contextlib.suppress(UserError):
                return builder.folder.find(path.stem, str(path), near=path.parent)
        raise error from None


def _size(root: Element, path: Path) -> tuple[int, int] | None:
    """Height and width; some tools write 0 where they do not know them."""
    sides = [root.findtext(f"size/{key}") for key in ("height", "width")]
    if all(side is None or side.strip() in ("", "0") for side in sides):
        return None
    return stated_size(sides[0], sides[1], str(path))
