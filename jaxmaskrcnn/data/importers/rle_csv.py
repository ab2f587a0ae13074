"""Kaggle's csv files of run lengths: a row for each object, with the image and the runs of its mask.

``EncodedPixels`` holds pairs of a start and a length. Pixels are counted from 1, down the columns (Airbus
Ship Detection, Data Science Bowl 2018, Severstal, iMaterialist, Understanding Clouds). An empty cell or -1
is an image without objects.

Format: https://www.kaggle.com/c/airbus-ship-detection/overview/evaluation,
https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.files import folder_of, read_text
from jaxmaskrcnn.data.importers.options import Options
from jaxmaskrcnn.data.rle import uncompressed_to_counts
from jaxmaskrcnn.errors import UserError

OPTIONS = frozenset({"names", "class_name"})
_RUNS = re.compile(r"\d{1,12}(\s+\d{1,12})*", re.ASCII)
_NOTHING = ("", "-1", "nan", "NaN", "[]")
_CLASSES = ("classid", "class", "label", "category", "categoryid", "class_id", "category_id")
_LONGEST = 2**31 - 1  # characters of a cell; the csv module allows 131072 unless its limit is set


class _Row(NamedTuple):
    place: str
    image: str
    class_name: str | None
    size: tuple[int, int] | None
    runs: str


def images(source: Path) -> Path:
    """The image folder if none is given: that of the csv."""
    return folder_of(source)


def read(source: Path, builder: Builder, options: Options) -> None:
    """Adds the rows of a csv.

    Args:
        source: The csv.
        builder: Collects the images and objects.
        options: ``class_name`` is the class of all objects; without it there has to be a column of classes,
            ``ClassId``, or the class after the last ``_`` of ``ImageId_ClassId``.
    """
    if source.is_dir():
        raise UserError(f"{source} is a folder; give the csv file.")
    builder.not_images.update(
        builder.folder.root / name for name in builder.folder.names() if "masks" in name.split("/")[:-1]
    )
    added: dict[Path, tuple[Any, tuple[int, int] | None]] = {}
    paths: dict[str, Path | None] = {}  # one image may be written in several ways; None: with a problem
    for row in _rows(source, builder, options):
        if row.image not in paths:
            paths[row.image] = None
            with builder.noting("bad image"):
                path = builder.folder.find(row.image, row.place)
                if path not in added:
                    added[path] = builder.image(path, row.place, row.size), row.size
                paths[row.image] = path
        elif paths[row.image] is None:
            builder.tally("rows of images with a problem are left out", row.place)
        path = paths[row.image]
        if path is None:
            continue
        image, size = added[path]
        with builder.noting("bad row"):
            if row.size != size:
                raise UserError(f"{row.place} gives its image another size than a row before; correct it.")
            if row.runs not in _NOTHING:
                height, width = image[0].height, image[0].width
                runs = _counts(row.runs, height, width, row.place)
                counts = uncompressed_to_counts(runs, height, width) or b""
                segmentation = {"size": [height, width], "counts": counts.decode()}
                builder.add(image, row.class_name, segmentation, row.place)


def _rows(path: Path, builder: Builder, options: Options) -> Iterator[_Row]:
    lines = _table(path)
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    if "encodedpixels" not in header:
        found = ", ".join(lines[0][1][:8]) if lines else "nothing"
        raise UserError(
            f"{path} has no column EncodedPixels (found: {found}); give a csv whose runs count from 1, down "
            "the columns, and name its columns ImageId and EncodedPixels."
        )
    runs = header.index("encodedpixels")
    column = next((i for i, name in enumerate(header) if i != runs and name.startswith("image")), None)
    if column is None:
        raise UserError(f"{path} has no column ImageId; name the one that has the images so.")
    joined = re.search(r"_(class|label|category)", header[column]) is not None
    classes = next((header.index(name) for name in _CLASSES if name in header), None)
    if options.class_name is None and classes is None and not joined:
        raise UserError(f"{path} has no column ClassId; name the class of all objects with --class_name.")
    sides = [header.index(name) if name in header else None for name in ("height", "width")]
    usage = header.index("usage") if "usage" in header else None
    for number, cells in lines[1:]:
        place = f"{path}: row {number}"
        if not any(cell.strip() for cell in cells):
            continue
        with builder.noting("bad row"):
            if len(cells) != len(header):
                raise UserError(f"{place} has {len(cells)} cells and the header {len(header)}; correct it.")
            if usage is not None and cells[usage].strip().lower() == "ignored":
                builder.tally("rows of which the column Usage says Ignored are left out", place)
                continue
            name, class_name = cells[column].strip(), None
            if joined:
                name, _, class_name = name.rpartition("_")
            elif classes is not None:
                class_name = cells[classes].strip()
            if options.class_name is not None:
                class_name = options.class_name
            elif class_name and (attributes := re.fullmatch(r"(\d+)_[\d_]+", class_name)):
                class_name = attributes[1]
                builder.tally("classes are read without the attributes after their number", place)
            size = _size([None if i is None else cells[i].strip() for i in sides], place)
            yield _Row(place, name, class_name, size, cells[runs].strip())


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a csv, each with the number of its last line."""
    before = csv.field_size_limit(_LONGEST)
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        return [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path} is no csv ({error}); save it again.") from error
    finally:
        csv.field_size_limit(before)


def _size(texts: list[str | None], place: str) -> tuple[int, int] | None:
    if None in texts or "" in texts:
        return None
    sides = [int(text[:-2] if text.endswith(".0") else text) for text in texts if text and _is_side(text)]
    if len(sides) != 2:
        raise UserError(f"{place} has the Height {texts[0]!r} and the Width {texts[1]!r}; correct them.")
    return sides[0], sides[1]


def _is_side(text: str) -> bool:
    return re.fullmatch(r"0*[1-9]\d{0,8}(\.0)?", text) is not None


def _counts(text: str, height: int, width: int, place: str) -> list[int]:
    """COCO's run lengths, down the columns as well, of pairs of a start and a length.

    Raises:
        UserError: They are no such pairs, overlap, are not in order, or leave the image.

    Example:
        >>> _counts("2 3 7 1", 4, 2, "row 2")
        [1, 3, 2, 1, 1]
    """
    if not _RUNS.fullmatch(text):
        raise UserError(f"{place} has runs that are no whole numbers ({text[:20]!r}); correct them.")
    numbers = np.array(text.split(), np.int64)
    if len(numbers) % 2:
        raise UserError(f"{place} has {len(numbers)} numbers and no pairs of start and length; correct them.")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    if starts.min() < 0 or lengths.min() < 1:
        raise UserError(f"{place} has a start or a length of 0, and they count from 1; correct it.")
    ends = starts + lengths
    wrong = np.flatnonzero(starts[1:] < ends[:-1])
    if len(wrong):
        i = int(wrong[0])
        kind = "overlaps" if ends[i + 1] > starts[i] else "lies before"
        raise UserError(
            f"{place} has the run {starts[i + 1] + 1} {lengths[i + 1]}, which {kind} the one before it; sort "
            "the runs and join those that overlap, or convert starts that count from the run before."
        )
    if ends[-1] > height * width:
        raise UserError(
            f"{place} has a run up to pixel {ends[-1]} in an image of {width} x {height}; give the image of "
            "this mask."
        )
    edges = np.stack([starts, ends], 1).reshape(-1)
    return np.diff(edges, prepend=0, append=height * width).tolist()
