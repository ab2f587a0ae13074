"""Weights in 8 bits, with a scale for each output channel; computed with as float32.

Shape legend: C output channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.structures import Array

_LARGEST = 127
_FEWEST = 1024  # numbers of an array that is worth it


class Quantised(NamedTuple):
    """A kernel in 8 bits: ``values * scales`` is close to it.

    Attributes:
        values: int8 [..., C], from -127 to 127.
        scales: float32 [C].
    """

    values: np.ndarray | Array
    scales: np.ndarray | Array

    def kernel(self) -> Array:
        """The kernel, float32 [..., C]."""
        return self.values.astype(jnp.float32) * self.scales


def quantise(kernel: np.ndarray) -> Quantised:
    """Rounds a kernel to 8 bits, each output channel by its largest weight.

    Args:
        kernel: float32 [..., C].

    Returns:
        The kernel in 8 bits. No weight changes by more than half of its channel's scale, which is a 127th of
        the channel's largest weight.

    Example:
        >>> values, scales = quantise(np.float32([[1.0, 0.0], [-0.5, 0.0]]))
        >>> values.tolist(), scales.tolist()
        ([[127, 0], [-64, 0]], [0.007874015718698502, 0.0])
    """
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    scales = (largest / _LARGEST).astype(np.float32)
    values = np.rint(kernel / np.where(scales > 0, scales, 1)).clip(-_LARGEST, _LARGEST)
    return Quantised(values.astype(np.int8), scales)


def quantise_all(weights: Sequence[np.ndarray | Array]) -> list[np.ndarray | Array | Quantised]:
    """The kernels among a model's weights in 8 bits; biases, norms and small arrays as they are."""

    def one(weight: np.ndarray | Array) -> np.ndarray | Array | Quantised:
        worth = weight.dtype == jnp.float32 and weight.ndim >= 2 and weight.size >= _FEWEST
        return quantise(np.asarray(weight)) if worth else weight

    return [one(weight) for weight in weights]
