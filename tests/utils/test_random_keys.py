"""Random keys."""

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.utils.random_keys import TracedRngs


def drawn(rngs):
    """Keys as layers draw them; dropout keeps a stream of its own."""
    kept = nnx.Dropout(0.5, rngs=rngs).rngs
    streams = rngs, rngs.params, rngs["dropout"], kept
    keys = [stream() for _ in range(2) for stream in streams]
    return [jax.random.key_data(key) for key in (*keys, rngs.params.split(2).key[...])]


def test_keys_are_those_of_flax_in_a_trace_and_outside():
    expected = drawn(nnx.Rngs(3))
    for found in (drawn(TracedRngs(3)), jax.jit(lambda key: drawn(TracedRngs(key)))(jax.random.key(3))):
        assert len({np.asarray(key).tobytes() for key in found}) == 9
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_a_model_keeps_is_flaxs_own():
    assert type(nnx.Dropout(0.5, rngs=TracedRngs(0)).rngs) is type(nnx.Dropout(0.5, rngs=nnx.Rngs(0)).rngs)
