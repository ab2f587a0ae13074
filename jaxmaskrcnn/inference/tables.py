"""Tables of objects and of their numbers for spreadsheets: ``objects.csv`` and ``counts.csv``.

    objects.csv   a row for each object: its picture, class, score, box and area
    counts.csv    rows for each picture: all objects, and those of each class that is there

Areas are in pixels, and with a size of pixels also in its unit.
"""

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_file

OBJECTS, COUNTS = "objects.csv", "counts.csv"


class PixelSize(NamedTuple):
    """The side of a pixel.

    Attributes:
        side: In the unit.
        unit: Its name, such as "um".
    """

    side: float
    unit: str


def parse_pixel_size(text: str) -> PixelSize:
    """Reads a number with a unit.

    Raises:
        UserError: It is something else.

    Example:
        >>> parse_pixel_size("0.25um")
        PixelSize(side=0.25, unit='um')
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\W\d_]+)\s*", text)
    try:
        side = float(found[1]) if found else 0.0
    except ValueError:
        side = 0.0
    if found is None or not 0 < side < float("inf"):
        raise UserError(f"--pixel_size is {text!r}; give the side of a pixel with its unit, as in 0.25um.")
    return PixelSize(side, found[2])


class Tables:
    """The two tables, to which pictures are added one after the other.

    Args:
        objects: An open text file.
        counts: Another one.
        video: Whether pictures are frames, with a time and identities.
        pixel_size: The size of a pixel, or None.
    """

    def __init__(self, objects: Any, counts: Any, video: bool, pixel_size: PixelSize | None = None):
        self._objects, self._counts = csv.writer(objects), csv.writer(counts)
        self._video, self._size = video, pixel_size
        frame = ["frame", "seconds"] if video else []
        unit = pixel_size.unit if pixel_size else ""
        lengths = [f"width_{unit}", f"height_{unit}", f"area_{unit}2"] if unit else []
        areas = [f"mean_area_{unit}2", f"area_{unit}2"] if unit else []
        track = ["track"] if video else []
        box = ["x", "y", "width", "height", "area"]
        self._objects.writerow(["file", *frame, *track, "id", "class_id", "class", "score", *box, *lengths])
        self._counts.writerow(
            [
                "file",
                *frame,
                "class_id",
                "class",
                "count",
                "mean_score",
                "mean_area",
                "area",
                "share_of_picture",
            ]
            + areas
        )

    def add(self, image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
        """Adds a picture.

        Args:
            image: Its entry in a COCO json.
            entries: Its objects' entries.
        """
        own = [image["file_name"]]
        if self._video:
            own += [image["frame"], _number(image["seconds"])]
        for entry in entries:
            row = [*own, *([entry.get("track_id", "")] if self._video else [])]
            row += [entry["id"], entry["category_id"], entry["category_name"], _number(entry["score"])]
            row += [*map(_number, entry["bbox"]), _number(entry["area"])]
            if self._size is not None:
                row += [_number(side * self._size.side) for side in entry["bbox"][2:]]
                row += [_number(entry["area"] * self._size.side**2)]
            self._objects.writerow(row)
        self._counts.writerow([*own, "", "all", *self._numbers(image, entries)])
        for label, name in sorted({(entry["category_id"], entry["category_name"]) for entry in entries}):
            of_class = [entry for entry in entries if entry["category_id"] == label]
            self._counts.writerow([*own, label, name, *self._numbers(image, of_class)])

    def _numbers(self, image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[Any]:
        count, area = len(entries), sum(entry["area"] for entry in entries)
        score = _number(sum(entry["score"] for entry in entries) / count) if count else ""
        mean = area / count if count else None
        row = [count, score, "" if mean is None else _number(mean), _number(area)]
        row.append(_number(area / (image["height"] * image["width"])))
        if self._size is not None:
            square = self._size.side**2
            row += ["" if mean is None else _number(mean * square), _number(area * square)]
        return row


def _number(value: float) -> str:
    """Six digits, without what follows from rounding."""
    return f"{value:.6g}"


@contextlib.contextmanager
def written_tables(folder: Path, video: bool, pixel_size: PixelSize | None) -> Iterator[Tables]:
    """Writes the tables, which appear if the block succeeds.

    Args:
        folder: Of the files.
        video: As of `Tables`.
        pixel_size: As of `Tables`.
    """
    with contextlib.ExitStack() as stack:
        texts = []
        for name in (OBJECTS, COUNTS):
            file = stack.enter_context(complete_file(folder / name))
            # The mark at the beginning tells spreadsheets that it is UTF-8.
            texts.append(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        yield Tables(*texts, video, pixel_size)
        for text in texts:
            text.flush()
            text.detach()
