"""Which level of a feature pyramid a box is pooled from (FPN, equation 1).

Shape legend: R boxes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import check_shapes


def assign_levels(
    boxes: ArrayLike, *, rule: str, min_level: int | Array = 2, max_level: int | Array = 5
) -> Array:
    """The pyramid level that each box is pooled from (FPN, equation 1).

    ``floor(4 + log2(sqrt(area) / 224))``, limited to the given levels. The libraries differ in
    an epsilon that decides about boxes of a side of exactly 112, 224 or 448 pixels:

    * "torchvision" adds 1e-6 to the logarithm,
    * "detectron2" adds 1e-8 to its argument,
    * "mmdet" computes ``floor(log2(sqrt(area) / 56 + 1e-6))`` above the level 2.

    Args:
        boxes: [R, 4], XYXY in pixels of the network's input.
        rule: One of the three.
        min_level: Finest level there is, a scalar.
        max_level: Coarsest level there is, a scalar.

    Returns:
        int32 [R], ``min_level`` to ``max_level``; an empty box gets ``min_level``.

    Raises:
        ValueError: ``rule`` is something else, or ``boxes`` has another shape.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 50, 50], [0, 0, 224, 224], [0, 0, 900, 900]])
        >>> assign_levels(boxes, rule="torchvision").tolist()
        [2, 4, 5]
    """
    check_shapes("assign_levels", boxes=(boxes, "R 4"))
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    level = _LEVELS[0] - 1 + (area[..., None] >= _smallest_areas(rule)).sum(-1)
    return jnp.clip(level, min_level, max_level).astype(jnp.int32)


# More than boxes of any use need; a pyramid whose scale is inferred can begin below P2.
_LEVELS = range(-4, 13)


@functools.cache
def _smallest_areas(rule):
    """The smallest float32 area in square pixels that belongs to each of `_LEVELS`.

    A box on a boundary lies within a rounding error of another level, and a division or logarithm
    that rounds otherwise than torch's (a compiler's, an accelerator's) would put it there. So the
    formulas are evaluated here, as torch does in float32, and the device only compares.
    """
    one = np.float32(1)

    def log2(x):
        return np.log2(x.astype(np.float64)).astype(np.float32)

    formulas = {
        "torchvision": lambda side: (4 * one + log2(side / (224 * one))) + np.float32(1e-6),
        "detectron2": lambda side: 4 * one + log2(side / (224 * one) + np.float32(1e-8)),
        "mmdet": lambda side: 2 * one + np.floor(log2(side / (56 * one) + np.float32(1e-6))),
    }
    if rule not in formulas:
        raise ValueError(f'assign_levels: rule is {rule!r}; choose "torchvision", "detectron2" or "mmdet".')
    smallest = []
    for level in _LEVELS:
        # Neighbours of the nominal boundary in the order of float32 numbers.
        nominal = np.float32((224 * 2.0 ** (level - 4)) ** 2).view(np.int32)
        areas = (nominal + np.arange(-1000, 1000, dtype=np.int32)).view(np.float32)
        smallest.append(areas[np.argmax(formulas[rule](np.sqrt(areas)) >= level)])
    return np.asarray(smallest)
