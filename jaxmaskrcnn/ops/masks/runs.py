"""Pasted masks as runs of pixels, without computing their pixels; NumPy, on the host.

A pasted mask is linear between two neighbouring cells of a line. So it crosses the threshold at most once
there, and the place follows from the two cells alone: the work depends on the height or the width of a mask,
not on its area. The result is that of `paste_mask_windows` and its threshold to the last pixel: where a pixel
is so close to the threshold that rounding decides, its whole line is computed as `paste_mask_windows` does.

Shape legend: N predicted masks, M the side of one, H and W the image's height and width, L lines (columns or
rows) of all masks, P pixels, T crossings, R runs. Boxes are XYXY in pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.ops.masks.axis import AxisPixels, axis_pixels
from jaxmaskrcnn.ops.masks.paste import LIMITED, PASTE_RULES, check_pasted, paste_rule

# Larger than the rounding errors of a pasted pixel in [0, 1], which are below 5e-7.
_ROUNDING = 2e-6
# Lines (below 2**15) and pixels that are computed at a time, so that their arrays stay in a cache.
_LINES, _PIXELS = 1024, 2**18


class MaskRuns(NamedTuple):
    """The pixels of N masks as runs, in the order of the image's columns or rows.

    Attributes:
        starts: int [R], places of the runs' first pixels, ascending within a mask. Columns: x * H + y,
            rows: y * W + x.
        ends: int [R], places behind their last pixels; a run may begin where the one before ends.
        splits: int [N + 1]; mask i has the runs from ``splits[i]`` to ``splits[i + 1]``.
    """

    starts: np.ndarray
    ends: np.ndarray
    splits: np.ndarray


class RunWindows(Sequence):
    """Masks that are given as runs along rows, each cropped to its pixels when it is asked for.

    Args:
        runs: The runs of N masks.
        width: W.

    Returns:
        Of each mask bool [h, w], and the row and column of its first pixel.

    Example:
        >>> window, corner = RunWindows(MaskRuns(np.array([5]), np.array([7]), np.array([0, 1])), 4)[0]
        >>> window.tolist(), corner
        ([[True, True]], (1, 1))
    """

    def __init__(self, runs: MaskRuns, width: int):
        self._splits = runs.splits
        self._row, self._left = np.divmod(runs.starts, width)
        self._right = self._left + (runs.ends - runs.starts)

    def __len__(self) -> int:
        return len(self._splits) - 1

    def __getitem__(self, i: Any) -> tuple[np.ndarray, tuple[int, int]]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        own = slice(*self._splits[i : i + 2])
        row, left, right = self._row[own], self._left[own], self._right[own]
        if not len(row):
            return np.zeros((0, 0), bool), (0, 0)
        top, x0 = int(row[0]), int(left.min())
        width = int(right.max()) - x0
        bounds = np.zeros((len(row) + 1, 2), np.intp)  # the ends of what is outside and inside by turns
        bounds[:-1, 0], bounds[:-1, 1] = left, right
        bounds[:-1] += ((row - top) * width - x0)[:, None]
        bounds[-1] = (int(row[-1]) - top + 1) * width
        lengths = np.diff(bounds.ravel()[:-1], prepend=0)
        return np.repeat(_by_turns(len(lengths)), lengths).reshape(-1, width), (top, x0)


def _by_turns(count: int) -> np.ndarray:
    """False, True, False, ..."""
    inside = np.zeros(count, bool)
    inside[1::2] = True
    return inside


def mask_runs(
    probs,
    boxes,
    image_size: tuple[int, int],
    threshold: float,
    *,
    strict: bool,
    convention: str = "whole_pixels",
    rows: bool = False,
) -> MaskRuns:
    """The pixels at which pasted masks reach a threshold, as runs.

    Args:
        probs: numpy [N, M, M].
        boxes: [N, 4], XYXY in pixels of the image.
        image_size: (H, W).
        threshold: What is compared with.
        strict: Whether pixels must exceed the threshold, or may be equal to it.
        convention: As in `paste_masks`.
        rows: Whether the runs go along rows; else they go down columns, as COCO's do.

    Returns:
        The runs; a mask whose box is not finite has none.

    Raises:
        ValueError: ``convention`` is unknown, the size is impossible, or an array has another shape.

    Example:
        >>> runs = mask_runs(np.ones((1, 2, 2)), np.array([[1.0, 1, 3, 2]]), (3, 4), 0.5, strict=False,
        ...                  convention="grid_sample")
        >>> runs.starts.tolist(), runs.ends.tolist()  # (1, 1) and (1, 2), row and column
        ([4, 7], [5, 8])
    """
    check_pasted("mask_runs", probs, boxes, image_size)
    probs, boxes = np.asarray(probs, np.float32), np.asarray(boxes, np.float32)
    probs = np.where(np.isfinite(probs), probs, np.float32(0))
    finite = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    rule = paste_rule(convention)
    x1, y1, x2, y2 = boxes[finite].T
    down, across = (
        axis_pixels(low, high, length, probs.shape[-1], PASTE_RULES[rule])
        for low, high, length in ((y1, y2, image_size[0]), (x1, x2, image_size[1]))
    )
    pasted = _pasted(
        probs[finite], down, across, rows, np.float32(threshold), strict, rule in LIMITED, image_size
    )
    pieces = [_runs_of_lines(pasted, lines) for lines in _blocks(len(pasted.lines.pixels), _LINES)]
    masks, starts, ends = (
        np.concatenate([np.zeros(0, np.intp), *(piece[i] for piece in pieces)]) for i in range(3)
    )
    counts = np.bincount(finite[masks], minlength=len(probs))
    return MaskRuns(starts, ends, np.concatenate([[0], np.cumsum(counts)]))


class _Pasted(NamedTuple):
    """Masks to be pasted: those with finite boxes, and how they are thresholded."""

    probs: np.ndarray  # [N, M, M]
    cells: np.ndarray  # [M, N * M], the same: cells of the pixels of a line, then masks and cells of lines
    lowest: np.ndarray  # [N], what a pixel of the box has at least
    down: AxisPixels
    across: AxisPixels
    rows: bool
    lines: AxisPixels  # the axis whose pixels are lines
    along: AxisPixels  # the axis of the pixels of a line
    spacing: "_Spacing"
    stride: int  # places from a line to the next one
    threshold: np.float32
    margin: np.float32  # cells that are closer to the threshold are computed
    strict: bool

    def reached(self, values: np.ndarray) -> np.ndarray:
        return values > self.threshold if self.strict else values >= self.threshold


def _pasted(probs, down, across, rows, threshold, strict, limited, image_size) -> _Pasted:
    lines, along = (down, across) if rows else (across, down)
    lowest = probs.min(axis=(1, 2), initial=np.inf) if limited else np.full(len(probs), -np.inf, np.float32)
    largest = np.abs(probs).max(initial=max(1, abs(threshold)))
    side = probs.shape[-1]
    cells = np.ascontiguousarray(np.moveaxis(probs, 2 if rows else 1, 0)).reshape(side, -1)
    return _Pasted(
        probs, cells, lowest, down, across, rows, lines, along, _spacing(along),
        image_size[1 if rows else 0], threshold, np.float32(_ROUNDING * largest), strict,
    )  # fmt: skip


class _Spacing(NamedTuple):
    """The pixels of an axis that each of N masks reaches, as evenly spaced positions."""

    pixel: np.ndarray  # int [N], the first pixel
    count: np.ndarray  # int [N]
    first: np.ndarray  # [N], the first pixel's position
    step: np.ndarray  # [N]
    deviation: np.ndarray  # [N], how far a position is from it at most


def _spacing(axis: AxisPixels) -> _Spacing:
    begins, count = axis.splits[:-1], np.diff(axis.splits)
    positions = np.append(axis.positions.astype(np.float64), 0)  # a mask at the end may have no pixels
    first = positions[begins]
    span = np.where(count > 0, positions[begins + np.maximum(count - 1, 0)] - first, 0)
    step = span / np.maximum(count - 1, 1)
    index = np.arange(len(axis.positions)) - begins[axis.masks]
    deviation = np.zeros(len(count))
    np.maximum.at(
        deviation, axis.masks, np.abs(positions[:-1] - first[axis.masks] - index * step[axis.masks])
    )
    # Pixels of the largest boxes may all be at one position, of which nothing can be said.
    deviation = np.where((step > 0) | (count < 2), 1.01 * deviation + 1e-9, np.inf)
    pixel = np.append(axis.pixels, 0)[begins]
    return _Spacing(pixel, count, first, np.where(step > 0, step, 1.0), deviation)


def _blocks(count: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _runs_of_lines(pasted: _Pasted, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of some lines: their masks, starts and ends [R]."""
    line, lower, upper, at, doubtful = _crossings(pasted, lines)
    masks = pasted.lines.masks[lines[line]]
    pixel, count, first, step, deviation = (values[masks] for values in pasted.spacing)
    # Behind how many of a line's pixels it crosses the threshold.
    index = (at - first) / step
    margin = (pasted.margin / np.abs(upper - lower) + deviation) / step
    unclear = np.ceil(index - margin) != np.ceil(index + margin)
    unclear &= (index + margin >= 0) & (index - margin <= count - 1)
    doubtful[line[unclear]] = True

    places = pasted.lines.pixels[lines[line]] * pasted.stride + pixel
    places += np.clip(np.ceil(index), 0, count).astype(np.intp)
    clear = ~doubtful[line]
    masks, places = masks[clear], places[clear]
    # A line begins and ends below the threshold, so that its crossings are pairs.
    masks, starts, ends = masks[0::2], places[0::2], places[1::2]
    if doubtful.any():
        computed = [_computed_runs(pasted, some) for some in _split(pasted, lines[doubtful])]
        masks, starts, ends = (
            np.concatenate([mine, *others])
            for mine, *others in zip((masks, starts, ends), *computed, strict=True)
        )
        order = np.lexsort((starts, masks))
        masks, starts, ends = masks[order], starts[order], ends[order]
    kept = ends > starts
    return masks[kept], starts[kept], ends[kept]


