"""MViTv2 beside Detectron2's.

What it computed is in `goldens/detectron2_mvit.npz` (see `record_detectron2_vitdet.py`). ``pytest -s`` prints
the largest errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_helpers import Recorded
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import (
    sampled,
    seeded_detectron2_transformer_weight,
    seeded_images,
    seeded_projection,
)
from training_helpers import check_gradients, flat

from jaxmaskrcnn.config import ConfigError, MViTConfig
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.backbones.mvit import MViT
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.ops.positions import relative_table
from jaxmaskrcnn.zoo.lookup import list_models, model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

PRESET = "detectron2/ViTDet/cascade_mask_rcnn_mvitv2_b_in21k_100ep"
SMALL = {
    "backbone.width": 8,
    "backbone.depth": 6,
    "backbone.stage_ends": (0, 2, 4, 5),
    "backbone.window": 8,
    "backbone.grid": 20,
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
    "mvit",
    model_config(PRESET, num_classes=3, **SMALL),
    seeded_detectron2_transformer_weight,
    "mvit",
)


@pytest.mark.slow
def test_features():
    """On a larger canvas too."""
    CASE.check_maps()


@pytest.mark.slow
@pytest.mark.parametrize("wider", [(0, 0), (32, 64)], ids=["alone", "on a larger canvas"])
def test_detections(wider):
    CASE.check_detections(wider)


@pytest.mark.slow
def test_detections_of_odd_sizes_on_a_larger_canvas():
    """Of an image whose canvas no layer divides evenly: the same as where the canvas ends with it."""
    config = CASE.config.replace({"input.pad_divisor": 1})
    model = from_state_dict(CASE.weights, config, "detectron2")
    batch = make_batch(config, [CASE.scenes[1]["image"][:75, :101]])
    assert any(side % 32 for side in batch.images.shape[1:3])
    wide = batch._replace(images=np.pad(batch.images, ((0, 0), (0, 19), (0, 53), (0, 0))))
    detect = jax.jit(lambda model, batch: model.detect(batch))
    alone, found = detect(model, batch), detect(model, wide)
    assert alone.valid.sum() > 3
    np.testing.assert_array_equal(alone.valid, found.valid)
    np.testing.assert_array_equal(alone.labels, found.labels)
    check("odd sizes, scores", np.abs(alone.scores - found.scores), 1e-5)
    check("odd sizes, boxes, px", np.abs(alone.boxes - found.boxes), 1e-2)


@pytest.mark.slow
def test_gradients():
    """Of a projection of the backbone's maps, with respect to each of its parameters."""
    image, golden = odd_image()
    graphdef, params = nnx.split(CASE.model.backbone.body)

    def total(params):
        maps = nnx.merge(graphdef, params)(jnp.asarray(image))
        return sum((x * seeded_projection(f"scale{i}", x.shape)).sum() for i, x in enumerate(maps, 2))

    gradient = flat(jax.jit(jax.grad(total))(params))
    ours = {f"backbone.body.{path}": value for path, value in gradient.items()}
    for path in [path for path in ours if path.endswith("norm_k.bias")]:
        # It changes no attention, but where cells beside the image are keys.
        assert np.isfinite(ours.pop(path)).all()
    prefix = "odd/gradient/"
    theirs = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    weights = {name: CASE.weights[name] for name in theirs}
    check_gradients("mvit", ours, theirs, weights, LIBRARIES["detectron2"].table(CASE.config))


def test_names_go_both_ways():
    CASE.check_names()


@functools.cache
def odd_image():
    """An image that no layer divides evenly, and what Detectron2's backbone makes of it."""
    with np.load(GOLDENS / "detectron2_mvit.npz") as arrays:
        height, width = arrays["odd/size"]
        return seeded_images(height, width), {
            k: v for k, v in arrays.items() if k.startswith(("odd/scale", "odd/gradient"))
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    "canvas",
    [pytest.param((0, 0), marks=pytest.mark.slow), (19, 53)],
    ids=["alone", "on a larger canvas"],
)
def test_odd_sizes(canvas):
    """Tables are resized to the image's own maps, and windows are filled with zeros."""
    image, golden = odd_image()
    height, width = image.shape[1:3]
    wide = jnp.pad(image, ((0, 0), (0, canvas[0]), (0, canvas[1]), (0, 0)))
    extents = jnp.array([[height, width]]) if any(canvas) else None
    maps = jax.jit(lambda model, x: model.backbone.body(x, Pass(extents)))(CASE.model, wide)
    for i, ours in enumerate(maps, 2):
        shape, theirs = golden[f"odd/scale{i}/shape"], golden[f"odd/scale{i}/values"]
        inside = np.asarray(ours)[:, : shape[1], : shape[2]]
        assert inside.shape == tuple(shape)
        check(f"scale{i}, relative", relative(sampled(f"scale{i}", inside, len(theirs)), theirs), 1e-4)


