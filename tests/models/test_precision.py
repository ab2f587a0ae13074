"""bfloat16 activations, and a backbone that is computed again for its gradient."""

import jax
import numpy as np
import optax
import pytest
from detectors import random_model, small_config
from flax import nnx

from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.training.gradients import loss_gradients
from jaxmaskrcnn.training.step import init_state

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]

CONFIG = small_config(
    **{
        "backbone.depth": 18,
        "backbone.norm": "bn",
        "backbone.freeze_at": 0,
        "rpn.pre_nms_train": 40,
        "rpn.post_nms_train": 20,
        "rpn.batch_size": 32,
        "regions.batch_size": 16,
        "regions.positive_fraction": 0.5,
    }
)


def gradients(**changes):
    """Losses, gradients and statistics of the same weights and images."""
    reference = random_model(CONFIG)
    config = CONFIG.replace(changes)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
    model = nnx.merge(graphdef, nnx.state(reference))
    graphdef, _, state = init_state(model, trainable(model), lambda params: optax.identity())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 48 + 16 * i, 3), dtype=np.uint8) for i in range(2)]
    masks = np.zeros((1, 64, 64), bool)
    masks[:, 10:40, 5:45] = True
    target = {"boxes": np.array([[5, 10, 45, 40]], np.float32), "labels": np.array([1])}
    targets = [{**target, "masks": masks[:, :, : image.shape[1]]} for image in images]
    batch = make_batch(model, images, targets)
    compute = jax.jit(lambda params, rest: loss_gradients(graphdef, params, rest, batch, jax.random.key(0)))
    return compute(state["params"], state["rest"])


@pytest.fixture(scope="module")
def plain():
    return gradients()


def flat(tree):
    return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(tree)}


def checkpoints(**changes):
    """How many parts of the backbone are computed again."""
    model = nnx.eval_shape(lambda: MaskRCNN(CONFIG.replace(changes), rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graphdef, state).features(x))(state, images)
    return sum(equation.primitive.name == "remat2" for equation in jaxpr.eqns)


def test_bfloat16_keeps_losses_parameters_and_gradients_in_float32(plain):
    half = gradients(**{"compute.dtype": "bfloat16"})
    leaves = jax.tree.leaves((half.losses, half.grads, half.statistics))
    assert {x.dtype.name for x in leaves} == {"float32"}
    assert all(np.isfinite(x).all() for x in leaves)
    for name in plain.losses:  # few regions are sampled, and rounding chooses others
        assert float(half.losses[name]) == pytest.approx(float(plain.losses[name]), rel=0.25, abs=0.02), name
    name = "loss_objectness"
    assert 0 < abs(float(half.losses[name]) / float(plain.losses[name]) - 1) < 0.02


def test_remat_changes_no_number(plain):
    assert checkpoints(**{"compute.remat": True}) == 4 and checkpoints(**{"compute.remat": False}) == 0
    again = gradients(**{"compute.remat": True})
    for name, loss in plain.losses.items():
        assert float(again.losses[name]) == pytest.approx(float(loss), rel=1e-5)
    for tree in ("grads", "statistics"):
        got, want = flat(getattr(again, tree)), flat(getattr(plain, tree))
        assert got.keys() == want.keys()
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-3, atol=1e-5, err_msg=name)