def _crossings(pasted: _Pasted, lines: np.ndarray):
    """Where lines cross the threshold.

    Args:
        pasted: The masks.
        lines: int [L].

    Returns:
        Line (of these), value of the cell before and of the cell behind [T], the position between them [T],
        and whether each line has a cell that is too close to the threshold, bool [L].
    """
    axis, masks = pasted.lines, pasted.lines.masks[lines]
    side = pasted.probs.shape[-1]
    # [M + 2, L]: the lines go along the last axis, which is longer. Outside of the mask is zero.
    values = np.zeros((side + 2, len(lines)), np.float32)
    inner = values[1:-1]
    np.take(pasted.cells, masks * side + axis.lower[lines], axis=1, out=inner, mode="clip")
    inner *= axis.lower_weights[lines]
    other = np.take(pasted.cells, masks * side + axis.upper[lines], axis=1)
    other *= axis.upper_weights[lines]
    inner += other

    above = values >= pasted.threshold + pasted.margin
    near = np.flatnonzero(above != (values >= pasted.threshold - pasted.margin))
    doubtful = above[0] | pasted.reached(pasted.lowest)[masks]
    doubtful[near % len(lines)] = True
    above[:, doubtful] = False
    cell, line = np.divmod(np.flatnonzero(above[1:] != above[:-1]), len(lines))
    order = np.argsort(line.astype(np.int16), kind="stable")  # of 16 bits NumPy sorts by their digits
    cell, line = cell[order], line[order]
    lower, upper = values[cell, line].astype(np.float64), values[cell + 1, line].astype(np.float64)
    return line, lower, upper, cell - 1 + (pasted.threshold - lower) / (upper - lower), doubtful


