"""Derivatives of any kind through operators whose gradients are written by hand.

RoIAlign, convolutions and max pooling have gradients of their own (`jax.custom_vjp`), which save time and
memory in training and are all that JAX can take of them: `jax.jvp`, `jax.jacfwd` and `jax.hessian` end with
"can't apply forward-mode differentiation (jvp) to a custom_vjp function". Within `every_derivative` they are
computed without.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_PLAIN = contextvars.ContextVar("_PLAIN", default=False)


@contextlib.contextmanager
def every_derivative() -> Iterator[None]:
    """Lets operators be computed so that forward-mode and higher derivatives exist, in more time and memory.

    It counts while a function is traced, so it has to be inside of `jax.jit`, or around the first call.
    RoIAlign then needs a fixed number of samples.

    Returns:
        A context manager, for ``with``.

    Example:
        >>> def pooled(features):
        ...     with every_derivative():
        ...         return jmr.ops.roi_align(features, jnp.array([[0.0, 0, 4, 4]]), 2).sum()
        >>> features = jnp.ones((4, 4, 1))
        >>> jax.jvp(pooled, (features,), (features,))[1]
        Array(4., dtype=float32)
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def wants_every_derivative() -> bool:
    """Whether the code that is traced is inside of `every_derivative`."""
    return _PLAIN.get()


def check_gradient_is_enough(function: str, remedy: str) -> None:
    """Refuses a function that has nothing but its gradient, inside of `every_derivative`.

    Args:
        function: The function, for the message.
        remedy: What to do, likewise.

    Raises:
        ValueError: It is called there.
    """
    if wants_every_derivative():
        raise ValueError(f"{function} has a reverse-mode gradient alone, no forward-mode one; {remedy}.")
