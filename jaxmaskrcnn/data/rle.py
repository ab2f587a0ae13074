"""COCO run-length encoding: checking it, decoding it, and converting other forms to it.

A mask is stored as the lengths of alternating runs of 0 and 1 down its columns, starting with 0.
The compressed form writes each length (from the fourth on, its difference to the one two before)
in groups of five bits, one printable character each.

Shape legend: G objects, H, W height and width of the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from jaxmaskrcnn.errors import UserError


def draw_polygons(polygons: Sequence[Sequence[float] | np.ndarray], height: int, width: int) -> list[Any]:
    """Rasterises polygons as pycocotools does, each for itself.

    Args:
        polygons: A list of them that has been checked: each is ``x, y, x, y, ...`` in pixels, at least three
            points, none far outside of any image.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Compressed RLEs with 'size' and 'counts'.
    """
    return mask_utils.frPyObjects(polygons, height, width)


def polygons_to_counts(polygons: Sequence[Sequence[float] | np.ndarray], height: int, width: int) -> bytes:
    """Rasterises the polygons of one object (their union) as pycocotools does.

    Args:
        polygons: As in `draw_polygons`.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Compressed RLE counts.
    """
    drawn = draw_polygons(polygons, height, width)
    return (drawn[0] if len(drawn) == 1 else mask_utils.merge(drawn))["counts"]


def box_counts(box: Sequence[float], height: int, width: int) -> bytes:
    """A box as a mask.

    Args:
        box: XYXY in pixels, clipped to the image.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Compressed RLE counts.
    """
    x1, y1, x2, y2 = box
    return polygons_to_counts([[x1, y1, x2, y1, x2, y2, x1, y2]], height, width)


def mask_areas(rles: Sequence[Mapping]) -> np.ndarray:
    """Areas of masks in pixels, uint32 [G].

    Args:
        rles: Compressed RLEs with 'size' and 'counts'.
    """
    # With NumPy 2, pycocotools fails for more than 255 masks at once.
    parts = [mask_utils.area(list(rles[i : i + 255])) for i in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.uint32), *parts])


def mask_boxes(rles: Sequence[Mapping]) -> np.ndarray:
    """Boxes of masks, float64 [G, 4]: x, y, width and height in pixels.

    Args:
        rles: Compressed RLEs with 'size' and 'counts'.
    """
    parts = [mask_utils.toBbox(list(rles[i : i + 255])) for i in range(0, len(rles), 255)]
    return np.concatenate([np.zeros((0, 4)), *parts])


def uncompressed_to_counts(runs: list[int], height: int, width: int) -> bytes | None:
    """Compresses a list of run lengths.

    Args:
        runs: Lengths of alternating runs of 0 and 1, starting with 0.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        Compressed RLE counts, or None when ``runs`` are not whole numbers that add up to
        ``height * width``.
    """
    if not set(map(type, runs)) <= {int} or min(runs, default=0) < 0 or sum(runs) != height * width:
        return None
    return mask_utils.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]


def check_counts(counts: bytes, height: int, width: int) -> str | None:
    """Checks compressed counts; pycocotools trusts its input.

    Args:
        counts: Compressed RLE counts.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        A description of the first fault, or None.
    """
    symbols = np.frombuffer(counts, np.uint8)
    if not len(symbols):
        return "its counts are empty"
    if symbols.min() < 48 or symbols.max() > 48 + 63:
        return "its counts hold a character outside of the encoding"
    ends = (symbols - 48 & 32) == 0
    if not ends[-1]:
        return "its counts end within a number"
    if np.diff(np.flatnonzero(ends), prepend=-1).max() > 7:
        return "its counts hold a number of more than 32 bits"
    runs = run_lengths(counts)
    if runs.min() < 0:
        return "it has a run of negative length"
    if runs.sum() != height * width:
        return f"its runs cover {runs.sum()} pixels and not {height * width}"
    return None


def run_lengths(counts: bytes) -> np.ndarray:
    """Expands compressed counts.

    Args:
        counts: Compressed RLE counts.

    Returns:
        int64 [runs], lengths of alternating runs of 0 and 1, starting with 0.
    """
    symbols = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((symbols & 32) == 0)  # last symbol of each number
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(symbols)) - np.repeat(first, last - first + 1)
    runs = np.add.reduceat((symbols & 31) << (5 * place), first)
    negative = (symbols[last] & 16) != 0
    runs -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def decode_mask(counts: bytes, height: int, width: int) -> np.ndarray:
    """Decodes one compressed RLE.

    Args:
        counts: Compressed RLE counts.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        bool [W, H]: the mask's transpose, the order in which it is encoded.
    """
    mask = np.zeros(width * height, bool)
    ends = np.cumsum(run_lengths(counts))
    # A slice per run is faster than vectorised code: a mask of 10^5 pixels has a few hundred runs.
    for start, end in zip(ends[:-1:2].tolist(), ends[1::2].tolist(), strict=True):
        mask[start:end] = True
    return mask.reshape(width, height)


def decode_masks(counts: Sequence[bytes], height: int, width: int) -> np.ndarray:
    """Decodes compressed RLEs.

    Args:
        counts: G compressed RLE counts.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        bool [G, H, W].
    """
    masks = np.zeros((len(counts), height, width), bool)
    for mask, one in zip(masks, counts, strict=True):
        mask[:] = decode_mask(one, height, width).T
    return masks


def decode_window(counts: bytes, height: int, width: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes only the part of a compressed RLE that is not empty, for a mask in a large image.

    Args:
        counts: Compressed RLE counts.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        bool [h, w], as small as possible, and the row and column of its first pixel.
    """
    ends = np.cumsum(run_lengths(counts))
    starts, ends = ends[:-1:2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return np.zeros((0, 0), bool), (0, 0)
    first, last = int(starts[0]) // height, (int(ends[-1]) - 1) // height
    columns = np.zeros((last - first + 1) * height, bool)
    for start, end in zip((starts - first * height).tolist(), (ends - first * height).tolist(), strict=True):
        columns[start:end] = True
    window = columns.reshape(-1, height)
    rows = np.flatnonzero(window.any(0))
    return window[:, rows[0] : rows[-1] + 1].T, (int(rows[0]), first)


def check_mask_sizes(masks: Any, height: int, width: int) -> None:
    """Checks that the masks of a result are of the picture that is given with it.

    Args:
        masks: RLEs with 'size' and 'counts', or arrays [H, W], of each object; None is right for any picture.
        height: Height of the picture, in pixels.
        width: Width of the picture, in pixels.

    Raises:
        UserError: A mask has another size than the picture.

    Example:
        >>> check_mask_sizes(np.zeros((1, 4, 6), bool), 4, 6)
    """
    for mask in () if masks is None else masks:
        size = tuple(mask["size"] if isinstance(mask, Mapping) else np.shape(mask))
        if size != (height, width):
            raise UserError(
                f"The picture is {height} x {width} pixels (height x width) and a mask of the result is "
                f"{' x '.join(map(str, size))}; give the picture that was predicted."
            )