def _split(pasted: _Pasted, lines: np.ndarray) -> Iterator[np.ndarray]:
    """Lines in parts whose pixels can be computed at a time."""
    total = np.cumsum(pasted.spacing.count[pasted.lines.masks[lines]])
    yield from np.split(lines, np.flatnonzero(np.diff(total // _PIXELS)) + 1)


def _computed_runs(pasted: _Pasted, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of lines whose pixels are computed one by one: masks, starts and ends [R]."""
    masks = pasted.lines.masks[lines]
    count = pasted.spacing.count[masks]
    line = np.repeat(lines, count)
    begins = np.cumsum(count) - count
    pixel = np.arange(len(line)) - np.repeat(begins - pasted.along.splits[masks], count)
    mask = np.repeat(masks, count)
    row, column = (line, pixel) if pasted.rows else (pixel, line)
    down, across, probs = pasted.down, pasted.across, pasted.probs
    # The order of the operations is that of `paste_mask_windows`: across first, then down.
    halves = [
        probs[mask, cells, across.lower[column]] * across.lower_weights[column]
        + probs[mask, cells, across.upper[column]] * across.upper_weights[column]
        for cells in (down.lower[row], down.upper[row])
    ]
    values = halves[0] * down.lower_weights[row] + halves[1] * down.upper_weights[row]
    reached = np.concatenate([[False], pasted.reached(np.maximum(values, pasted.lowest[mask])), [False]])
    new = np.zeros(len(reached), bool)  # pixels that begin a line, and the end
    new[1 + begins[count > 0]] = new[-1] = True
    starts = np.flatnonzero(reached[1:] & (~reached[:-1] | new[1:]))
    ends = np.flatnonzero(reached[:-1] & (~reached[1:] | new[1:]))  # behind the last pixel
    places = np.append(pasted.lines.pixels[line] * pasted.stride + pasted.along.pixels[pixel], 0)
    return mask[starts], places[starts], places[ends - 1] + 1
