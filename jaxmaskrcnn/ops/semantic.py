"""Enlarging the maps of a semantic head, and the labels of an image's pixels.

Shapes: B images, h and w of a map, C channels, H and W of an image.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_BLOCK = 1 << 14  # pixels whose logits are computed at a time


def enlarge_bilinear(
    x: Array, factor: int, sizes: Array | None = None, axes: tuple[int, ...] = (1, 2)
) -> Array:
    """Enlarge maps by a whole factor with bilinear interpolation; values at the border are repeated.

    Source: torch's ``interpolate(scale_factor=factor, mode="bilinear", align_corners=False)``.

    Args:
        x: [B, h, w, C].
        factor: Static.
        sizes: int [B, 2], height and width of the part of each map that belongs to its image, whose borders
            count; None for all of it.
        axes: Which are enlarged, static: 1 for the height, 2 for the width.

    Returns:
        [B, factor * h, factor * w, C] for both axes.

    Example:
        >>> enlarge_bilinear(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), 2)[0, 0].ravel().tolist()
        [0.0, 1.0, 3.0, 4.0]
        >>> row = jnp.array([0.0, 4.0, 9.0]).reshape(1, 1, 3, 1)
        >>> enlarge_bilinear(row, 2, jnp.array([[1, 2]]))[0, 0, :4].ravel().tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    for axis in axes:
        count = x.shape[axis]
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, count - 1))
        before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, count - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, count, axis=axis), last], axis)
        if sizes is not None:
            place = jnp.arange(count).reshape([-1 if i == axis else 1 for i in range(4)])
            after = jnp.where(place == sizes[:, axis - 1].reshape(-1, 1, 1, 1) - 1, x, after)
        parts = []
        for part in range(factor):  # the middle of this part of a cell, from the cell's own middle
            offset = (part + 0.5) / factor - 0.5
            other = before if offset < 0 else after
            parts.append(x if offset == 0 else (1 - abs(offset)) * x + abs(offset) * other)
        x = jnp.stack(parts, axis + 1).reshape(*x.shape[:axis], factor * count, *x.shape[axis + 1 :])
    return x


def repeat_border(x: Array, sizes: Array) -> Array:
    """Repeat the border of the part of a map that belongs to its image in the rest of the map.

    Args:
        x: [B, h, w, C].
        sizes: int [B, 2], height and width of that part.

    Returns:
        [B, h, w, C].

    Example:
        >>> repeat_border(jnp.array([5.0, 7, 0]).reshape(1, 1, 3, 1), jnp.array([[1, 2]])).ravel().tolist()
        [5.0, 7.0, 7.0]
    """

    def one(x, size):
        rows, columns = (jnp.minimum(jnp.arange(n), size[i] - 1) for i, n in enumerate(x.shape[:2]))
        return x[rows][:, columns]

    return jax.vmap(one)(x, sizes)


def bilinear_taps(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The two values, and their weights, that each value of a resized row is the sum of.

    Source: torch's ``interpolate(mode="bilinear", align_corners=False)``, which does not average.

    Args:
        count: Length of the row.
        size: Length of the resized row.

    Returns:
        Indices int [size, 2], and weights float32 [size, 2].

    Example:
        >>> index, weight = bilinear_taps(2, 4)
        >>> index.tolist(), weight[1].tolist()
        ([[0, 1], [0, 1], [0, 1], [1, 1]], [0.75, 0.25])
    """
    source = np.maximum((np.arange(size, dtype=np.float32) + 0.5) * np.float32(count / size) - 0.5, 0)
    first = np.minimum(source.astype(np.int64), count - 1)
    weight = (source - first).astype(np.float32)
    return np.stack([first, np.minimum(first + 1, count - 1)], 1), np.stack([1 - weight, weight], 1)


def pixel_labels(
    logits: np.ndarray, image_size: tuple[int, int], original_size: tuple[int, int], stride: int
) -> np.ndarray:
    """The channel with the highest logit at each pixel of an image.

    The logits are enlarged to the network's input, cut to the image there and resized to the original image,
    bilinearly both times (Detectron2 ``sem_seg_postprocess``, MMDetection ``BaseSemanticHead.predict``).
    Where all values that a pixel is interpolated from are highest in the same channel, so is the pixel, so
    only the other pixels are computed.

    Args:
        logits: float [h, w, C], with repeated borders (`repeat_border`).
        image_size: Height and width of the image in the network's input, without padding.
        original_size: Height and width of the original image, H and W.
        stride: Pixels of the network's input per cell.

    Returns:
        int64 [H, W], the first channel among equal ones.

    Example:
        >>> logits = np.array([[[3.0, 0.0], [0.0, 1.0]]])
        >>> pixel_labels(logits, (4, 8), (1, 8), 4).tolist()
        [[0, 0, 0, 0, 0, 1, 1, 1]]
    """
    logits = np.asarray(logits, np.float32)
    (rows, row_weights), (columns, column_weights) = (
        _two_steps(logits.shape[axis], stride, image_size[axis], original_size[axis]) for axis in (0, 1)
    )
    highest = logits.argmax(-1).astype(np.uint16)
    near = highest[rows]  # [H, 4, w]
    least, most = near.min(1)[:, columns].min(2), near.max(1)[:, columns].max(2)
    labels = least.astype(np.int64)
    y, x = np.nonzero(least != most)
    for start in range(0, len(y), _BLOCK):
        i, j = y[start : start + _BLOCK], x[start : start + _BLOCK]
        weights = (row_weights[i][:, :, None] * column_weights[j][:, None]).reshape(len(i), 1, -1)
        values = logits[rows[i][:, :, None], columns[j][:, None]].reshape(len(i), weights.shape[2], -1)
        labels[i, j] = (weights @ values)[:, 0].argmax(-1)
    return labels


def _two_steps(count: int, stride: int, cut: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The taps of a row that is enlarged, cut and resized: indices and weights [size, 4]."""
    inner, inner_weights = bilinear_taps(count, count * stride)
    outer, outer_weights = bilinear_taps(cut, size)
    weights = outer_weights[:, :, None] * inner_weights[outer]
    return inner[outer].reshape(size, 4), weights.reshape(size, 4)
