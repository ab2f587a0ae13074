"""Random keys: of whole numbers where transfers are refused, and of new models in less time."""

import jax
from flax import nnx


def random_key(seed: int) -> jax.Array:
    """Makes a key of a seed, also under ``jax_transfer_guard=disallow``, which refuses `jax.random.key`.

    Args:
        seed: The seed.

    Example:
        >>> with jax.transfer_guard("disallow"):
        ...     random_key(3).shape
        ()
    """
    with jax.transfer_guard_host_to_device("allow"):
        return jax.random.key(seed)


class TracedRngs(nnx.Rngs):
    """The keys of ``nnx.Rngs(key)``, in less time if they are drawn in a trace.

    In a trace flax 0.12 asks the count of its keys for a sharding, which a tracer does not have, at each key,
    and the text of that error looks through the whole trace so far: 0.35 of the 0.55 s of the shapes of an
    R50-FPN, and 0.85 of the 1.1 s of a Swin-T. Here the count is a number of Python.

    Args:
        key: A key or a seed.

    Example:
        >>> ours, theirs = TracedRngs(7), nnx.Rngs(7)
        >>> all(ours.params() == theirs.params() for _ in range(3))
        True
    """

    default: nnx.RngStream

    def __init__(self, key: jax.Array | int):
        super().__init__(key)
        self.default = _NumberedStream(key, tag="default")


class _NumberedStream(nnx.RngStream):
    def __init__(self, key: jax.Array | int, *, tag: str):
        super().__init__(key, tag=tag)
        self.number = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.number)
        self.number += 1
        return key

    def fork(self, *, split: int | tuple[int, ...] | None = None) -> nnx.RngStream:
        """A stream of flax's own, because a model keeps it."""
        key = self()
        return nnx.RngStream(key if split is None else jax.random.split(key, split), tag=self.tag)
