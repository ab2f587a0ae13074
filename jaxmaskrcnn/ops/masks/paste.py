"""Pastes predicted masks into the image, on the device or on the host.

Shape legend: N predicted masks, M the side of one, H and W the image's height and width, K pixels of an axis.
Boxes are XYXY in pixels.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.interpolation import mix_pairs
from jaxmaskrcnn.ops.masks.axis import axis_pixels
from jaxmaskrcnn.ops.shapes import check_shapes, shape_of
from jaxmaskrcnn.ops.static import check_whole


def paste_masks(
    probs: ArrayLike, boxes: ArrayLike, image_size: tuple[int, int], *, convention: str = "whole_pixels"
) -> Array:
    """Pastes predicted masks, resized to their boxes, into arrays of the image's size.

    * "whole_pixels" (torchvision): the mask gets a border of one zero cell, the box grows in
      proportion about its centre and is truncated to whole pixels, both ends included; the mask is
      resized to it bilinearly and copied.
    * "whole_pixels_inclusive" (Detectron, maskrcnn-benchmark): the same for boxes that end at the index of
      their last pixel, one less than here.
    * "grid_sample" (Detectron2, MMDetection): every pixel's centre is looked up in the mask
      bilinearly; the mask fades to zero within half a cell around the box.
    * "whole_boxes" (matterport): for boxes of whole pixels, to which the mask is resized bilinearly. It fades
      towards the box's border, though not below its smallest value, and ends there.

    Args:
        probs: [N, M, M], probabilities inside of the boxes.
        boxes: [N, 4], XYXY in pixels of the image.
        image_size: (H, W), static.
        convention: "whole_pixels", "whole_pixels_inclusive", "grid_sample" or "whole_boxes", or a library's
            name for it, "torchvision", "detectron2" or "matterport".

    Returns:
        float32 [N, H, W] in 0 to 1. It is zero outside of the box, and everywhere if the box is empty or
        not finite. A cell of the mask that is not finite counts as 0.

    Raises:
        ValueError: ``convention`` is unknown, the size is impossible, or an array has another shape.

    Example:
        >>> probs, box = jnp.ones((1, 2, 2)), jnp.array([[1.0, 1, 3, 2]])
        >>> paste_masks(probs, box, (3, 4), convention="grid_sample")[0].tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    check_pasted("paste_masks", probs, boxes, image_size)
    boxes = jnp.asarray(boxes, jnp.float32)
    finite = jnp.isfinite(boxes).all(axis=1)[:, None]
    boxes, probs = jnp.where(finite, boxes, 0), jnp.where(finite[..., None] & jnp.isfinite(probs), probs, 0)
    cells = probs.shape[-1]
    height, width = image_size
    rows = _axis_weights(boxes[:, 1], boxes[:, 3], np.arange(height), cells, convention, jnp)
    columns = _axis_weights(boxes[:, 0], boxes[:, 2], np.arange(width), cells, convention, jnp)
    probs = jnp.asarray(probs, jnp.float32)
    half = jnp.einsum("nym,nmk->nyk", rows, probs, precision="highest")
    pasted = jnp.einsum("nyk,nxk->nyx", half, columns, precision="highest")
    if paste_rule(convention) not in LIMITED:
        return pasted
    inside = (rows.sum(2) > 0)[:, :, None] & (columns.sum(2) > 0)[:, None]
    return jnp.where(inside, jnp.maximum(pasted, probs.min((1, 2), keepdims=True)), 0)


