"""Random keys of whole numbers, in programs that refuse transfers that they do not ask for."""

import jax


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
