"""Weighted sums for linear interpolation on the host, in NumPy.

Shape legend: H, W the array; n rows or columns of the result; C channels.
"""

import numpy as np


def mix_pairs(array, first, second, first_weight, second_weight, axis: int) -> np.ndarray:
    """Weighted sums of pairs of rows or columns; a matrix of weights would consist mostly of zeros.

    Args:
        array: [H, W] or [H, W, C].
        first: int [n], rows (axis 0) or columns (axis 1).
        second: int [n].
        first_weight: Weights of the first rows or columns, broadcastable to the result.
        second_weight: Weights of the second ones, likewise.
        axis: 0 or 1.

    Returns:
        An array like ``array``, with length n along the axis.
    """
    mixed = np.take(array, first, axis=axis)
    mixed *= first_weight
    other = np.take(array, second, axis=axis)
    other *= second_weight
    mixed += other
    return mixed
