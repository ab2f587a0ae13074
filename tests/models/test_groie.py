"""GRoIE: its attention beside a NumPy oracle, its regions, and what it cannot be combined with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_helpers import check

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import ConfigError, GRoIEConfig, ModelConfig
from jaxmaskrcnn.models.groie import GRoIE
from jaxmaskrcnn.models.pooling import pool_all_levels, pool_regions
from jaxmaskrcnn.ops.position_attention import attend_to_positions, difference_waves

pytestmark = pytest.mark.usefixtures("highest_precision")


def waves_oracle(difference, channels):
    """The waves of one difference, in float64."""
    angles = [difference / 1000 ** (k / (channels // 2)) for k in range(channels // 2)]
    return np.concatenate([np.sin(angles), np.cos(angles)])


def attention_oracle(layers, x):
    """One region's attention, cell by cell in float64."""
    x = x.astype(np.float64)
    heads, size, stride = layers.heads, layers.size, layers.stride
    query, value = (
        (x @ np.asarray(layer.kernel[...], np.float64)[0, 0]).reshape(*x.shape[:2], heads, size)
        for layer in (layers.query, layers.value)
    )
    rows, columns = (np.asarray(layer.kernel[...], np.float64) for layer in (layers.rows, layers.columns))
    places = [(i, j) for i in range(0, x.shape[0], stride) for j in range(0, x.shape[1], stride)]
    result = np.zeros((*x.shape[:2], heads, size))
    for y, c in np.ndindex(*x.shape[:2]):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            logits = []
            for i, j in places:
                row = (waves_oracle(y - i, len(rows)) @ rows)[part]
                column = (waves_oracle(c - j, len(columns)) @ columns)[part]
                # mmcv's query for rows is that of the cell with rows and columns exchanged.
                logits.append((query[c, y, head] @ row + query[y, c, head] @ column) / 2**0.5)
            weights = np.exp(np.array(logits) - max(logits))
            weights /= weights.sum()
            result[y, c, head] = sum(w * value[place][head] for w, place in zip(weights, places, strict=True))
    flat = result.reshape(*x.shape[:2], -1)
    return flat @ np.asarray(layers.project.kernel[...], np.float64)[0, 0] + layers.project.bias[...]


@pytest.mark.parametrize("side", [7, 6])
def test_attention(side):
    layers = GRoIE(GRoIEConfig(heads=3), 8, rngs=nnx.Rngs(0))  # of 8 channels 6 have a part
    layers.project.bias[...] = np.linspace(-1, 1, 8)
    x = np.random.default_rng(0).normal(size=(2, side, side, 8)).astype(np.float32)
    ours = np.asarray(jax.jit(lambda layers, x: layers.attention(x))(layers, x))
    for region, result in zip(x, ours, strict=True):
        check("attention", np.abs(result - attention_oracle(layers, region)), 1e-5)


def test_waves():
    waves = difference_waves(5, 2, 6)
    assert waves.shape == (5, 3, 6)
    for i, j in np.ndindex(5, 3):
        check("waves", np.abs(waves[i, j] - waves_oracle(i - 2 * j, 6)), 1e-6)


def test_no_attention_at_first():
    """The factor of the attention begins with 0, and learns at once."""
    layers = GRoIE(GRoIEConfig(kernel=3, heads=2), 4, rngs=nnx.Rngs(0))
    pooled = [
        jnp.asarray(np.random.default_rng(i).normal(size=(2, 5, 5, 4)).astype(np.float32)) for i in (0, 1)
    ]
    factors = np.random.default_rng(2).normal(size=(2, 5, 5, 4)).astype(np.float32)

    def run(layers, pooled):
        plain = sum(layers.convolve(x, relu=True) for x in pooled)
        gradient = nnx.grad(lambda layers: (layers(pooled) * factors).sum())(layers)
        return layers(pooled), plain, gradient.gamma[...], (layers.attention(plain) * factors).sum()

    result, plain, gradient, expected = jax.jit(run)(layers, pooled)
    np.testing.assert_array_equal(result, plain)
    check("gradient of gamma", np.abs(gradient[0] / expected - 1), 1e-5)


def test_gradient_of_the_attention():
    """Beside finite differences, in one direction."""
    rng = np.random.default_rng(0)
    shapes = ((1, 4, 4, 2, 2), (1, 2, 2, 2, 2), (4, 2, 2, 2), (4, 2, 2, 2))
    inputs, direction = (
        [jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in shapes] for _ in range(2)
    )
    factors = rng.normal(size=shapes[0]).astype(np.float32)
    total = jax.jit(lambda *inputs: (attend_to_positions(*inputs) * factors).sum())
    gradient = jax.jit(jax.grad(total, range(4)))(*inputs)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    ahead, behind = (
        total(*(x + step * d for x, d in zip(inputs, direction, strict=True))) for step in (1e-2, -1e-2)
    )
    check("gradient", np.abs(slope / ((ahead - behind) / 2e-2) - 1), 1e-2)


def test_every_level_is_pooled():
    """Of each box, whatever its size is, what RoIAlign finds on every level."""
    config = jmr.model_config("mmdet/mask-rcnn_r50_fpn_groie_1x_coco", **{"neck.channels": 8}).replace(
        {"input.test_min_size": 64, "input.test_max_size": 96}
    )
    batch = jmr.make_batch(config, [np.zeros((64, 96, 3), np.uint8)])
    rng, strides = np.random.default_rng(0), (4, 8, 16, 32)
    levels = [jnp.asarray(rng.normal(size=(1, 64 // s, 96 // s, 3)).astype(np.float32)) for s in strides]
    boxes = jnp.array([[[3.0, 5, 20, 30], [0, 0, 90, 60], [50, 10, 50, 10]]])
    pool = config.box.pool
    all_levels = jax.jit(lambda boxes: pool_all_levels(batch, levels, strides, boxes, pool))(boxes)
    assert [x.shape for x in all_levels] == [(3, 7, 7, 3)] * 4
    for stride, level, ours in zip(strides, levels, all_levels, strict=True):
        alone = jax.jit(
            lambda boxes, level=level, stride=stride: pool_regions(batch, [level], (stride,), boxes, pool)
        )
        check("regions", np.abs(ours - alone(boxes)), 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neck": None, "backbone.outputs": (5,), "rpn.anchors.sizes": ((32,),)}, "pooled from one level"),
        ({"mask": "point_rend"}, "not supported with the mask head 'point_rend'"),
        ({"box.pool.method": "corners"}, "not supported with a pool.method that is 'corners'"),
        ({"neck.channels": 6}, "but the levels have 6 channels; give a multiple of 4"),
        ({"extractor.heads": 300}, "with 300 heads, but the levels have 256 channels"),
    ],
    ids=["one level", "points", "corners", "channels", "heads"],
)
def test_impossible_combinations(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(extractor=GRoIEConfig()).replace(changes)
