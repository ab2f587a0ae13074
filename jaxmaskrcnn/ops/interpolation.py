"""The sums of linear interpolation on the host, with NumPy alone.

Shape legend: H, W the array; n rows or columns of the result; C channels.
"""

import numpy as np


def mix_pairs(array, first, second, first_weight, second_weight, axis: int) -> np.ndarray:
    """Weighted sums of pairs of rows or columns. A product with a matrix of weights would be mostly zeros.

    Args:
        array: [H, W] or [H, W, C].
        first: int [n], rows (axis 0) or columns (axis 1).
        second: int [n].
        first_weight: Broadcastable to the result.
        second_weight: Likewise.
        axis: 0 or 1.

    Returns:
        As ``array``, with n in the place of the axis.
    """
    mixed = np.take(array, first, axis=axis)
    mixed *= first_weight
    other = np.take(array, second, axis=axis)
    other *= second_weight
    mixed += other
    return mixed
