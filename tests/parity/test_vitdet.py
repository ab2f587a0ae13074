"""ViTDet's plain vision transformers and their pyramid beside Detectron2's.

What it computed is in `goldens/detectron2_vit.npz` (see `record_detectron2_vitdet.py`). ``pytest -s`` prints
the largest errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_helpers import Recorded
from detectors import random_model
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_detectron2_transformer_weight, seeded_images

from jaxmaskrcnn.config import ConfigError, ModelConfig, SimplePyramidConfig, ViTConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.backbones.vit import ViT
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.ops.attention import attend, attend_in_pieces
from jaxmaskrcnn.ops.positions import relative_table, resized_positions
from jaxmaskrcnn.zoo.lookup import list_models, model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

PRESET = "detectron2/ViTDet/mask_rcnn_vitdet_b_100ep"
SMALL = {
    "backbone.width": 16,
    "backbone.depth": 4,
    "backbone.heads": 2,
    "backbone.window": 3,
    "backbone.global_blocks": (1, 3),
    "backbone.positions": 6,
    "backbone.grid": 5,
    "backbone.drop_path": 0.0,
    "neck.channels": 16,
    "rpn.anchors.sizes": ((10.0,), (20.0,), (40.0,), (80.0,), (160.0,)),
    "rpn.pre_nms_train": 70,
    "rpn.post_nms_train": 80,
    "rpn.pre_nms_test": 40,
    "rpn.post_nms_test": 30,
    "rpn.batch_size": 64,
    "regions.batch_size": 100,
    "regions.positive_fraction": 0.5,
    "box.convs": 1,
    "box.conv_dim": 16,
    "box.fc_dim": 32,
    "mask.convs": 1,
    "mask.dim": 16,
    "detections.per_image": 12,
    "input.test_min_size": 94,
    "input.test_max_size": 126,
    "input.pad_divisor": 128,
}
CASE = Recorded(
    "detectron2",
    "vit",
    model_config(PRESET, num_classes=3, **SMALL),
    seeded_detectron2_transformer_weight,
    "vit",
)


@pytest.mark.slow
def test_features():
    """On a larger canvas too."""
    CASE.check_maps(wider=(64, 32))


@pytest.mark.slow
@pytest.mark.parametrize("wider", [(0, 0), (64, 32)], ids=["alone", "on a larger canvas"])
def test_detections(wider):
    CASE.check_detections(wider)


@pytest.mark.slow
def test_losses_and_gradients():
    CASE.check_training()


def test_names_go_both_ways():
    CASE.check_names()


@functools.cache
def odd_image():
    """An image whose map no window divides, and what Detectron2's backbone makes of it."""
    with np.load(GOLDENS / "detectron2_vit.npz") as arrays:
        height, width = arrays["odd/size"]
        return seeded_images(height, width), arrays["odd/last_feat/values"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "canvas",
    [pytest.param((0, 0), marks=pytest.mark.slow), (32, 48)],
    ids=["alone", "on a larger canvas"],
)
def test_odd_sizes(canvas):
    """Tables are resized to the image's own map, in both blocks, and windows are filled with zeros."""
    image, theirs = odd_image()
    height, width = image.shape[1:3]
    wide = jnp.pad(image, ((0, 0), (0, canvas[0]), (0, canvas[1]), (0, 0)))
    extents = jnp.array([[height, width]]) if any(canvas) else None
    (ours,) = jax.jit(lambda model, x: model.backbone.body(x, Pass(extents)))(CASE.model, wide)
    inside = np.asarray(ours)[:, : height // 16, : width // 16]
    check("relative", relative(sampled("last_feat", inside, len(theirs)), theirs), 1e-4)


@pytest.mark.slow
def test_recomputing_changes_no_gradient():
    body, image = CASE.model.backbone.body, jnp.asarray(odd_image()[0])
    graphdef, params = nnx.split(body)

    def total(params, remat):
        own = nnx.merge(graphdef, params)
        own.remat = remat
        return sum((x**2).sum() for x in own(image))

    plain, again = (jax.jit(jax.grad(total), static_argnums=1)(params, remat) for remat in (False, True))
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * float(jnp.abs(one).max()))


