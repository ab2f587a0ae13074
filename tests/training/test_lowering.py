"""The train step and the prediction can be lowered for TPU and CUDA, neither of which is at hand.

Lowering finds operations without a rule for a platform, and dtypes that it does not take. Whether
the compilers of the platforms accept the result shows only there.
"""

import jax
import numpy as np
import optax
import pytest
from detectors import random_model, small_config
from flax import nnx
from jax import export

from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.step import init_state

PLATFORMS = ("tpu", "cuda")


def example(dtype):
    # Both ways to sample a region, batch norm, and more than one image.
    config = small_config(
        **{
            "compute.dtype": dtype,
            "backbone.depth": 18,
            "backbone.norm": "bn",
            "box.pool.sampling_ratio": 0 if dtype == "bfloat16" else 2,
            "mask.pool.sampling_ratio": 0 if dtype == "bfloat16" else 2,
        }
    )
    model = random_model(config)
    target = {
        "boxes": np.array([[8, 8, 40, 40]], np.float32), "labels": np.array([1]),
        "masks": np.ones((1, 64, 64), bool),
    }  # fmt: skip
    batch = make_batch(model, [np.zeros((64, 64, 3), np.uint8)] * 2, [target] * 2)
    return model, batch


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "dtype"), [pytest.param("jit", "float32", marks=pytest.mark.slow), ("shard_map", "bfloat16")]
)
def test_the_train_step_lowers(mode, dtype):
    model, batch = example(dtype)
    graphdef, optimizer, state = init_state(model, trainable(model), lambda params: optax.sgd(0.1, 0.9))
    layout = Layout(mode, jax.devices()[:1])
    step = make_train_step(graphdef, optimizer, lambda step: 0.1, layout, batch_size=2)
    exported = export.export(step, platforms=PLATFORMS)(
        shapes(state), shapes(batch), shapes(jax.random.key(0))
    )
    assert exported.platforms == PLATFORMS and len(exported.mlir_module_serialized) > 100_000


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_the_prediction_lowers(dtype):
    model, batch = example(dtype)
    graphdef, state = nnx.split(model)
    detect = jax.jit(lambda state, batch: nnx.merge(graphdef, state).detect(batch))
    exported = export.export(detect, platforms=PLATFORMS)(shapes(state), shapes(batch._replace(targets=None)))
    assert exported.platforms == PLATFORMS
    boxes, scores, labels, masks, valid = exported.out_avals
    assert {x.dtype.name for x in (boxes, scores, masks)} == {"float32"} and boxes.shape[0] == 2


def test_an_operation_of_one_platform_alone_is_found():
    """Shows that the tests above can fail."""
    square = jax.jit(lambda x: jax.lax.platform_dependent(x, cuda=lambda x: x * x))
    with pytest.raises(Exception, match="tpu"):
        export.export(square, platforms=PLATFORMS)(jax.ShapeDtypeStruct((2,), np.float32))