@pytest.mark.slow
def test_gradients_stay_finite_on_a_larger_canvas():
    """Also where pooling sees nothing but what lies outside of the image."""
    image = jnp.pad(odd_image()[0], ((0, 0), (0, 60), (0, 60), (0, 0)))
    graphdef, params = nnx.split(CASE.model.backbone.body)
    extents = jnp.array([[45, 75]])

    def total(params, remat):
        body = nnx.merge(graphdef, params)
        body.remat = remat
        return sum((x[:, : 45 // 32] ** 2).sum() for x in body(image, Pass(extents)))

    plain, again = (jax.jit(jax.grad(total), static_argnums=1)(params, remat) for remat in (False, True))
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * float(jnp.abs(one).max()))


def test_tables_of_queries_and_keys_of_different_numbers():
    """Positions of the fewer are as many times as far apart."""
    table = np.arange(15.0)[:, None].astype(np.float32)
    found = relative_table(jnp.asarray(table), (8, 2), (jnp.array([8]), jnp.array([2])))[0, :, :, 0]
    for query, key in np.ndindex(8, 2):
        assert found[query, key] == query - 4 * key + 4


def test_blocks():
    """MViTv2-T, typed in from the library's model: channels, heads, strides, windows, lengths of tables."""
    body = nnx.eval_shape(lambda: MViT(MViTConfig(), rngs=nnx.Rngs(0)))
    found = [
        (b.attn.qkv.kernel.shape, b.attn.heads, b.attn.strides, b.attn.windows, b.attn.rel_pos_h.shape[0])
        for b in (body.blocks[i] for i in (0, 1, 2, 3, 4, 7, 8, 9))
    ]
    assert found == [
        ((96, 288), 1, (1, 4), (56, 14), 111),
        ((96, 576), 2, (2, 2), (28, 28), 55),
        ((192, 576), 2, (1, 4), None, 55),
        ((192, 1152), 4, (2, 1), (14, 28), 55),
        ((384, 1152), 4, (1, 1), (14, 14), 27),
        ((384, 1152), 4, (1, 2), None, 27),
        ((384, 2304), 8, (2, 1), (7, 14), 27),
        ((768, 2304), 8, (1, 1), None, 13),
    ]


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match="stage_ends is .*, but there are 12 blocks"):
        MViTConfig(depth=12)
    with pytest.raises(ConfigError, match="window is 12 and pool 4; give a window that is a multiple of 8"):
        MViTConfig(window=12)
    with pytest.raises(ConfigError, match="heads is 5, which does not divide"):
        MViTConfig(heads=5)


def test_arrays_show_which_network_it_is():
    library, config = LIBRARIES["detectron2"], model_config("detectron2/MViTv2/mask_rcnn_mvitv2_t_3x")
    state = nnx.to_flat_state(nnx.state(abstract_model(config)))
    empty = {".".join(map(str, p)): np.broadcast_to(np.float32(0), v.shape) for p, v in state}
    shown = library.structure(library.table(config).export(empty))
    assert (shown["backbone"], shown["backbone.stage_ends"]) == ("mvit", (0, 2, 7, 9))


def test_published_models():
    names = [name for name in list_models() if "mvitv2" in name]
    assert len(names) == 13
    for name in names:
        config = model_config(name)
        assert (len(config.box.stages) == 3) == ("cascade" in name)
        assert (config.neck.norm == "ln") == (config.input.pad_divisor == 1024) == ("ViTDet" in name)
        assert config.input.channel_order == "rgb"
