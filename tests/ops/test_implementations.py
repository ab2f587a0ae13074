"""``implementation=`` of the operators: a name stands for its own way to compute."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxmaskrcnn import ops
from jaxmaskrcnn.ops.convolution import convolution

FEATURES, BOXES = jnp.ones((16, 16, 32)), jnp.array([[1.0, 2, 9, 8]])
MASK = jnp.ones((1, 16, 2), jnp.uint8)
WAYS = {
    "roi_align": (
        lambda f, b, **name: ops.roi_align(f, b, 2, **name),
        (FEATURES, BOXES),
        ("gather", "gather_at_once", "tiles_cpu", "tiles_batched", "tiles_tpu"),
    ),
    "mask.targets": (
        lambda m, b, **name: ops.mask_targets(m, 16, jnp.zeros(1, int), b, 4, rule="soft", **name),
        (MASK, BOXES),
        ("tiles_cpu", "tiles_batched", "whole"),
    ),
    "nms": (
        lambda b, **name: ops.nms(b, b[:, 0], 0.5, **name),
        (jnp.ones((600, 4)),),
        ("tile_by_tile", "at_once"),
    ),
    "3x3": (
        lambda f, **name: convolution(f[None], jnp.ones((3, 3, 32, 32)), **name),
        (jnp.ones((32, 32, 32)),),
        ("winograd", "xla"),
    ),
    "gradient of 3x3": (
        lambda f, **name: jax.grad(lambda f: convolution(f[None], jnp.ones((3, 3, 32, 32)), **name).sum())(f),
        (jnp.ones((32, 32, 32)),),
        ("winograd", "xla"),
    ),
    "1x1": (
        lambda f, **name: convolution(f[None], jnp.ones((1, 1, 32, 32)), **name),
        (FEATURES,),
        ("product", "xla"),
    ),
    "gradient with stride 2": (
        lambda f, **name: jax.grad(
            lambda f: convolution(f[None], jnp.ones((3, 3, 32, 32)), stride=2, **name).sum()
        )(f),
        (FEATURES,),
        ("stride2", "xla"),
    ),
    "stem": (
        lambda f, **name: convolution(f[None], jnp.ones((7, 7, 3, 8)), stride=2, **name),
        (jnp.ones((16, 16, 3)),),
        ("stem", "xla"),
    ),
}


@pytest.mark.parametrize("operator", WAYS)
def test_every_name_is_a_program_of_its_own(operator):
    function, arguments, names = WAYS[operator]

    def program(platform, **name):
        lowered = jax.jit(partial(function, **name)).trace(*arguments).lower(lowering_platforms=(platform,))
        return lowered.as_text()

    for platform in ("cpu", "cuda", "tpu"):
        named = {program(platform, implementation=name) for name in names}
        assert len(named) == len(names)
    # Without a name a program depends on the platform.
    assert program("cpu") != program("cuda")


def test_the_stem_of_a_tpu_is_not_folded():
    function, arguments, _ = WAYS["stem"]
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    assert "tensor<7x7x3x8xf32>" in lowered and "tensor<4x4x12x8xf32>" not in lowered
