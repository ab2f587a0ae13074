"""The product of flattened maps with a matrix, as a fully connected layer after RoIAlign has it.

Pooled regions are four-dimensional, and a TPU keeps them cell by cell. Flattened they lie in another order:
XLA:TPU copies them first, which it expects to take longer than the product (docs/benchmarks.md). There the
product is a sum over rows, columns and channels instead.

Shapes: R maps, S their side, C channels, O columns of the matrix.
"""

import jax
import jax.numpy as jnp

from jaxmaskrcnn.ops.derivatives import wants_every_derivative

Array = jax.Array


def product_of_maps(x: Array, kernel: Array) -> Array:
    """Multiply maps, flattened in the order (y, x, channel), with a matrix.

    Forward-mode and second derivatives need `ops.every_derivative`.

    Args:
        x: [R, S, S, C].
        kernel: [S * S * C, O], of the same dtype.

    Returns:
        [R, O].

    Example:
        >>> product_of_maps(jnp.ones((5, 7, 7, 8)), jnp.ones((392, 3))).shape
        (5, 3)
    """
    return flattened(x, kernel) if wants_every_derivative() else _product(x, kernel)


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    return jax.lax.platform_dependent(x, kernel, tpu=summed, default=flattened)


def summed(x: Array, kernel: Array) -> Array:
    """The product as TPUs compute it; arguments and result as of `product_of_maps`."""
    return jnp.einsum("ryxc,yxco->ro", x, kernel.reshape(*x.shape[1:], -1))


def flattened(x: Array, kernel: Array) -> Array:
    """The product of a matrix with a row for each map; arguments and result as of `product_of_maps`."""
    return jax.lax.dot_general(x.reshape(x.shape[0], -1), kernel, (((1,), (0,)), ((), ())))


def _forward(x, kernel):
    return _product(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
    # Branches that autodiff splits would keep what both platforms need.
    def of(way):
        return lambda x, kernel, cotangent: jax.vjp(way, x, kernel)[1](cotangent)

    return jax.lax.platform_dependent(*residuals, cotangent, tpu=of(summed), default=of(flattened))


_product.defvjp(_forward, _backward)
