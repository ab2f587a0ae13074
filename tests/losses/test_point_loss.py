"""The loss of PointRend's points: its value, its count, and slots without an object."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.losses import Regions, point_loss
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.structures import Targets

MASKS = np.zeros((2, 12, 16), bool)
MASKS[0, 2:9, 3:11] = True
MASKS[1, 5:12, 8:16] = True
POINTS = np.float32([[[0.5, 0.5], [0.05, 0.5]], [[0.3, 0.3], [1.0, 1.0]], [[0.2, 0.9], [0.6, 0.4]]])
BOXES = np.float32([[3, 2, 11, 9], [8, 5, 16, 12], [0, 0, 16, 12]])
MATCHED = np.array([0, 1, 1])
LOGITS = np.float32([[2.0, -1.0], [0.5, 3.0], [-2.0, 0.0]])


def loss(logits, positive, slots=0, objects=0):
    pad = lambda x, n: np.pad(x, [(0, n)] + [(0, 0)] * (np.ndim(x) - 1))  # noqa: E731
    there = pad(np.ones(2, bool), objects)
    boxes = pad(np.float32([[3, 2, 11, 9], [8, 5, 16, 12]]), objects)
    masks = pack_masks(pad(MASKS, objects))
    targets = Targets(boxes, there * 0, masks, ~there & False, there)
    flags = pad(np.asarray(positive), slots)
    regions = Regions(pad(BOXES, slots), flags * 0, pad(MATCHED, slots), flags, flags)
    run = jax.jit(point_loss, static_argnames="width")
    arrays = jax.tree.map(jnp.asarray, (pad(logits, slots), pad(POINTS, slots), regions, targets))
    return run(*arrays, 16, jnp.array([12, 16]))["loss_mask_point"]


def test_value():
    """Cross entropy with the mask's value, which is less than 1 near its edge and a quarter in the corner."""
    places = BOXES[:, None, :2] + POINTS * (BOXES[:, None, 2:] - BOXES[:, None, :2])
    values = []
    for (x, y), mask in zip(places.reshape(-1, 2), MASKS[MATCHED].repeat(2, 0), strict=True):
        padded = np.pad(mask.astype(float), 1)
        column, row = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
        u, v = x - 0.5 - column, y - 0.5 - row
        cells = padded[row + 1 : row + 3, column + 1 : column + 3]
        values.append(cells[0] @ [1 - u, u] * (1 - v) + cells[1] @ [1 - u, u] * v)
    values = np.reshape(values, (3, 2))
    np.testing.assert_allclose(values[:2], [[1.0, 0.9], [1.0, 0.25]], atol=1e-6)
    bce = np.log1p(np.exp(-LOGITS)) * values + np.log1p(np.exp(LOGITS)) * (1 - values)
    term = loss(LOGITS, [True, True, False])
    np.testing.assert_allclose(term.total, bce[:2].sum(), rtol=1e-5)
    assert term.count == 4


def test_slots_change_nothing():
    plain = loss(LOGITS, [True, False, True])
    np.testing.assert_array_equal(loss(LOGITS, [True, False, True], slots=2, objects=3), plain)
    nothing = loss(LOGITS, [False] * 3)
    assert nothing.total == nothing.count == 0