def paste_mask_window(
    prob: ArrayLike, box: ArrayLike, image_size: tuple[int, int], *, convention: str = "whole_pixels"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Pastes one mask as :func:`paste_masks` does, on the host, only where it can be non-zero.

    Args:
        prob: numpy [M, M].
        box: [4], XYXY in pixels of the image.
        image_size: (H, W).
        convention: As in :func:`paste_masks`: "whole_pixels" (torchvision) or "grid_sample" (Detectron2).

    Returns:
        (window, (y, x)): numpy float32 [h, w] and the image pixel of its top left corner. It is empty
        if the box lies outside of the image or is not finite. A cell of the mask that is not
        finite counts as 0.

    Raises:
        ValueError: ``convention`` is unknown, the size is impossible, or an array has another shape.

    Example:
        >>> window, corner = paste_mask_window(
        ...     np.ones((2, 2)), np.array([1.0, 1, 3, 2]), (3, 4), convention="grid_sample"
        ... )
        >>> window.tolist(), corner
        ([[1.0, 1.0]], (1, 1))
    """
    check_shapes("paste_mask_window", prob=(prob, "M M"), box=(box, "4"), image_size=(image_size, "2"))
    return next(
        paste_mask_windows(np.asarray(prob)[None], np.asarray(box)[None], image_size, convention=convention)
    )


def paste_mask_windows(probs, boxes, image_size, *, convention="whole_pixels"):
    """:func:`paste_mask_window` for many masks, one after the other.

    Args:
        probs: numpy [N, M, M].
        boxes: [N, 4], XYXY in pixels of the image.
        image_size: (H, W).
        convention: As in :func:`paste_masks`.

    Returns:
        An iterator of N windows with their corners.

    Raises:
        ValueError: ``convention`` is unknown, the size is impossible, or an array has another shape.
    """
    check_pasted("paste_mask_windows", probs, boxes, image_size)
    probs, boxes = np.asarray(probs, np.float32), np.asarray(boxes, np.float32)
    probs = np.where(np.isfinite(probs), probs, np.float32(0))
    finite = np.all(np.isfinite(boxes), axis=1)
    x1, y1, x2, y2 = np.where(finite[:, None], boxes, np.float32(0)).T
    rule = paste_rule(convention)
    down, across = (
        axis_pixels(low, high, length, probs.shape[-1], PASTE_RULES[rule])
        for low, high, length in ((y1, y2, image_size[0]), (x1, x2, image_size[1]))
    )

    def window(i, prob):
        if not finite[i]:
            return np.zeros((0, 0), np.float32), (0, 0)
        half = mix_pairs(prob.T, *across.pairs(i), axis=0)
        pasted = mix_pairs(half.T, *down.pairs(i), axis=0)
        limited = np.maximum(pasted, prob.min()) if rule in LIMITED else pasted
        return limited, (down.first(i), across.first(i))

    return (window(i, prob) for i, prob in enumerate(probs))


def check_pasted(function: str, probs, boxes, image_size) -> None:
    """Refuses arrays of other shapes than [N, M, M] and [N, 4], and impossible sizes, by a `ValueError`."""
    check_shapes(function, probs=(probs, "N M M"), boxes=(boxes, "N 4"), image_size=(image_size, "2"))
    check_whole(function, 0, image_size=image_size)
    if 0 in shape_of(probs)[1:]:
        raise ValueError(f"{function}: probs has the shape {list(shape_of(probs))}; give masks with cells.")


def _axis_weights(low, high, pixels, cells, convention, xp):
    """The weight of each cell of a mask in each pixel, along one axis; arguments as for `_positions`.

    Returns:
        float32 [N, K, M].
    """
    position, inside = _positions(low, high, pixels, cells, convention, xp)
    cell = np.arange(cells, dtype=np.float32)
    weights = xp.maximum(np.float32(1) - xp.abs(position[..., None] - cell), np.float32(0))
    return xp.where(inside[..., None], weights, np.float32(0))


def _positions(low, high, pixels, cells, convention, xp):
    """The positions of an axis's pixels in a mask, where cell k has its centre at k.

    Args:
        low: float32 [N], the boxes' smaller coordinate.
        high: float32 [N], the larger one.
        pixels: int [K], the pixels to look up.
        cells: M.
        convention: As in :func:`paste_masks`.
        xp: numpy or jax.numpy.

    Returns:
        float32 [N, K], and whether the box covers each pixel, bool [N, K].
    """
    rule = paste_rule(convention)
    pixel = xp.asarray(pixels, xp.float32)[None]  # [1, K]
    position, inside = PASTE_RULES[rule](low, high, pixel, cells, xp)
    return position, xp.broadcast_to(inside, position.shape)


def paste_rule(convention: str) -> str:
    """The name in `PASTE_RULES` of a convention, which may be a library's name.

    Raises:
        ValueError: It is unknown.
    """
    rule = _SYNONYMS.get(convention, convention)
    if rule not in PASTE_RULES:
        raise ValueError(f"paste: convention is {convention!r}; choose one of {', '.join(PASTE_RULES)}.")
    return rule


def _whole_pixels(low, high, pixel, cells, xp):
    scale = np.float32((cells + 2) / cells)
    centre, half = (high + low) * np.float32(0.5), (high - low) * np.float32(0.5) * scale
    # The select also keeps XLA from contracting this product and the sums below into fused
    # multiply-adds, which could move a whole-pixel edge by one.
    half = xp.where(xp.isfinite(half), half, np.float32(0))
    first, last = xp.trunc(centre - half)[:, None], xp.trunc(centre + half)[:, None]
    length = xp.maximum(last - first + 1, 1)
    inside = (pixel >= first) & (pixel <= last)
    bordered = (np.float32(cells + 2) / length) * (pixel - first + np.float32(0.5)) - np.float32(0.5)
    return bordered - 1, inside  # the border starts one cell earlier than the mask


def _grid_sample(low, high, pixel, cells, xp):
    length = (high - low)[:, None]
    inside = length > 0
    position = (pixel + np.float32(0.5) - low[:, None]) / xp.where(inside, length, np.float32(1)) * cells
    return position - np.float32(0.5), inside


def _whole_pixels_inclusive(low, high, pixel, cells, xp):
    return _whole_pixels(low, high - 1, pixel, cells, xp)


def _whole_boxes(low, high, pixel, cells, xp):
    position, inside = _grid_sample(low, high, pixel, cells, xp)
    return position, inside & (pixel >= low[:, None]) & (pixel < high[:, None])


PASTE_RULES = {
    "whole_pixels": _whole_pixels,
    "grid_sample": _grid_sample,
    "whole_pixels_inclusive": _whole_pixels_inclusive,
    "whole_boxes": _whole_boxes,
}
# The rules whose pixels have at least the mask's smallest value.
LIMITED = ("whole_boxes",)
# Accepted as well.
_SYNONYMS = {"torchvision": "whole_pixels", "detectron2": "grid_sample", "matterport": "whole_boxes"}
