"""Assigns boxes to the levels of a feature pyramid that they are pooled from (FPN, equation 1).

Shape legend: R boxes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_whole


def assign_levels(
    boxes: ArrayLike, *, rule: str, min_level: int | Array = 2, max_level: int | Array = 5
) -> Array:
    """The pyramid level that each box is pooled from (FPN, equation 1).

    ``floor(4 + log2(sqrt(area) / 224))``, limited to the given levels. The rules differ in
    an epsilon that decides for boxes with a side of exactly 112, 224 or 448 pixels:

    * "log_epsilon" adds 1e-6 to the logarithm (torchvision),
    * "side_epsilon" adds 1e-8 to its argument, ``sqrt(area) / 224`` (Detectron2),
    * "finest_epsilon" adds 1e-6 to the side in units of the finest level's 56 pixels, and computes
      ``2 + floor(log2(sqrt(area) / 56 + 1e-6))`` (MMDetection),
    * "rounded" rounds to the nearest level instead, ``round(4 + log2(sqrt(area) / 224))`` (matterport).

    Args:
        boxes: [R, 4], XYXY in pixels of the network's input.
        rule: ``PoolConfig.level_rule``, one of ``LEVEL_RULES``.
        min_level: The finest level, a scalar.
        max_level: The coarsest level, a scalar.

    Returns:
        int32 [R], ``min_level`` to ``max_level``; an empty box gets ``min_level``.

    Raises:
        ValueError: ``rule`` is unknown, the levels are no whole numbers or ``min_level`` is above
            ``max_level``, or ``boxes`` has another shape.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 50, 50], [0, 0, 224, 224], [0, 0, 900, 900]])
        >>> assign_levels(boxes, rule="log_epsilon").tolist()
        [2, 4, 5]
    """
    check_shapes("assign_levels", boxes=(boxes, "R 4"))
    if rule not in LEVEL_RULES:
        raise ValueError(f"assign_levels: rule is {rule!r}; choose one of {', '.join(LEVEL_RULES)}.")
    check_whole("assign_levels", _LEVELS[0], min_level=min_level, max_level=max_level)
    known = not any(isinstance(level, jax.Array) for level in (min_level, max_level))
    if known and min_level > max_level:
        raise ValueError(
            f"assign_levels: min_level is {min_level} and max_level {max_level}; give a min_level that is "
            "not above max_level."
        )
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    level = _LEVELS[0] - 1 + (area[..., None] >= _smallest_areas(rule)[None]).sum(-1)
    return jnp.clip(level, min_level, max_level).astype(jnp.int32)


_ONE = np.float32(1)


def _log2(x):
    return np.log2(x.astype(np.float64)).astype(np.float32)


# The level of a float32 side in pixels, before it is rounded down.
LEVEL_RULES = {
    "log_epsilon": lambda side: (4 * _ONE + _log2(side / (224 * _ONE))) + np.float32(1e-6),
    "side_epsilon": lambda side: 4 * _ONE + _log2(side / (224 * _ONE) + np.float32(1e-8)),
    "finest_epsilon": lambda side: 2 * _ONE + np.floor(_log2(side / (56 * _ONE) + np.float32(1e-6))),
    "rounded": lambda side: (4 * _ONE + _log2(side / (224 * _ONE))) + np.float32(0.5),
}
_FIRST_SIDES = {"rounded": 224 * 0.5**0.5}  # about the smallest side of P4; 224 with the others

# More levels than boxes need in practice; a pyramid whose scale is inferred can begin below P2.
_LEVELS = range(-4, 13)


@functools.cache
def _smallest_areas(rule):
    """The smallest float32 area in square pixels that belongs to each of `_LEVELS`.

    A box on a boundary lies within a rounding error of another level, and a division or logarithm that a
    compiler or an accelerator rounds differently from torch would move it there. So the formulas are
    evaluated here in float32, as torch does, and the device only compares.
    """
    smallest = []
    for level in _LEVELS:
        # Neighbours of the nominal boundary in the order of float32 numbers.
        side = _FIRST_SIDES.get(rule, 224)
        nominal = np.float32((side * 2.0 ** (level - 4)) ** 2).view(np.int32)
        areas = (nominal + np.arange(-1000, 1000, dtype=np.int32)).view(np.float32)
        smallest.append(areas[np.argmax(LEVEL_RULES[rule](np.sqrt(areas)) >= level)])
    return np.asarray(smallest)
