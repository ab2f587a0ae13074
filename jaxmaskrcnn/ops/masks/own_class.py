"""The last layer of a mask head, of which each region needs one channel alone: that of its own class.

Most platforms compute the masks of all classes and select one. XLA:TPU expects that to take several times as
many cycles as a product with one channel's weights, another one for each region (docs/benchmarks.md).

Shapes: R regions, S the side of their maps, C channels in, K channels out.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.convolution import convolution
from jaxmaskrcnn.ops.derivatives import wants_every_derivative
from jaxmaskrcnn.ops.shapes import to_rank

Array = jax.Array


def own_class_maps(cells: Array, kernel: Array, bias: Array, channel: Array) -> Array:
    """One channel of a 1x1 convolution, another one for each region.

    Forward-mode and second derivatives need `ops.every_derivative`.

    Args:
        cells: [R, S, S, 4, C], the four cells of a mask that come from one of a region's side by side.
        kernel: [C, K], of the same dtype.
        bias: [K], likewise.
        channel: int [R], 0 to K - 1; what another number gives depends on the platform.

    Returns:
        [R, S, S, 4], at least float32.

    Example:
        >>> cells, kernel = jnp.ones((2, 3, 3, 4, 5)), jnp.ones((5, 7))
        >>> own_class_maps(cells, kernel, jnp.arange(7.0), jnp.array([0, 6]))[:, 0, 0, 0]
        Array([ 5., 11.], dtype=float32)
    """
    arrays = cells, kernel, bias, channel
    return selected(*arrays) if wants_every_derivative() else _own_class_maps(*arrays)


@jax.custom_vjp
def _own_class_maps(cells: Array, kernel: Array, bias: Array, channel: Array) -> Array:
    return jax.lax.platform_dependent(cells, kernel, bias, channel, tpu=multiplied, default=selected)


def selected(cells: Array, kernel: Array, bias: Array, channel: Array) -> Array:
    """The plain definition: all channels, and one selected; arguments and result as of `own_class_maps`."""
    rows = cells.reshape(*cells.shape[:2], -1, cells.shape[-1])
    logits = convolution(rows, kernel[None, None], bias)
    return select_channel(logits, channel).reshape(cells.shape[:-1])


def select_channel(maps: Array, channel: Array) -> Array:
    """Select one channel of each region's maps.

    Args:
        maps: [R, h, w, K].
        channel: int [R]; another number than 0 to K - 1 gives zeros.

    Returns:
        float [R, h, w], at least float32.
    """
    # The gradient of a sum is one pass; the gradient of a gather would be a scatter into zeros.
    own = to_rank(jnp.arange(maps.shape[-1]), 4) == channel[:, None, None, None]
    found = jnp.where(own, maps, 0).sum(-1)
    return found.astype(jnp.promote_types(found.dtype, jnp.float32))


def multiplied(cells: Array, kernel: Array, bias: Array, channel: Array) -> Array:
    """The channels as TPUs compute them; arguments and result as of `own_class_maps`.

    The matrix of a region has its channel's weights four times, so that the four cells that come from one of
    the region's stay side by side in memory.
    """
    r, count, features = cells.shape[0], *cells.shape[3:]
    dtype = jnp.promote_types(cells.dtype, jnp.float32)
    # Looked up in float32, so that the gradients of the regions of a class are added in float32.
    own = kernel.astype(dtype).T[channel].astype(kernel.dtype)  # [R, C]
    matrix = jnp.eye(count, dtype=own.dtype)[None, :, None] * own[:, None, :, None]  # [R, 4, C, 4]
    maps = jnp.einsum(
        "rpc,rcn->rpn",
        cells.reshape(r, -1, count * features),
        matrix.reshape(r, count * features, count),
        preferred_element_type=dtype,
    )
    maps = maps + bias.astype(dtype)[channel][:, None, None]
    return maps.reshape(cells.shape[:-1])


def _forward(cells, kernel, bias, channel):
    return _own_class_maps(cells, kernel, bias, channel), (cells, kernel, bias, channel)


def _backward(residuals, cotangent):
    # Branches that autodiff splits would keep what both platforms need.
    found = jax.lax.platform_dependent(
        *residuals, cotangent, tpu=gradients_of_multiplied, default=gradients_of_selected
    )
    return (*found, None)


def gradients_of_selected(
    cells: Array, kernel: Array, bias: Array, channel: Array, cotangent: Array
) -> tuple[Array, Array, Array]:
    """Gradients of `selected` with respect to cells, kernel and bias; ``cotangent`` is [R, S, S, 4]."""
    way = lambda cells, kernel, bias: selected(cells, kernel, bias, channel)  # noqa: E731
    return jax.vjp(way, cells, kernel, bias)[1](cotangent)


def gradients_of_multiplied(
    cells: Array, kernel: Array, bias: Array, channel: Array, cotangent: Array
) -> tuple[Array, Array, Array]:
    """The same gradients as TPUs compute them."""
    way = lambda kernel, bias: multiplied(cells, kernel, bias, channel)  # noqa: E731
    of_weights = jax.vjp(way, kernel, bias)[1](cotangent)
    # A cell's gradient is one number times its channel's weights. XLA:TPU expects fewer cycles if a product
    # with ones repeats the number than of a broadcast, or of products region by region, whose result it
    # copies into another order (libtpu 0.0.42; docs/benchmarks.md).
    count, features = cells.shape[3:]
    own = jnp.tile(kernel.T[channel], count)[:, None, None]
    ones = jnp.repeat(jnp.eye(count, dtype=cells.dtype), features, axis=1)  # [4, 4 C]
    numbers = jnp.einsum("rhwn,nc->rhwc", cotangent.astype(cells.dtype), ones, precision="highest")
    of_cells = numbers * own
    return of_cells.reshape(cells.shape), *of_weights


_own_class_maps.defvjp(_forward, _backward)
