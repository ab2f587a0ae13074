"""From a region's heat-maps to keypoints, on the host; and the enlargement at the end of the head.

A heat-map is resized to the size of its box with bicubic interpolation, and the keypoint is in the middle of
the pixel with the highest value (``heatmaps_to_keypoints`` of Detectron2 and torchvision). Resizing is
separable, so it is a product with one matrix for the rows and one for the columns.

Shapes: N regions, K keypoints, S the side of a heat-map, R maps, h and w their sides, C channels.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

SCORES = ("logit", "softmax")
_A = -0.75  # of the cubic kernel: torch's


def double_bilinear(x: Array) -> Array:
    """Enlarge maps to twice their size with bilinear interpolation.

    Source: torch's ``interpolate(scale_factor=2, mode="bilinear", align_corners=False)``.

    Args:
        x: [R, h, w, C].

    Returns:
        [R, 2h, 2w, C].

    Example:
        >>> double_bilinear(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)).ravel().tolist()
        [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 3.0, 4.0]
    """
    for axis in (1, 2):
        count = x.shape[axis]
        before = jnp.concatenate([jax.lax.slice_in_dim(x, 0, 1, axis=axis),
                                  jax.lax.slice_in_dim(x, 0, count - 1, axis=axis)], axis)  # fmt: skip
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, count, axis=axis),
                                 jax.lax.slice_in_dim(x, count - 1, count, axis=axis)], axis)  # fmt: skip
        pairs = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return x


@functools.lru_cache(maxsize=512)
def cubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """The matrix that resizes a row of values with bicubic interpolation.

    Source: Keys, 1981, with a = -0.75, pixel centres at halves, no smoothing where a row becomes shorter, and
    the values at the border repeated (torch's ``interpolate(mode="bicubic", align_corners=False)``).

    Args:
        size_in: Length of the row.
        size_out: Length of the result.

    Returns:
        float64 [size_out, size_in], which is not to be changed.

    Example:
        >>> cubic_matrix(2, 1).tolist()
        [[0.5, 0.5]]
    """
    source = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    first = np.floor(source)
    matrix = np.zeros((size_out, size_in))
    for tap in range(-1, 3):
        column = np.clip(first + tap, 0, size_in - 1).astype(int)
        np.add.at(matrix, (np.arange(size_out), column), _cubic(np.abs(source - first - tap)))
    matrix.flags.writeable = False
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * _A - 4 * _A
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def decode_keypoints(logits: np.ndarray, boxes: np.ndarray, score: str) -> np.ndarray:
    """Find the keypoints of regions in their heat-maps.

    Args:
        logits: float [N, K, S, S].
        boxes: float [N, 4], XYXY in pixels of the network's input: the regions that the maps belong to.
        score: "logit", the highest value of the resized map (torchvision); or "softmax", the exponential of
            that value divided by the sum over the map before it was resized, so that large and small objects
            can be compared (Detectron2). It is not above 1 by much.

    Returns:
        float32 [N, K, 3]: x and y in pixels of the network's input, and the score.

    Raises:
        ValueError: ``score`` is unknown.

    Example:
        >>> logits = np.zeros((1, 1, 4, 4))
        >>> logits[0, 0, 1, 2] = 8.0
        >>> decode_keypoints(logits, np.float32([[10, 20, 18, 28]]), "logit")[0, 0, :2].tolist()
        [14.5, 22.5]
    """
    if score not in SCORES:
        raise ValueError(f"decode_keypoints: score is {score!r}; choose one of {', '.join(SCORES)}.")
    logits, boxes = np.asarray(logits, np.float64), np.asarray(boxes, np.float32)
    result = np.zeros((*logits.shape[:2], 3), np.float32)
    for number, (maps, box) in enumerate(zip(logits, boxes, strict=True)):
        result[number] = _decode(maps, box, score)
    return result


def _decode(maps: np.ndarray, box: np.ndarray, score: str) -> np.ndarray:
    """The keypoints of one region, [K, 3], from its maps, [K, S, S]."""
    size = np.maximum(box[2:] - box[:2], np.float32(1))  # width and height, at least a pixel
    width, height = (math.ceil(side) for side in size)
    rows, columns = cubic_matrix(maps.shape[1], height), cubic_matrix(maps.shape[2], width)
    place, highest = np.zeros(len(maps), int), np.zeros(len(maps))
    for k, values in enumerate(maps):  # one at a time: the resized map of a large box takes megabytes
        resized = (rows @ values) @ columns.T
        place[k] = resized.argmax()  # the first one of equal values
        highest[k] = resized.flat[place[k]]
    pixel = np.stack([place % width, place // width], 1).astype(np.float32) + np.float32(0.5)
    points = pixel * (size / np.array([width, height], np.float32)) + box[:2]
    if score == "softmax":
        highest = 1 / np.exp(maps - highest[:, None, None]).sum((1, 2))
    return np.concatenate([points, highest[:, None]], 1).astype(np.float32)


def keypoint_cells(keypoints: Any, boxes: Array, side: int) -> tuple[Array, Array]:
    """Find the cells of the regions' heat-maps in which keypoints are.

    Source: Detectron2 ``_keypoints_to_heatmap``, torchvision ``keypoints_to_heatmap``.

    Args:
        keypoints: float [N, K, 3], x, y and visibility; 0 is a keypoint that is not annotated.
        boxes: float [N, 4], the regions.
        side: S, static.

    Returns:
        int32 [N, K], ``row * S + column``, 0 for a keypoint without a cell; and bool [N, K], whether it has
        one.

    Example:
        >>> points = jnp.array([[[4.0, 8.0, 2.0], [8.0, 2.0, 1.0], [4.0, 4.0, 0.0]]])
        >>> cells, inside = keypoint_cells(points, jnp.array([[0.0, 0.0, 8.0, 16.0]]), 4)
        >>> cells.tolist(), inside.tolist()
        ([[10, 3, 0]], [[True, True, False]])
    """
    size = boxes[:, 2:] - boxes[:, :2]
    scale = side / jnp.where(size > 0, size, 1)  # padded regions have no size
    places, last = keypoints[..., :2], boxes[:, None, 2:]
    cell = jnp.floor((places - boxes[:, None, :2]) * scale[:, None])
    cell = jnp.where(places == last, side - 1, cell)
    inside = ((cell >= 0) & (cell < side)).all(-1) & (keypoints[..., 2] > 0) & (size > 0).all(-1)[:, None]
    column, row = jnp.where(inside[..., None], cell, 0).astype(jnp.int32).transpose(2, 0, 1)
    return row * side + column, inside
