"""Pascal VOC: masks as palette images with one value per object, and boxes in xml.

Format: the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, sections 2.5
and 2.6; CVAT's "segmentation mask" with its ``labelmap.txt`` is a variant of it. Boxes are in ``voc_boxes``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.importers.builder import Builder, check_distinct
from jaxmaskrcnn.data.importers.files import label_files, read_indices, read_text, read_xml
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.importers.shapes import encode
from jaxmaskrcnn.data.importers.voc_boxes import Box, boxes_of, first_pixel_of, read_boxes, xml_files
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "split", "boxes_only", "first_pixel"})
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255  # borders and unlabelled areas
_BACKGROUND = ("__ignore__", "_background_", "background")


def images(source: Path) -> Path:
    """The image folder if none is given: one called as VOC's, or else that of the xml files."""
    if (source / "SegmentationObject").is_dir():
        return source / "JPEGImages"  # nowhere else, because masks are pictures too
    above = source.parent if source.name == "Annotations" else source
    there = (above / name for name in ("JPEGImages", "images"))
    return next((folder for folder in there if folder.is_dir()), source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds every mask of ``SegmentationObject``.

    An object's class is that of most of its pixels in ``SegmentationClass``, or else that of the xml's
    object of the same number. Its box is the xml's where that one fits, because the void border
    belongs to the object, and that of its mask otherwise.

    Args:
        source: Folder with ``SegmentationObject`` and ``SegmentationClass`` or ``Annotations``.
        builder: Collects the images and objects.
        options: ``names`` are those of the class values from 1 on; ``split`` names a list of
            ``ImageSets/Segmentation``. ``boxes_only`` reads the boxes of the xml files and no masks;
            ``first_pixel`` is the number of their first row and column.
    """
    folder = source / "SegmentationObject"
    if options.boxes_only:
        builder.masks = False
        builder.names, _ = _names(source, options)
        read_boxes(source, builder, options.split, options.first_pixel)
        return
    if not folder.is_dir():
        count = len(xml_files(source))
        if count:
            raise UserError(
                f"{source} has boxes alone ({count} xml files and no folder SegmentationObject), and masks "
                "cannot be made of them; import the boxes for a Faster R-CNN with --boxes_only."
            )
        raise UserError(f"{source} has no folder SegmentationObject; give the one of VOC's layout that has.")
    names, colours = _names(source, options)
    builder.names = names
    xml = source / "Annotations"
    first = first_pixel_of(xml_files(source) if xml.is_dir() else (), builder, options.first_pixel)
    for stem in _stems(source, folder, options.split, builder):
        with builder.noting("bad file"):
            path = folder / f"{stem}.png"
            objects = _values(path)
            place = str(path)
            image = builder.image(builder.folder.find(stem, place), place, objects.shape)
            classes = _classes(source / "SegmentationClass" / f"{stem}.png", colours, objects.shape)
            boxes = _boxes(xml / f"{stem}.xml", first)
            for value in np.unique(objects[(objects != 0) & (objects != VOID)]).tolist():
                where = f"{path}: object {value}"
                with builder.noting("bad object"):
                    mask = objects == value
                    name = None if classes is None else _class(classes[mask], names or (), where)
                    box = boxes[value - 1] if 0 < value <= len(boxes) else None
                    corners = None
                    if box is not None:
                        corners = box.corners if name in (None, box.name) and _fits(box, mask) else None
                        name = box.name if name is None else name
                    if name is None:
                        raise UserError(
                            f"{where} has no class: there is no SegmentationClass/{stem}.png, and "
                            f"Annotations/{stem}.xml lists {len(boxes)} objects; add one of the two."
                        )
                    builder.add(image, name, encode(mask), where, box=corners)


def _stems(source: Path, folder: Path, split: str | None, builder: Builder) -> list[str]:
    if split is None:
        stems = [path.stem for path in label_files(folder, "*.png", builder)]
        if not stems:
            raise UserError(f"{folder} holds no PNG files; give a folder of VOC's layout that does.")
        return stems
    return [line.split()[0] for line in read_text(_list(source, split)).splitlines() if line.strip()]


def _list(source: Path, split: str) -> Path:
    path = source / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(p.stem for p in label_files(path.parent, "*.txt")) or "none"
        raise UserError(f"{path} does not exist; --split is one of the lists there are ({there}).")
    return path


def _names(source: Path, options: Options) -> tuple[list[str] | None, dict[int, int] | None]:
    """Names of the class values from 1, if any; with a label map, the value of every packed colour."""
    labelmap, listed = source / "labelmap.txt", source / "class_names.txt"
    if options.names is not None:
        return _without_background(options.names), None
    if labelmap.is_file():
        rows = [line for line in read_text(labelmap).splitlines() if line.strip() and line[0] != "#"]
        try:
            fields = [row.split(":") for row in rows]
            packed = [[int(v) for v in field[1].split(",")] for field in fields]
            colours = {r + 256 * g + 65536 * b: fields[i][0] for i, (r, g, b) in enumerate(packed)}
        except (IndexError, ValueError) as error:
            raise UserError(f"{labelmap} has a line without name:red,green,blue; correct it.") from error
        names = _without_background([field[0] for field in fields])
        values = {c: names.index(name) + 1 if name in names else 0 for c, name in colours.items()}
        return check_distinct(names, str(labelmap)), values
    if listed.is_file():
        names = _without_background([line.strip() for line in read_text(listed).splitlines() if line.strip()])
        return check_distinct(names, str(listed)), None
    return (list(NAMES) if (source / "SegmentationClass").is_dir() else None), None


def _without_background(names) -> list[str]:
    return [name for name in names if name not in _BACKGROUND]


def _values(path: Path) -> np.ndarray:
    """Palette indices; colours, which some tools save instead, are looked up in VOC's palette."""
    values = read_indices(path)
    if values.max(initial=0) <= VOID:
        return values
    palette = {_packed(i): i for i in range(256)}
    found, places = np.unique(values, return_inverse=True)
    try:
        return np.asarray([palette[v] for v in found.tolist()])[places].reshape(values.shape)
    except KeyError:
        raise UserError(f"{path} has colours that VOC's palette does not; save it with a palette.") from None


def _packed(index: int) -> int:
    """VOC's colour of an index, whose bits, lowest first, are the highest bits of red, green and blue."""
    colour = [0, 0, 0]
    for bit in range(8):
        colour[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colour[0] + 256 * colour[1] + 65536 * colour[2]


def _classes(path: Path, colours: dict[int, int] | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if not path.is_file():
        return None
    if colours is None:
        values = _values(path)
    else:
        with Image.open(path) as image:
            r, g, b = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int64), -1, 0)
        packed = r + 256 * g + 65536 * b
        unknown = set(np.unique(packed).tolist()) - {*colours, _packed(VOID)}
        if unknown:
            raise UserError(f"{path} has {len(unknown)} colours that labelmap.txt does not list; add them.")
        found, places = np.unique(packed, return_inverse=True)
        values = np.asarray([colours.get(v, VOID) for v in found.tolist()])[places].reshape(packed.shape)
    if values.shape != shape:
        raise UserError(
            f"{path} is {values.shape[1]} x {values.shape[0]} pixels and SegmentationObject {shape[1]} x "
            f"{shape[0]}; make both of the image's size."
        )
    return values


def _class(values: np.ndarray, names: Sequence[str], place: str) -> str:
    values = values[(values != 0) & (values != VOID)]
    if not len(values):
        raise UserError(f"{place} has no class in SegmentationClass; label its pixels.")
    value = int(np.bincount(values).argmax())
    if value > len(names):
        raise UserError(f"{place} has the class {value}, and there are {len(names)} names; give --names.")
    return names[value - 1]


def _boxes(path: Path, first_pixel: int) -> list[Box]:
    """The xml's objects, in their order; none where there is no xml."""
    return boxes_of(read_xml(path), path, first_pixel) if path.is_file() else []


def _fits(box: Box, mask: np.ndarray) -> bool:
    """Whether the box and that of the mask overlap with an IoU above 0.5."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inner = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    outer = np.asarray(box.corners)
    sides = np.minimum(inner[2:], outer[2:]) - np.maximum(inner[:2], outer[:2])
    both = np.maximum(sides, 0).prod()
    union = (inner[2:] - inner[:2]).prod() + (outer[2:] - outer[:2]).prod() - both
    return bool(both > 0.5 * union)
