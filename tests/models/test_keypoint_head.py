"""The keypoint head within a detector: its layers, losses and gradients, and what padding may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model, small_config
from flax import nnx

from jaxmaskrcnn.config import ConfigError, KeypointConfig, ModelConfig
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.layers import Deconv4x4

HEAD = KeypointConfig(points=("head", "foot"), convs=1, dim=8, pool=small_config().mask.pool)
CONFIG = small_config(mask=None, keypoints=HEAD)


def test_deconvolution_is_the_definition():
    rng = np.random.default_rng(0)
    layer = Deconv4x4(3, 2, rngs=nnx.Rngs(0))
    kernel = rng.normal(size=(4, 4, 3, 2)).astype(np.float32)
    layer.kernel[...], layer.bias[...] = jnp.asarray(kernel), jnp.asarray([0.5, -1.0])
    x = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
    expected = np.zeros((2, 8, 10, 2))
    for row in range(3):
        for column in range(4):
            for a in range(4):
                for b in range(4):
                    # With a border of one pixel that is cut off.
                    expected[:, 2 * row + a, 2 * column + b] += x[:, row, column] @ kernel[a, b]
    expected = expected[:, 1:-1, 1:-1] + [0.5, -1.0]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def step():
    """The losses and the norms of the keypoint head's gradients, as one compiled program."""
    model = random_model(CONFIG)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(batch):
        def total(params):
            losses = nnx.merge(graphdef, params, rest).losses(batch, None)
            return sum(losses.values()), losses

        gradient, losses = jax.grad(total, has_aux=True)(params)
        return losses, jax.tree.map(jnp.linalg.norm, nnx.state(gradient)["keypoint_head"])

    return run


def batch_of(keypoints, boxes=((4.0, 6.0, 40.0, 50.0), (20.0, 10.0, 60.0, 60.0))):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    target = {"boxes": np.array(boxes), "labels": np.zeros(2, int), "keypoints": np.array(keypoints)}
    return make_batch(CONFIG, [image], [target], max_objects=4)


@pytest.mark.slow
def test_losses_gradients_and_slots(step):
    points = [[[10, 10, 2], [30, 40, 1]], [[30, 20, 2], [50, 50, 2]]]
    losses, norms = step(batch_of(points))
    assert set(losses) == {
        "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_keypoint"
    }  # fmt: skip
    assert float(losses["loss_keypoint"]) > 1
    norms = {".".join(map(str, path)): float(v[...]) for path, v in nnx.to_flat_state(norms)}
    assert all(np.isfinite(value) for value in norms.values())
    assert norms["logits.kernel"] > 1e-3 and norms["convs.0.conv.kernel"] > 1e-3
    # The order of the objects has no effect.
    swapped, _ = step(batch_of(points[::-1], ((20.0, 10.0, 60.0, 60.0), (4.0, 6.0, 40.0, 50.0))))
    np.testing.assert_allclose(swapped["loss_keypoint"], losses["loss_keypoint"], rtol=1e-5)
    # Nothing is learned from keypoints that are not annotated.
    none, norms = step(batch_of(np.zeros((2, 2, 3))))
    assert float(none["loss_keypoint"]) == 0
    assert not any(float(v[...]) for _, v in nnx.to_flat_state(norms))


def test_a_trunk_shares_its_regions_with_the_head():
    settings = {
        "backbone.outputs": (4,), "neck": None, "trunk": "res5", "mask": None,
        "rpn.anchors.sizes": ((32.0,),), "box.pool.size": 14, "keypoints": KeypointConfig(),
    }  # fmt: skip
    assert ModelConfig().replace(settings).keypoints is not None
    with pytest.raises(ConfigError, match=r"keypoints\.pool and box\.pool differ"):
        ModelConfig().replace({**settings, "box.pool.size": 7})


def test_settings_that_do_not_fit_are_refused():
    for wrong, match in (
        ({"points": ()}, "at least one name"),
        ({"points": ("a", "a")}, "each name once"),
        ({"points": ("a", "b"), "skeleton": ((0, 2),)}, "there are 2 keypoints"),
        ({"points": ("a", "b"), "flips": ((0, 5),)}, "there are 2 keypoints"),
        ({"points": ("a", "b", "c"), "flips": ((0, 1), (1, 2))}, "has a keypoint twice"),
        ({"points": ("a", "b"), "sigmas": (0.1,)}, "1 numbers for 2 keypoints"),
    ):
        with pytest.raises(ConfigError, match=match):
            KeypointConfig(**wrong)


def test_pairs_of_coco():
    assert KeypointConfig().flip_order == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert KeypointConfig(points=("LeftHand", "RightHand", "left")).flip_order == (1, 0, 2)