# -- parts


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def oracle(q, k, v, rows, columns, seen):
    """Attention of each two cells, in float64."""
    q, k, v, rows, columns = (x.astype(np.float64) for x in (q, k, v, rows, columns))
    result = np.zeros(q.shape)
    n, h, w, heads, d = q.shape
    for i, y, x, head in np.ndindex(n, h, w, heads):
        one = q[i, y, x, head]
        logits = k[i, :, :, head] @ one / d**0.5 + (rows[0, y] @ one)[:, None] + (columns[0, x] @ one)[None]
        logits = np.where(seen[i], logits, -np.inf)
        weights = np.exp(logits - logits.max())
        result[i, y, x, head] = (weights[..., None] * v[i, :, :, head]).sum((0, 1)) / weights.sum()
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "queries", [pytest.param(1000, marks=pytest.mark.slow), 8, pytest.param(3, marks=pytest.mark.slow)]
)
def test_attention_beside_an_oracle(queries):
    """In one piece or in several, the last of which is not whole."""
    q, k, v = (random(2, 5, 4, 3, 6, seed=i) for i in range(3))
    rows, columns = random(1, 5, 5, 6, seed=3), random(1, 4, 4, 6, seed=4)
    seen = np.ones((2, 5, 4), bool)
    seen[1, 3:] = False
    ours = attend_in_pieces(q, k, v, rows, columns, jnp.asarray(seen), queries)
    check("attention", np.abs(ours - oracle(q, k, v, rows, columns, seen)), 1e-5)

    def total(function, *options):
        return jax.grad(lambda *x: (function(*x, jnp.asarray(seen), *options) ** 2).sum(), (0, 1, 2, 3, 4))

    pieces, whole = (
        total(f, *o)(q, k, v, rows, columns) for f, o in ((attend_in_pieces, (queries,)), (attend, ()))
    )
    for one, two in zip(pieces, whole, strict=True):
        check("gradient", np.abs(one - two) / np.abs(two).max(), 1e-5)


def test_tables_of_relative_positions():
    """Of the right length they are looked up; of another one they are resized linearly."""
    table = random(9, 2)
    own = jnp.array([5, 3])
    found = relative_table(jnp.asarray(table), (7, 7), (own, own))
    for y, x in np.ndindex(5, 5):
        np.testing.assert_array_equal(found[0, y, x], table[y - x + 4])
    places = (np.arange(5) + 0.5) * 9 / 5 - 0.5
    resized = np.stack([np.interp(places, np.arange(9), column) for column in table.T], 1)
    for y, x in np.ndindex(3, 3):
        np.testing.assert_allclose(found[1, y, x], resized[y - x + 2], rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all()


def bicubic(place, values):
    """One value between others, by Keys' convolution with a = -0.75."""
    low, total = int(np.floor(place)), 0.0
    for tap in range(low - 1, low + 3):
        t = abs(place - tap)
        near = 1.25 * t**3 - 2.25 * t**2 + 1
        total += (near if t <= 1 else -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)) * values[
            np.clip(tap, 0, len(values) - 1)
        ]
    return total


@pytest.mark.slow
def test_tables_of_positions_are_resized_bicubically():
    table = random(6, 6, 3)
    found = resized_positions(jnp.asarray(table), 9, 8, jnp.array([[6, 6], [9, 5]]))
    np.testing.assert_allclose(found[0, :6, :6], table, atol=1e-6)
    for y, x in np.ndindex(9, 5):
        rows = [bicubic((y + 0.5) * 6 / 9 - 0.5, column) for column in table.transpose(1, 0, 2)]
        np.testing.assert_allclose(found[1, y, x], bicubic((x + 0.5) * 6 / 5 - 0.5, rows), atol=1e-5)


