"""Assignment of anchors or proposals to ground-truth objects.

Shape legend: G ground-truth slots, N anchors or proposals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.shapes import check_shapes
from jaxmaskrcnn.ops.static import check_numbers


class Matches(NamedTuple):
    """The assignment of each anchor or proposal.

    Attributes:
        index: int32 [N], the object; meaningful where the label is 1 (elsewhere the object with
            the largest IoU, or 0 if there is none).
        label: int32 [N], 1 foreground, 0 background, -1 neither (not to be sampled).

    Example:
        >>> Matches(index=jnp.array([0, 1]), label=jnp.array([1, -1])).label.tolist()
        [1, -1]
    """

    index: jax.Array
    label: jax.Array


def match(
    iou: Array,
    valid: ArrayLike,
    *,
    foreground_iou: float,
    background_iou: float,
    low_quality: str | None = None,
    low_quality_min_iou: float = 0.0,
) -> Matches:
    """Label every column of an IoU matrix by its best row.

    A column is foreground if its largest IoU is at least ``foreground_iou``, and background if it is below
    ``background_iou``. ``low_quality`` then gives matches to objects that no column overlaps
    that well:

    * "label" (torchvision, Detectron2): every column tied for an object's largest IoU becomes
      foreground and keeps the object that it overlaps most, which may be another one.
    * "reassign" (MMDetection): the same columns become foreground and are matched with that object;
      of several such objects the last one counts.

    The libraries do not check that an object's largest IoU is above zero. An object that overlaps no
    column is tied with all of them at IoU 0, and makes them all foreground. This is reproduced for a
    limit of 0; any positive ``low_quality_min_iou`` prevents it.

    To exclude a column (such as an anchor outside the image's extent), give it an IoU of -1 with every
    object: it is then background, and never tied.

    Args:
        iou: [G, N].
        valid: bool [G]; rows where it is False match nothing.
        foreground_iou: Threshold, inclusive. Like the others, it is rounded to the dtype of ``iou``,
            as torch does when it compares a tensor with a number.
        background_iou: Threshold, exclusive; at most ``foreground_iou``.
        low_quality: None, "label" or "reassign".
        low_quality_min_iou: Objects whose largest IoU is below it get no low-quality matches; at least 0
            (MMDetection's ``min_pos_iou``; 0 in torchvision and Detectron2).

    Returns:
        Matches. Without any valid object all columns are background with the index 0.

    Raises:
        ValueError: ``low_quality`` is unknown, a threshold is not from 0 to 1, ``background_iou`` is above
            ``foreground_iou``, or an array has another shape.

    Example:
        >>> iou = jnp.array([[0.8, 0.1, 0.4]])  # one object, three anchors
        >>> match(iou, jnp.array([True]), foreground_iou=0.7, background_iou=0.3).label.tolist()
        [1, 0, -1]
    """
    if low_quality not in (None, "label", "reassign"):
        raise ValueError(f'match: low_quality is {low_quality!r}; choose None, "label" or "reassign".')
    check_shapes("match", iou=(iou, "G N"), valid=(valid, "G"))
    check_numbers("match", 0, 1, foreground_iou=foreground_iou, background_iou=background_iou)
    check_numbers("match", 0, 1, low_quality_min_iou=low_quality_min_iou)
    known = not any(isinstance(threshold, jax.Array) for threshold in (foreground_iou, background_iou))
    if known and background_iou > foreground_iou:
        raise ValueError(
            f"match: background_iou is {background_iou!r} and foreground_iou {foreground_iou!r}; give a "
            "background_iou that is not above foreground_iou."
        )
    objects, columns = iou.shape
    if objects == 0 or columns == 0:
        return Matches(jnp.zeros(columns, jnp.int32), jnp.zeros(columns, jnp.int32))

    iou = jnp.where(jnp.asarray(valid)[:, None], iou, -1.0)
    best = iou.max(axis=0)
    index = iou.argmax(axis=0).astype(jnp.int32)
    label = jnp.where(best >= foreground_iou, 1, jnp.where(best < background_iou, 0, -1))

    if low_quality is not None:
        best_of_object = iou.max(axis=1, keepdims=True)  # [G, 1], -1 in a row that is not valid
        tied = (iou == best_of_object) & (best_of_object >= low_quality_min_iou)
        label = jnp.where(tied.any(axis=0), 1, label)
        if low_quality == "reassign":
            last = jnp.where(tied, jnp.arange(objects, dtype=jnp.int32)[:, None], -1).max(axis=0)
            index = jnp.where(last >= 0, last, index)
    return Matches(index, label.astype(jnp.int32))
