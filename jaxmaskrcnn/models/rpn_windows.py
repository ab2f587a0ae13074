"""The predictions for a few anchors of the region proposal network, from the cells around them alone.

The losses read a few hundred of an image's 200,000 anchors. So the gradients of the head's convolutions are
those of as many small windows: of a 3x3 convolution the 3 x 3 cells around an anchor's own. Of 256 windows
they are products with a hundredth of the multiplications that they take as convolutions of whole maps.

Shapes: B images, S anchors, C channels, n convolutions, K = 2 n + 1 the side of a window.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import Conv, ConvNorm, is_predictor
from jaxmaskrcnn.models.padding import feature_extent
from jaxmaskrcnn.models.rpn import RPNHead
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps
from jaxmaskrcnn.ops.roi_align.windows import cell_windows
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


def applies(head: Any) -> bool:
    """Whether a head predicts for an anchor from its window alone: convolutions without a norm.

    Args:
        head: The module that predicts objectness and deltas.
    """
    if not isinstance(head, RPNHead):
        return False
    own = any(getattr(type(head), name) is not getattr(RPNHead, name) for name in ("__call__", "hidden"))
    return (
        not own
        and all(_is_plain(layer) for layer in head.convs)
        and is_predictor(head.cls_logits)
        and is_predictor(head.bbox_pred)
    )


def _is_plain(layer):
    if type(layer) is not ConvNorm or layer.norm is not None:
        return False
    if type(layer.conv) is not Conv or layer.conv.bias is None:
        return False
    conv = layer.conv
    return conv.kernel.shape[:2] == (3, 3) and (conv.stride, conv.groups, conv.dilation) == (1, 1, 1)


def anchor_windows(
    head: RPNHead, levels: Sequence[Array], index: Array, pass_: Pass
) -> tuple[RegionTaps, Array]:
    """Find the cells that a head's predictions for some of the anchors depend on.

    Args:
        head: A head for which `applies` is True.
        levels: [B, h, w, C] each.
        index: int [B, S], into the anchors of all levels.
        pass_: See `Pass`.

    Returns:
        Windows with a leading B, for `pool_together`, and which of their cells are in the images, bool
        [B, S, K, K].
    """
    level, cell = place_cells([x.shape[1:3] for x in levels], index // _per_cell(head))
    read = functools.partial(cell_windows, reach=len(head.convs))
    sizes = _own_sizes(head, levels, pass_)
    return jax.vmap(lambda level, cell, sizes: read(level, cell, feature_sizes=sizes))(level, cell, sizes)


def predict_anchors(head: RPNHead, windows: Array, inside: Array, index: Array) -> tuple[Array, Array]:
    """Compute the predictions of a head for some of the anchors.

    Args:
        head: As of `anchor_windows`.
        windows: [B, S, K, K, C], the cells of its windows.
        inside: bool [B, S, K, K], which of them are in the images.
        index: As of `anchor_windows`.

    Returns:
        Objectness logits [B, S] and deltas [B, S, 4], those that ``head(levels, pass_)`` has at the index.
    """
    x, per_cell = windows, _per_cell(head)
    for number, layer in enumerate(head.convs):
        if number:  # the layer reads zeros beyond the image, as it does of a whole map
            x = jnp.where(inside[:, :, number:-number, number:-number, None], x, 0)
        x = _convolution(x, *layer.conv.weights())
    x = x[:, :, 0, 0]
    logits, deltas = (_product(x, *layer.weights()) for layer in (head.cls_logits, head.bbox_pred))
    if head.two_logits:
        logits = logits[..., 1::2] - logits[..., ::2]
    deltas = deltas.reshape(*deltas.shape[:2], per_cell, 4)
    # The anchor among those of its cell by a sum with zeros, since XLA:TPU looks up single values slowly.
    own = (index % per_cell)[..., None] == jnp.arange(per_cell)[None, None]  # [B, S, A]
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    logits = jnp.where(own, logits, 0).sum(-1, dtype=dtype)
    return logits, jnp.where(own[..., None], deltas, 0).sum(-2, dtype=dtype)


def _per_cell(head):
    return head.bbox_pred.kernel.shape[-1] // 4


def place_cells(sizes: Sequence[Sequence[int]], cell: Array) -> tuple[Array, Array]:
    """Find the level, row and column of cells that are counted through all levels.

    Args:
        sizes: Height and width of each level's map.
        cell: int [...].

    Returns:
        Levels, int [...], and rows and columns, int [..., 2].

    Example:
        >>> place_cells([(2, 3), (1, 2)], jnp.array([5, 7]))
        (Array([0, 1], dtype=int32), Array([[1, 2], [0, 1]], dtype=int32))
    """
    counts = np.array([height * width for height, width in sizes])
    ends = to_rank(jnp.asarray(counts.cumsum(), cell.dtype), cell.ndim + 1)
    level = (cell[..., None] >= ends).sum(-1, dtype=jnp.int32)
    first, width = (
        jnp.asarray(values, cell.dtype)[level]
        for values in (counts.cumsum() - counts, [width for _, width in sizes])
    )
    return level, jnp.stack(jnp.divmod(cell - first, width), -1).astype(jnp.int32)


def _own_sizes(head, levels, pass_):
    """Height and width of the part of each level's map that belongs to each image, int [B, L, 2]."""
    images, sizes = len(levels[0]), jnp.asarray([x.shape[1:3] for x in levels], jnp.int32)
    if pass_.extents is None:
        return jnp.broadcast_to(sizes, (images, *sizes.shape))
    own = [
        pass_.extents // stride if whole else feature_extent(pass_.extents, stride)
        for stride, whole in zip(head.strides, head.whole, strict=True)
    ]
    return jnp.minimum(jnp.stack(own, 1), sizes[None])


def _convolution(x, kernel, bias):
    """A 3x3 convolution without padding, and a ReLU: [B, S, k, k, C] -> [B, S, k - 2, k - 2, D]."""
    side = x.shape[2] - 2
    taps = [x[:, :, i : i + side, j : j + side] for i in range(3) for j in range(3)]
    kernel = kernel.reshape(1, 1, -1, kernel.shape[-1])
    return jax.nn.relu(_product(jnp.concatenate(taps, -1), kernel, bias))  # its gradient at 0 is 0


def _product(x, kernel, bias):
    return jnp.einsum("...c,co->...o", x.astype(kernel.dtype), kernel[0, 0]) + to_rank(bias, x.ndim)
