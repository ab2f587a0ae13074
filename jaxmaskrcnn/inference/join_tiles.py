"""Joins the detections of overlapping tiles into objects of the whole picture.

Where two tiles overlap, both show the same region. Two detections of one class belong to one object if
they agree within that region. This holds for an object that lies inside the region (found twice) and for
one that crosses it (cut off by a seam in either tile). Masks stay run-length encoded throughout, so that
hundreds of objects in a picture of any size need little memory.

Shape legend: H, W height and width of the picture, T tiles, N objects.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.data.rle import run_lengths
from jaxmaskrcnn.inference.postprocess import encode_runs

_SAME = 0.5  # two detections with at least this IoU within the overlap are of one object
_NEAR = 0.01  # a box is cut off by a border of the tile within this distance, as a share of the tile's side
_MIN_PIECE_INSIDE = 0.9  # a piece counts as inside the overlap from this share of its area on
_WHOLE = 0.5  # an uncut piece with at least this share of the union of all pieces is the whole object


class _Piece(NamedTuple):
    """A detection of one tile, in pixels of the picture."""

    tile: int
    label: int
    score: float
    box: np.ndarray  # [4]
    mask: dict[str, Any]  # RLE of the picture's size; without a mask, the box as RLE
    cut: np.ndarray  # bool [4]: cut off by the tile's left, upper, right, lower border


def join_tiles(
    results: Sequence[dict[str, Any]], tiles: Sequence[Sequence[int]], image_size: tuple[int, int]
) -> dict[str, Any]:
    """Joins the results of a picture's tiles into one result.

    An object that a tile shows completely is taken from the tile with the highest score. The pieces of
    other objects are united: the union of the masks, the hull of the boxes, the highest score. Two
    detections of the same tile are united only if both are cut off by a seam.

    Args:
        results: Results of the T tiles, as returned by ``Predictor`` with ``masks="rle"``.
        tiles: Their rectangles ``(y0, x0, y1, x1)`` in the picture.
        image_size: (H, W).

    Returns:
        A result in the same form, at the picture's scale, best first.

    Example:
        >>> left, right = (
        ...     {"boxes": np.float32([box]), "scores": np.float32([0.9]), "labels": np.array([1])}
        ...     for box in ([2, 0, 16, 9], [0, 0, 12, 9])
        ... )
        >>> join_tiles([left, right], [(0, 0, 9, 16), (0, 8, 9, 24)], (9, 24))["boxes"].tolist()
        [[2.0, 0.0, 20.0, 9.0]]
    """
    pieces = [
        piece
        for number, (result, tile) in enumerate(zip(results, tiles, strict=True))
        for piece in _pieces(number, result, tile, image_size)
    ]
    objects = [_unite([pieces[i] for i in group]) for group in _groups(pieces, tiles, image_size)]
    objects.sort(key=lambda piece: -piece.score)  # stable: equal scores in the order of the tiles
    joined = {
        "boxes": np.array([piece.box for piece in objects], np.float32).reshape(-1, 4),
        "scores": np.array([piece.score for piece in objects], np.float32),
        "labels": np.array([piece.label for piece in objects], np.int64),
    }
    if all("masks" in result for result in results):
        joined["masks"] = [piece.mask for piece in objects]
    return joined


def shift_rle(rle: dict[str, Any], origin: tuple[int, int], image_size: tuple[int, int]) -> dict[str, Any]:
    """Converts the mask of a window to a mask of the whole picture.

    Args:
        rle: COCO RLE of the window's size [h, w].
        origin: Row and column of the window's first pixel in the picture.
        image_size: (H, W); the window lies inside the picture.

    Returns:
        COCO RLE of size [H, W].
    """
    (h, _), (y0, x0) = rle["size"], origin
    ends = np.cumsum(run_lengths(rle["counts"].encode("ascii")))
    starts, ends = ends[:-1:2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    # A run can continue from one column of the window to the next, but then it is divided in the picture.
    first = starts // h
    columns = (ends - 1) // h - first + 1
    run = np.repeat(np.arange(len(starts)), columns)
    column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(columns) - columns, columns)
    moved = (x0 + column) * image_size[0] + y0 - column * h
    starts = np.maximum(starts[run], column * h) + moved
    ends = np.minimum(ends[run], (column + 1) * h) + moved
    return encode_runs(starts, ends, image_size)


def _pieces(number, result, tile, image_size) -> Iterator[_Piece]:
    y0, x0, y1, x1 = tile
    height, width = image_size
    near = max(2.0, _NEAR * max(y1 - y0, x1 - x0))
    inner = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])  # sides that are seams
    boxes = np.asarray(result["boxes"], np.float32) + np.float32([x0, y0, x0, y0])
    for i, box in enumerate(boxes):
        if "masks" in result:
            mask = shift_rle(result["masks"][i], (y0, x0), image_size)
        else:
            mask = _rectangle(box, image_size)
        sides = np.array([x0, y0, x1, y1])
        cut = inner & (np.abs(box - sides) <= near)
        # A box whose far side is near the seam is a sliver, and the other tile shows more of the object.
        if (inner & (np.abs(np.roll(box, 2) - sides) <= near)).any():
            continue
        yield _Piece(number, int(result["labels"][i]), float(result["scores"][i]), box, mask, cut)


def _rectangle(box, image_size) -> dict[str, Any]:
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    return rle_codec.frPyObjects(np.array([[x1, y1, x2 - x1, y2 - y1]]), *image_size)[0]


def _groups(pieces: list[_Piece], tiles, image_size) -> list[list[int]]:
    """Groups the pieces of each object, as lists of indices."""
    group = list(range(len(pieces)))  # the group of each piece
    members = [[i] for i in group]
    for _, i, j in sorted(_matches(pieces, tiles, image_size)):
        a, b = group[i], group[j]
        if a == b or not _compatible([pieces[k] for k in members[a] + members[b]]):
            continue
        for k in members[b]:
            group[k] = a
        members[a], members[b] = members[a] + members[b], []
    return [sorted(places) for places in members if places]


def _compatible(together: list[_Piece]) -> bool:
    """Whether pieces can be of one object; pieces of the same tile can only if all of them are cut off."""
    seen: dict[int, list[_Piece]] = {}
    for piece in together:
        seen.setdefault(piece.tile, []).append(piece)
    return all(len(same) == 1 or all(p.cut.any() for p in same) for same in seen.values())


def _matches(pieces: list[_Piece], tiles, image_size) -> Iterator[tuple[float, int, int]]:
    """Yields minus the agreement, and the indices, of pieces that agree within the overlap of two tiles."""
    boxes = np.array([piece.box for piece in pieces]).reshape(-1, 4)
    labels = np.array([piece.label for piece in pieces])
    owner = np.array([piece.tile for piece in pieces])
    for s, first in enumerate(tiles):
        for t in range(s + 1, len(tiles)):
            second = tiles[t]
            (y0, x0), (y1, x1) = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
            if y0 >= y1 or x0 >= x1:
                continue
            common = np.array([x0, y0, x1, y1], np.float32)
            rectangle = _rectangle(common, image_size)
            areas: dict[int, int] = {}  # areas of the pieces within the overlap
            a, b = np.flatnonzero(owner == s), np.flatnonzero(owner == t)
            low = np.maximum(np.maximum(boxes[a, None, :2], boxes[None, b, :2]), common[:2])
            high = np.minimum(np.minimum(boxes[a, None, 2:], boxes[None, b, 2:]), common[2:])
            near = (high > low).all(-1) & (labels[a, None] == labels[None, b])
            rows, columns = np.nonzero(near)
            for i, j in zip(a[rows].tolist(), b[columns].tolist(), strict=True):
                for k in (i, j):
                    if k not in areas:
                        areas[k] = _intersection(pieces[k].mask, rectangle)
                agreement = _agreement(
                    _Part(pieces[i], areas[i], _cut_within(pieces[i], second)),
                    _Part(pieces[j], areas[j], _cut_within(pieces[j], first)),
                )
                if agreement > 0:
                    yield -agreement, i, j


class _Part(NamedTuple):
    """The part of a piece that lies in the overlap of two tiles."""

    piece: _Piece
    area: int
    cut: bool  # whether a border of its tile that runs through the other tile cuts it off

    @property
    def is_all(self) -> bool:
        """Whether it is everything that its tile shows of an object, while the other tile shows more."""
        return self.cut and self.area >= _MIN_PIECE_INSIDE * int(rle_codec.area(self.piece.mask))


def _agreement(a: _Part, b: _Part) -> float:
    """The share of the smaller part that the parts have in common; 0 if they are not of one object."""
    both = _intersection(a.piece.mask, b.piece.mask)
    if not both:
        return 0.0
    smaller = min(a, b, key=lambda part: part.area)
    iou = both / (a.area + b.area - both)
    # If an object is cut off just beyond the seam, its visible part is small and its mask inaccurate. And an
    # object that one tile shows as a whole can have several parts in the other.
    lenient = smaller.cut or a.is_all or b.is_all
    return both / smaller.area if iou >= _SAME or (lenient and both >= _SAME * smaller.area) else 0.0


def _cut_within(piece: _Piece, other) -> bool:
    """Whether a piece is cut off by a border of its tile that runs through another tile."""
    y0, x0, y1, x1 = other
    left, top, right, bottom = piece.box
    inside = [x0 < left < x1, y0 < top < y1, x0 < right < x1, y0 < bottom < y1]
    return bool((piece.cut & inside).any())


def _intersection(a, b) -> int:
    return int(rle_codec.area(rle_codec.merge([a, b], intersect=True)))


def _unite(group: list[_Piece]) -> _Piece:
    best = max(group, key=lambda piece: piece.score)  # the first of equal ones
    if len(group) == 1:
        return best
    union = rle_codec.merge([piece.mask for piece in group])
    whole = [piece for piece in group if not piece.cut.any()]
    if whole:
        best_whole = max(whole, key=lambda piece: piece.score)
        if rle_codec.area(best_whole.mask) >= _WHOLE * rle_codec.area(union):
            return best_whole
    boxes = np.array([piece.box for piece in group])
    hull = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    mask = {"size": list(union["size"]), "counts": union["counts"].decode("ascii")}
    return best._replace(box=hull, mask=mask)
