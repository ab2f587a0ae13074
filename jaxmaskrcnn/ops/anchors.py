"""Anchors of one level.

Shape legend: A anchors per cell, h and w the height and width of the feature map.
Boxes are XYXY in pixels of the network's input.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import Pair, check_shapes
from jaxmaskrcnn.ops.static import check_numbers, check_whole


def base_anchors(
    sizes: float | Sequence[float],
    ratios: Sequence[float],
    rounding: bool,
    order: str = "ratio",
    stride: float | None = None,
) -> np.ndarray:
    """The anchors of a cell around the origin, one for each size and aspect ratio.

    Args:
        sizes: Square roots of the anchors' areas, in pixels; one number or several.
        ratios: Height / width of each anchor.
        rounding: True rounds the corners to whole pixels, half to even (torchvision); False
            keeps them as they are (Detectron2, MMDetection).
        order: The index that varies slowest: "ratio" (torchvision, MMDetection) or "size" (Detectron2).
        stride: If given, anchors are made as in Detectron (generate_anchors.py): the sides of a square of the
            stride are rounded for each ratio, and enlarged by size / stride.

    Returns:
        numpy float32 [A, 4], A = sizes * ratios.

    Raises:
        ValueError: ``order`` is unknown, or sizes or ratios are missing or not above 0.

    Example:
        >>> base_anchors(32, (0.5, 1.0, 2.0), True)[0]
        array([-23., -11.,  23.,  11.], dtype=float32)
        >>> [float(x) for x in base_anchors((8, 16), (1.0, 4.0), False, "size")[:, 3]]
        [4.0, 8.0, 8.0, 16.0]
    """
    if order not in ("ratio", "size"):
        raise ValueError(f'base_anchors: order is {order!r}; choose "ratio" or "size".')
    check_numbers("base_anchors", 0, above=True, sizes=sizes, ratios=ratios)
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if np.size(values) == 0:
            raise ValueError(f"base_anchors: {name} is {values!r}; give one or more numbers above 0.")
    if stride is not None:
        return _enlarged_squares(np.atleast_1d(sizes), np.asarray(ratios), order, stride)
    # float32 like torchvision: a corner within an ulp of a half must round the same way.
    dtype = np.float32 if rounding else np.float64
    size = np.atleast_1d(np.asarray(sizes, dtype))[None, :]  # [1, sizes]
    ratio = np.asarray(ratios, dtype)[:, None]  # [ratios, 1]
    if order == "size":
        size, ratio = size.T, ratio.T
    if rounding:
        root = np.sqrt(ratio)
        w, h = ((1 / root) * size).reshape(-1), (root * size).reshape(-1)
        return np.round(np.stack([-w, -h, w, h], axis=-1) / 2)
    w = np.sqrt(size**2 / ratio).reshape(-1)
    h = np.broadcast_to(ratio, np.broadcast_shapes(size.shape, ratio.shape)).reshape(-1) * w
    return (np.stack([-w, -h, w, h], axis=-1) / 2).astype(np.float32)


def _enlarged_squares(sizes: np.ndarray, ratios: np.ndarray, order: str, stride: float) -> np.ndarray:
    width = np.round(np.sqrt(stride**2 / ratios.astype(np.float64)))[:, None]  # [ratios, 1]
    height = np.round(width * ratios[:, None])
    scale = sizes.astype(np.float64)[None, :] / stride  # [1, sizes]
    w, h = width * scale, height * scale
    if order == "size":
        w, h = w.T, h.T
    w, h = w.reshape(-1), h.reshape(-1)
    return (np.stack([-w, -h, w, h], axis=-1) / 2).astype(np.float32)


def grid_anchors(base: ArrayLike, feature_size: tuple[int, int], stride: Pair) -> Array:
    """The base anchors moved to every cell of a feature map.

    The cell in row i and column j has its anchors centred at ``(j * stride_x, i * stride_y)``, if the base
    anchors are around the origin: neither torchvision nor Detectron2 nor MMDetection adds half a stride.

    Args:
        base: [A, 4], from :func:`base_anchors`.
        feature_size: (h, w) of the feature map, static.
        stride: (stride_y, stride_x) in pixels; numbers, traced scalars, or an array [2].

    Returns:
        float32 [h * w * A, 4], row by row, the anchors of a cell next to each other; the
        order in which an RPN head's output [h, w, A * 4] is reshaped.

    Raises:
        ValueError: An array has another shape, or a size or a stride is impossible.

    Example:
        >>> grid_anchors(base_anchors(32, (1.0,), True), (1, 2), (16, 16)).tolist()
        [[-16.0, -16.0, 16.0, 16.0], [0.0, -16.0, 32.0, 16.0]]
    """
    check_shapes("grid_anchors", base=(base, "A 4"), feature_size=(feature_size, "2"), stride=(stride, "2"))
    check_whole("grid_anchors", 0, feature_size=feature_size)
    check_numbers("grid_anchors", 0, above=True, stride=stride)
    h, w = feature_size
    y = (jnp.arange(h) * stride[0]).astype(jnp.float32)
    x = (jnp.arange(w) * stride[1]).astype(jnp.float32)
    # Each coordinate by itself, as one long row: XLA:TPU takes over a minute to compile the way from
    # arrays [h, w, A, 4] into rows of 4, and nine seconds to compile this (docs/benchmarks.md).
    base = jnp.asarray(base, jnp.float32)
    left, right = (jnp.tile((x[:, None] + base[None, :, k]).reshape(-1), h) for k in (0, 2))
    top, bottom = ((y[:, None] + jnp.tile(base[:, k], w)[None]).reshape(-1) for k in (1, 3))
    return jnp.stack([left, top, right, bottom], axis=-1)
