"""Deformable convolution: each tap of the kernel reads the map at its own place, between the cells.

A tap is a place of the kernel. For every output cell it has an offset (dy, dx) that is added to the place
that it would have in an ordinary convolution, and in version 2 a factor as well (called a mask). The value
there is bilinear, and everything outside of the map is zero: between the last cell and one cell further,
values fade out, and further away they are zero. (RoIAlign has another rule, which repeats the border.)

Pieces of the output are computed one after the other, each tap by tap, forward and for the gradient. So what
is in memory on the way is smaller than the map, where the usual arrangement of all taps side by side takes
nine times as much for a 3x3 kernel.

Source: Dai et al., 2017 (version 1) and Zhu et al., 2019 (version 2); the order of channels and the rule at
the border are those of ``torchvision.ops.deform_conv2d``, which Detectron2 and MMDetection share.

Shapes: N maps, h and w their sides, oh and ow those of the output, C and D channels in and out, T taps of the
kernel in rows, G groups of offsets, P cells of a piece of the output.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.derivatives import check_gradient_is_enough
from jaxmaskrcnn.ops.xla_memory import empty_depending_on, zero_depending_on

Array = jax.Array


def deform_conv2d(
    x: Array,
    kernel: Array,
    offsets: Array,
    mask: Array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """Convolve maps at places that are moved by offsets, like torchvision (Dai et al., 2017).

    Images of different sizes may share a canvas: if ``x`` is zero outside of each image's own extent, the
    results inside are those of the image alone, because the map's outside counts as zero too.

    Args:
        x: [N, h, w, C].
        kernel: [kh, kw, C / groups, D].
        offsets: [N, oh, ow, 2 G T] in cells: for each group and tap dy and then dx. Group number g moves the
            input channels from g C / G to (g + 1) C / G.
        mask: [N, oh, ow, G T], factors of the taps in the same order, of version 2; None for version 1.
        stride: Stride of rows and columns.
        padding: Cells on every side at which the kernel starts outside of the map.
        dilation: Cells from tap to tap.
        groups: Channels are convolved in this many groups, whatever those of the offsets are.

    Returns:
        [N, oh, ow, D] in the dtype of ``x``; sums are float32 at least. ``oh`` is
        ``(h + 2 padding - dilation (kh - 1) - 1) // stride + 1``.

    Raises:
        ValueError: The shapes do not fit together.

    Example:
        >>> x = jnp.arange(12.0).reshape(1, 3, 4, 1)
        >>> offsets = jnp.full((1, 3, 4, 2), 0.5)  # half a cell down and half a cell to the right
        >>> deform_conv2d(x, jnp.ones((1, 1, 1, 1)), offsets)[0, :, :, 0]
        Array([[2.5 , 3.5 , 4.5 , 2.5 ],
               [6.5 , 7.5 , 8.5 , 4.5 ],
               [4.25, 4.75, 5.25, 2.75]], dtype=float32)
    """
    x, kernel, offsets = jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(offsets)
    mask = None if mask is None else jnp.asarray(mask)
    _check(x, kernel, offsets, mask, stride, padding, dilation, groups)
    check_gradient_is_enough("deform_conv2d", "take a backbone without deformable convolutions")
    return _deform(x, kernel, offsets, mask, stride, padding, dilation, groups)


def output_side(side: int, size: int, stride: int, padding: int, dilation: int) -> int:
    """Return the rows (or columns) of a convolution's result.

    Example:
        >>> output_side(100, size=3, stride=2, padding=1, dilation=1)
        50
    """
    return (side + 2 * padding - dilation * (size - 1) - 1) // stride + 1


def _check(x, kernel, offsets, mask, stride, padding, dilation, groups) -> None:
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"deform_conv2d: x has the shape {list(x.shape)} and kernel {list(kernel.shape)}; give "
            "[N, h, w, C] and [kh, kw, C / groups, D]."
        )
    channels, taps = x.shape[3], kernel.shape[0] * kernel.shape[1]
    if kernel.shape[2] * groups != channels or kernel.shape[3] % groups:
        raise ValueError(
            f"deform_conv2d: a kernel {list(kernel.shape)} in {groups} groups does not fit {channels} "
            "channels; give [kh, kw, C / groups, D] with a multiple of the groups as D."
        )
    sides = [output_side(x.shape[i + 1], kernel.shape[i], stride, padding, dilation) for i in range(2)]
    count = offsets.shape[-1] // (2 * taps) if offsets.ndim else 0
    if not count or offsets.shape != (x.shape[0], *sides, 2 * taps * count) or channels % count:
        raise ValueError(
            f"deform_conv2d: offsets have the shape {list(offsets.shape)}; give {[x.shape[0], *sides]} and "
            f"{2 * taps} for each group of offsets, whose number divides {channels} channels."
        )
    if mask is not None and mask.shape != (x.shape[0], *sides, taps * count):
        raise ValueError(
            f"deform_conv2d: mask has the shape {list(mask.shape)}; give "
            f"{[x.shape[0], *sides, taps * count]}, one factor for each tap that has an offset."
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _deform(x, kernel, offsets, mask, stride, padding, dilation, groups) -> Array:
    piece, pieces = _pieces(offsets)
    flat, kernels, wide = _flat(x, kernel, offsets, groups)
    places = _places(x, kernel, offsets, stride, padding, dilation)

    def compute(number, result):
        start, move, factor = _cut(number, piece, kernel, offsets, mask)

        def add(tap, total):
            index, weights = places(start, tap, move[tap], None if factor is None else factor[tap])
            read = [w[..., None] * _read(flat, i, wide) for i, w in zip(index, weights, strict=True)]
            values = (read[0] + read[1] + read[2] + read[3]).astype(x.dtype).reshape(piece, groups, -1)
            return total + _product("mgc,cgd->mgd", values, kernels[tap], wide)

        total = jnp.zeros((piece, *kernels.shape[2:]), wide)
        total = jax.lax.fori_loop(0, len(kernels), add, total).reshape(piece, -1).astype(x.dtype)
        return jax.lax.dynamic_update_slice_in_dim(result, total, start, 0)

    result = empty_depending_on((offsets.size // offsets.shape[3], kernel.shape[3]), x)
    return jax.lax.fori_loop(0, pieces, compute, result).reshape(*offsets.shape[:3], -1)


def _forward(x, kernel, offsets, mask, *settings):
    return _deform(x, kernel, offsets, mask, *settings), (x, kernel, offsets, mask)


def _backward(stride, padding, dilation, groups, saved, cotangent):
    x, kernel, offsets, mask = saved
    piece, pieces = _pieces(offsets)
    flat, kernels, wide = _flat(x, kernel, offsets, groups)
    places = _places(x, kernel, offsets, stride, padding, dilation)

    def compute(number, gradients):
        start, move, factor = _cut(number, piece, kernel, offsets, mask)
        # The last piece begins in the one before if it would not be full; those cells count once.
        new = (jnp.arange(piece) + start >= number * piece)[:, None]
        slope = _slice(cotangent, start, piece).reshape(piece, groups, -1)

        def add(gradients, tap):
            weights, to_places, index = jax.vjp(
                lambda *own: places(start, tap, *own)[::-1],
                move[tap],
                None if factor is None else factor[tap],
                has_aux=True,
            )
            of_values = _product("mgd,cgd->mgc", slope, kernels[tap], wide)
            of_values = of_values.reshape(*index.shape[1:], -1)  # [P, G, C / G]

            def corner(i, carry):
                of_x, values, of_weights = carry
                weight = jnp.where(new, weights[i], 0)[..., None]
                read = _read(flat, index[i], wide)
                of_x = of_x.at[index[i]].add(weight * of_values, mode="promise_in_bounds")
                of_weights = of_weights.at[i].set((read * of_values).sum(-1))
                return of_x, values + weight * read, of_weights

            of_x, of_kernels = gradients
            carry = of_x, jnp.zeros_like(of_values), jnp.zeros_like(weights)
            of_x, values, of_weights = jax.lax.fori_loop(0, 4, corner, carry)
            values = values.astype(x.dtype).reshape(piece, groups, -1)
            of_kernels = of_kernels.at[tap].add(_product("mgc,mgd->cgd", values, slope, wide))
            return (of_x, of_kernels), to_places(of_weights)

        of_x, of_kernels, *others = gradients
        (of_x, of_kernels), of_places = jax.lax.scan(add, (of_x, of_kernels), jnp.arange(len(kernels)))
        for i, of_place in enumerate(of_places[: len(others)]):  # [T, P, G, 2] and [T, P, G]
            of_place = jnp.moveaxis(of_place, 0, 2).reshape(piece, -1).astype(others[i].dtype)
            others[i] = jax.lax.dynamic_update_slice_in_dim(others[i], of_place, start, 0)
        return of_x, of_kernels, *others

    zero = zero_depending_on(cotangent).astype(wide)
    places_of = [a for a in (offsets, mask) if a is not None]
    gradients = (
        jnp.full(flat.shape, zero),
        jnp.full(kernels.shape, zero),
        *(jnp.full((a.size // a.shape[3], a.shape[3]), zero, a.dtype) for a in places_of),
    )
    gradients = jax.lax.fori_loop(0, pieces, compute, gradients)
    arrays = (x, kernel, *places_of)
    found = [g.reshape(a.shape).astype(a.dtype) for g, a in zip(gradients, arrays, strict=True)]
    return *found, *([None] if mask is None else [])


_deform.defvjp(_forward, _backward)


def _pieces(offsets: Array) -> tuple[int, int]:
    """Return how many cells of the output are computed at a time, and how many times.

    A quarter of them, so that what is computed on the way is small beside the map itself. More than 8192
    would not keep any processor busier, and with fewer than 1024 the loop itself costs time.
    """
    cells = offsets.size // offsets.shape[3]
    piece = min(cells, max(1024, min(8192, -(-cells // 4))))
    return piece, -(-cells // piece)


def _slice(array: Array, start, piece: int) -> Array:
    """Return the rows of a piece, of an array that is flattened to [cells, channels]."""
    return jax.lax.dynamic_slice_in_dim(array.reshape(-1, array.shape[3]), start, piece)


def _cut(number, piece: int, kernel, offsets, mask) -> tuple[Array, Array, Array | None]:
    """Return a piece's first cell, and by tap its offsets [T, P, G, 2] and factors [T, P, G]."""
    taps = kernel.shape[0] * kernel.shape[1]
    start = jnp.minimum(number * piece, offsets.size // offsets.shape[3] - piece)
    move = _slice(offsets, start, piece).reshape(piece, -1, taps, 2)
    factor = None if mask is None else _slice(mask, start, piece).reshape(piece, -1, taps)
    return start, jnp.moveaxis(move, 2, 0), factor if factor is None else jnp.moveaxis(factor, 2, 0)


def _flat(x, kernel, offsets, groups: int) -> tuple[Array, Array, jnp.dtype]:
    """Return all cells in one list, a row for each group of offsets; kernels by tap; and the sums' dtype."""
    taps = kernel.shape[0] * kernel.shape[1]
    offset_groups = offsets.shape[3] // (2 * taps)
    kernels = kernel.reshape(taps, kernel.shape[2], groups, -1)  # [T, C / groups, groups, D / groups]
    return x.reshape(-1, x.shape[3] // offset_groups), kernels, jnp.promote_types(x.dtype, jnp.float32)


def _places(x, kernel, offsets, stride: int, padding: int, dilation: int) -> Callable:
    """Return a function that finds the four cells around each place that a tap reads, and their weights.

    Its arguments are a piece's first cell, the tap's number, its offsets [P, G, 2] and its factors [P, G]. It
    returns rows of the list of cells and weights, both [4, P, G].
    """
    _, h, w, _ = x.shape
    _, oh, ow, _ = offsets.shape

    def places(start, tap, move, factor):
        row, column = jnp.divmod(tap, kernel.shape[1])
        cell = start + jnp.arange(len(move))[:, None]
        from_y = cell // ow % oh * stride - padding + row * dilation
        from_x = cell % ow * stride - padding + column * dilation
        y = move[..., 0].astype(jnp.float32) + from_y.astype(jnp.float32)
        x = move[..., 1].astype(jnp.float32) + from_x.astype(jnp.float32)
        top, left = jnp.floor(y), jnp.floor(x)
        index, weights = [], []
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (y - top if down else 1 - (y - top)) * (x - left if right else 1 - (x - left))
            inside = (top + down >= 0) & (top + down < h) & (left + right >= 0) & (left + right < w)
            # Outside, where the weight is 0, any cell can be read; far away no integer is large enough.
            i, j = (jnp.where(inside, at, 0).astype(jnp.int32) for at in (top + down, left + right))
            groups = jnp.arange(move.shape[1])[None]
            index.append(((cell // (oh * ow) * h + i) * w + j) * move.shape[1] + groups)
            weight = jnp.where(inside, weight, 0)
            weights.append(weight if factor is None else weight * factor.astype(jnp.float32))
        return jnp.stack(index), jnp.stack(weights)

    return places


def _read(flat: Array, index: Array, dtype) -> Array:
    return flat.at[index].get(mode="promise_in_bounds").astype(dtype)


def _product(axes: str, a: Array, b: Array, dtype) -> Array:
    """An einsum over groups of channels, the axes "g"; with one group plain matrices, which are faster."""
    first, second, result = axes.replace("->", ",").split(",")
    if a.shape[first.index("g")] > 1:
        return jnp.einsum(axes, a, b, preferred_element_type=dtype)
    a, b = a.squeeze(first.index("g")), b.squeeze(second.index("g"))
    product = jnp.einsum(axes.replace("g", ""), a, b, preferred_element_type=dtype)
    return jnp.expand_dims(product, result.index("g"))
