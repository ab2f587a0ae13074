"""The masks of the regions' own classes, against those selected out of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmaskrcnn.config.heads import Classes, MaskConfig
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.layers import Conv


@pytest.mark.parametrize("offset", [0, 1])
def test_masks_of_the_own_class(offset):
    classes = Classes(5, "first" if offset else "last")
    head = MaskHead(MaskConfig(convs=1, dim=6), 4, classes, rngs=nnx.Rngs(0))
    head.logits.kernel[...] = jax.random.normal(jax.random.key(1), head.logits.kernel.shape)
    assert head.offset == offset and head.logits.bias is not None
    head.logits.bias[...] = jnp.arange(5.0 + offset)
    regions = jax.random.normal(jax.random.key(0), (7, 6, 6, 4))
    labels = jnp.array([0, 4, 2, 2, 1, 3, 0])
    expected = np.take_along_axis(
        np.asarray(head(regions)), np.asarray(labels + offset)[:, None, None, None], 3
    )[..., 0]
    np.testing.assert_array_equal(head.own_class(regions, labels), expected)


def test_tpus_compute_the_own_class_alone():
    head = MaskHead(MaskConfig(convs=0), 4, Classes(91, "last"), rngs=nnx.Rngs(0))
    traced = jax.jit(head.own_class).trace(jnp.ones((7, 6, 6, 4)), jnp.arange(7))
    programs = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    # Maps of all channels, 6 x 24 cells each: the four cells that come from one lie side by side.
    assert {p for p, text in programs.items() if "tensor<7x6x24x91xf32>" in text} == {"cpu", "cuda"}


class Tenfold(MaskHead):
    def __call__(self, regions, mask=None, train=False):
        return 10 * super().__call__(regions, mask, train)


def test_heads_of_ones_own_are_called():
    own, plain = (
        kind(MaskConfig(convs=0), 4, Classes(5, "last"), rngs=nnx.Rngs(0)) for kind in (Tenfold, MaskHead)
    )
    regions, labels = jax.random.normal(jax.random.key(0), (3, 6, 6, 4)), jnp.array([0, 4, 2])
    np.testing.assert_array_equal(own.own_class(regions, labels), 10 * plain.own_class(regions, labels))


def test_a_last_layer_of_ones_own_is_called():
    head = MaskHead(MaskConfig(convs=0, dim=6), 4, Classes(5, "last"), rngs=nnx.Rngs(0))
    regions, labels = jax.random.normal(jax.random.key(0), (3, 6, 6, 4)), jnp.array([0, 4, 2])
    for layer in (Conv(6, 5, 3, rngs=nnx.Rngs(1)), Conv(6, 5, 1, bias=False, rngs=nnx.Rngs(1))):
        head.logits = layer
        expected = head.of_class(head(regions), labels)
        np.testing.assert_array_equal(head.own_class(regions, labels), expected)
