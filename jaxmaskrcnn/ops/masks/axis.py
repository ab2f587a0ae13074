"""Which pixels of an axis pasted masks reach, and the cells around each of them; NumPy, on the host.

Shape legend: N predicted masks, M the side of one, P pixels of an axis that the masks reach, one
mask after the other.
"""

from typing import NamedTuple

import numpy as np


class AxisPixels(NamedTuple):
    """The pixels of an axis that each of N masks reaches, and the two cells that each is interpolated from.

    Attributes:
        splits: int [N + 1]; mask i has the pixels from ``splits[i]`` to ``splits[i + 1]``.
        masks: int [P], the mask of each pixel.
        pixels: int [P], places on the image's axis, ascending within a mask.
        positions: float32 [P], places in the mask, where cell k has its centre at k.
        lower: int [P], the cell before; 0 with the weight 0 where there is none.
        upper: int [P], the cell behind, likewise.
        lower_weights: float32 [P].
        upper_weights: float32 [P].
    """

    splits: np.ndarray
    masks: np.ndarray
    pixels: np.ndarray
    positions: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    lower_weights: np.ndarray
    upper_weights: np.ndarray

    def first(self, i: int) -> int:
        """The first pixel of mask ``i``, or 0 if it has none."""
        start, end = self.splits[i : i + 2]
        return int(self.pixels[start]) if end > start else 0

    def pairs(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The cells of mask ``i`` and their weights [K, 1], as `ops.interpolation.mix_pairs` takes them."""
        own = slice(*self.splits[i : i + 2])
        lower_weights, upper_weights = self.lower_weights[own, None], self.upper_weights[own, None]
        return self.lower[own], self.upper[own], lower_weights, upper_weights


def axis_pixels(low, high, length: int, cells: int, rule) -> AxisPixels:
    """Finds the pixels of an axis that each box reaches.

    Args:
        low: float32 [N], the boxes' smaller coordinate, finite.
        high: float32 [N], the larger one.
        length: Pixels of the image on this axis.
        cells: M.
        rule: A function of `ops.masks.paste.PASTE_RULES`.

    Returns:
        The pixels whose position in the mask is above -1 and below M.
    """
    # Generous limits first; the rule itself decides, but is not asked for every pixel of the image.
    ends = np.stack([low, high]).astype(np.float64)
    reach = np.abs(ends[1] - ends[0]) / cells + np.abs(ends).max(axis=0) * 1e-6 + 2
    start = np.clip(np.floor(ends.min(axis=0) - reach), 0, length).astype(np.intp)
    count = np.clip(np.ceil(ends.max(axis=0) + reach), 0, length).astype(np.intp) - start
    masks = np.repeat(np.arange(len(low)), count)
    pixels = np.arange(len(masks)) - np.repeat(np.cumsum(count) - count - start, count)

    at, inside = rule(low[masks], high[masks], pixels.astype(np.float32)[:, None], cells, np)
    at, inside = at[:, 0], np.broadcast_to(inside, at.shape)[:, 0]
    used = inside & (at > -1) & (at < cells)
    masks, pixels, at = masks[used], pixels[used], at[used]
    splits = np.concatenate([[0], np.cumsum(np.bincount(masks, minlength=len(low)))])

    cell = np.floor(at)
    pairs = []
    for neighbour in (cell, cell + 1):
        valid = (neighbour >= 0) & (neighbour < cells)
        weight = np.where(valid, np.float32(1) - np.abs(at - neighbour), np.float32(0))
        pairs.append((np.where(valid, neighbour, 0).astype(np.intp), weight))
    (lower, lower_weights), (upper, upper_weights) = pairs
    return AxisPixels(splits, masks, pixels, at, lower, upper, lower_weights, upper_weights)