@pytest.mark.slow
def test_random_drops_reach_the_blocks():
    config = ViTConfig(width=8, depth=3, heads=2, global_blocks=(1,), grid=2, drop_path=0.8)
    body = ViT(config, rngs=nnx.Rngs(0))
    assert [round(block.drop, 3) for block in body.blocks] == [0, 0.4, 0.8]
    assert [block.window for block in body.blocks] == [14, 0, 14]
    image, keys = jnp.ones((1, 32, 32, 3)), jax.random.split(jax.random.key(3), 1)
    assert not jnp.allclose(body(image, Pass(keys=keys, train=True))[0], body(image)[0])


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match="heads is 5, which does not divide its width, 768"):
        ViTConfig(heads=5)
    with pytest.raises(ConfigError, match="global_blocks is .*, but there are 4 blocks"):
        ViTConfig(depth=4)
    with pytest.raises(ConfigError, match="returns maps with the strides 4, 8, 16, 32; it needs one map"):
        ModelConfig(neck=SimplePyramidConfig())
    with pytest.raises(ConfigError, match="'fpn', but the backbone|pooled|level"):
        ModelConfig(backbone=ViTConfig())
    with pytest.raises(ConfigError, match="pad_divisor is 16, but the backbone 'vit' needs"):
        CASE.config.replace({"input.pad_divisor": 16})


# -- files and settings


def mae():
    """A file of MAE's, with its decoder."""
    prefix = "backbone.net."
    arrays = {
        k.removeprefix(prefix): v
        for k, v in CASE.weights.items()
        if k.startswith(prefix) and "rel_pos" not in k
    }
    others = (
        "cls_token",
        "mask_token",
        "decoder_embed.weight",
        "decoder_blocks.0.attn.qkv.weight",
        "norm.bias",
    )
    return arrays, {name: np.zeros((1, 1, 16), np.float32) for name in others}


def test_imagenet_weights(tmp_path):
    arrays, others = mae()
    np.savez(tmp_path / "mae.npz", **arrays, **others)
    model = random_model(CASE.config)
    report = load_backbone(model, tmp_path / "mae.npz")
    assert set(report.ignored) == set(others) and len(report.assigned) == len(arrays)
    body, expected = model.backbone.body, CASE.model.backbone.body
    np.testing.assert_array_equal(body.pos_embed[...], expected.pos_embed[...])
    np.testing.assert_array_equal(
        body.blocks[3].attn.qkv.kernel[...], expected.blocks[3].attn.qkv.kernel[...]
    )
    assert (body.blocks[3].attn.rel_pos_h[...] == 0).all()


@pytest.mark.parametrize("size", ["b_100ep", pytest.param("h_75ep", marks=pytest.mark.slow)])
def test_arrays_show_which_network_it_is(size):
    library, config = LIBRARIES["detectron2"], model_config(f"detectron2/ViTDet/mask_rcnn_vitdet_{size}")
    state = nnx.to_flat_state(nnx.state(abstract_model(config)))
    empty = {".".join(map(str, p)): np.broadcast_to(np.float32(0), v.shape) for p, v in state}
    shown = library.structure(library.table(config).export(empty))
    names = ("width", "depth", "heads", "window", "global_blocks", "grid", "positions", "patch")
    assert all(shown[f"backbone.{name}"] == getattr(config.backbone, name) for name in names)
    assert (shown["backbone"], shown["neck"]) == ("vit", "simple_pyramid")


def test_published_models():
    names = [name for name in list_models() if "/ViTDet/" in name and "vitdet" in name]
    assert len(names) == 12
    for name in names:
        config = model_config(name)
        part = config.backbone
        assert part.depth % 4 == 0 and part.global_blocks == tuple(
            part.depth // 4 * i - 1 for i in range(1, 5)
        )
        assert (
            config.input.pad_divisor == 1024 and config.neck.norm_epsilon == config.box.norm_epsilon == 1e-6
        )
        assert (len(config.box.stages) == 3) == ("cascade" in name)
        assert (config.num_classes == 1203) == ("LVIS" in name)


def test_libraries_without_such_networks():
    with pytest.raises(
        UserError, match="Detectron2 cannot express this model: its backbone is 'vit', which no setting there"
    ):
        export_settings(CASE.config, "detectron2")
