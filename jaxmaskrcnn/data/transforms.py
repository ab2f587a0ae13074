"""Geometry of images, boxes and masks on the host.

Shape legend: G objects, H, W a size before resizing, h, w after it, B images of a batch.
"""

from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.ops.resize import nearest_index

_SMALLEST_SIDE = 1e-3  # pixels; an object that is thinner after resizing teaches nothing


def round_up(size, divisor: int):
    """Rounds lengths up to a multiple of ``divisor``; 0 and 1 leave them as they are."""
    if divisor <= 1:
        return size
    return -(-size // divisor) * divisor


def scale_boxes(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Follows an image's resize: each axis by its own ratio, in float32 (torchvision's convention).

    Args:
        boxes: [G, 4], XYXY in pixels of the old size.
        old: ``(height, width)`` before.
        new: ``(height, width)`` after.

    Returns:
        float32 [G, 4].
    """
    ratios = np.asarray(new, np.float32) / np.asarray(old, np.float32)
    return np.asarray(boxes, np.float32).reshape(-1, 4) * ratios[[1, 0, 1, 0]]


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes left to right in an image ``width`` pixels wide; [G, 4] XYXY."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([width - right, top, width - left, bottom], axis=-1)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cuts boxes off at the border of an image of ``(height, width)``; [G, 4] XYXY."""
    height, width = size
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))


def not_degenerate(boxes: np.ndarray) -> np.ndarray:
    """Which boxes, [G, 4] XYXY in pixels, are large enough to learn from; bool [G]."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST_SIDE).all(axis=1)


def pack_rles(
    counts: Sequence[bytes],
    size: tuple[int, int],
    new_size: tuple[int, int],
    canvas: tuple[int, int],
    kernel: str,
    *,
    flip: bool = False,
) -> np.ndarray:
    """Decodes, resizes, flips, pads and packs masks, touching only the pixels an object covers.

    Equal to decoding whole masks, ``resize_mask``, mirroring, padding with zeros and
    ``pack_masks``; for a crowded image it is many times faster.

    Args:
        counts: G compressed COCO RLE counts.
        size: ``(H, W)`` of the masks.
        new_size: ``(h, w)`` they are resized to.
        canvas: Height and width of the result, not smaller than ``new_size``.
        kernel: ``ModelConfig.resize_kernel``, for the matching nearest-neighbour rule.
        flip: Whether to mirror left to right (after resizing).

    Returns:
        uint8 [G, canvas height, ceil(canvas width / 8)].
    """
    packed = np.zeros((len(counts), canvas[0], -(-canvas[1] // 8)), np.uint8)
    rows = nearest_index(size[0], new_size[0], kernel)
    columns = nearest_index(size[1], new_size[1], kernel)
    if flip:
        columns = columns[::-1]
    for one, rle in zip(packed, counts, strict=True):
        mask = decode_mask(rle, *size)  # [W, H]
        covered = np.flatnonzero(mask.any(axis=1)[columns])
        if not len(covered):
            continue
        first = covered[0] // 8 * 8  # bytes of the packed rows begin at multiples of eight
        last = covered[-1] + 1
        window = mask[columns[first:last]]  # [columns, H]
        high = np.flatnonzero(window.any(axis=0)[rows])
        if not len(high):
            continue
        rows_in = slice(high[0], high[-1] + 1)
        bits = np.packbits(window[:, rows[rows_in]].T, axis=-1)
        one[rows_in, first // 8 : first // 8 + bits.shape[-1]] = bits
    return packed
