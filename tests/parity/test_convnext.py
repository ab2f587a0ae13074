"""ConvNeXts beside MMDetection's (mmpretrain).

What it computed is in `goldens/mmdet_convnext.npz` (see `record_mmdet_backbones.py`). ``pytest -s`` prints
the largest errors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_helpers import Recorded
from detectors import random_model
from flax import nnx
from golden_helpers import check
from goldens.seeded_weights import (
    seeded_mmdet_transformer_cascade_weight,
    seeded_mmdet_transformer_weight,
)

from jaxmaskrcnn.config import ConfigError, ConvNeXtConfig, ModelConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.backbones.convnext import ConvNeXt
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.ops.depthwise import depthwise_convolution, plain, shifted_products
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

PRESET = "mmdet/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco"
SMALL = {
    "backbone.blocks": (2, 1, 3, 1),
    "backbone.widths": (8, 16, 32, 64),
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
    "box.fc_dim": 32,
    "mask.convs": 1,
    "mask.dim": 16,
    "detections.per_image": 12,
    "input.test_min_size": 94,
    "input.test_max_size": 126,
}
CASE = Recorded(
    "mmdet",
    "convnext",
    model_config(PRESET, num_classes=3, **SMALL),
    seeded_mmdet_transformer_weight,
    "convnext",
)


CASCADE = Recorded(
    "mmdet",
    "cascade",
    model_config(
        "mmdet/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco",
        num_classes=3,
        **SMALL,
        **{"box.convs": 1, "box.conv_dim": 16},
    ),
    seeded_mmdet_transformer_cascade_weight,
    "convnext",
)


@pytest.mark.slow
def test_detections_of_a_cascade():
    """With batch norm in the box heads, and a box for each class."""
    CASCADE.check_detections()


@pytest.mark.slow
def test_losses_and_gradients_of_a_cascade():
    """With the generalised IoU of decoded boxes."""
    CASCADE.check_training()


def test_config_file_of_a_cascade(tmp_path):
    (tmp_path / "config.py").write_text(str(CASCADE.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == CASCADE.config
    text, differences = export_settings(CASCADE.config, "mmdet")
    assert differences == () and "GIoULoss" in text
    (tmp_path / "written.py").write_text(text)
    assert config_from_file(tmp_path / "written.py") == CASCADE.config
    (tmp_path / "other.py").write_text(text.replace("reg_decoded_bbox=True", "reg_decoded_bbox=False"))
    with pytest.raises(UserError, match="reg_decoded_bbox is False; supported: True with 'GIoULoss'"):
        config_from_file(tmp_path / "other.py")


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


@pytest.mark.slow
def test_recomputing_changes_no_gradient():
    body = CASE.model.backbone.body
    graphdef, params = nnx.split(body)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 32, 3)).astype(np.float32))

    def total(params, remat):
        own = nnx.merge(graphdef, params)
        own.remat = remat
        return sum((x**2).sum() for x in own(image))

    plain_, again = (jax.jit(jax.grad(total), static_argnums=1)(params, remat) for remat in (False, True))
    for one, two in zip(jax.tree.leaves(plain_), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * float(jnp.abs(one).max()))


# -- parts


def oracle(x, kernel):
    """Every channel by itself, in float64."""
    side = kernel.shape[0] // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (side, side), (side, side), (0, 0)))
    result = np.zeros(x.shape)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            window = padded[:, i : i + 2 * side + 1, j : j + 2 * side + 1]
            result[:, i, j] = (window * kernel[None, :, :, 0]).sum((1, 2))
    return result


@pytest.mark.parametrize("size", [3, 7])
def test_depthwise_convolution_and_its_gradients(size):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 9, 5)), rng.normal(size=(size, size, 1, 5))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    for function in (depthwise_convolution, plain, shifted_products):
        check(function.__name__, np.abs(function(x, kernel) - oracle(x, kernel)), 1e-4)
    factors = rng.normal(size=x.shape).astype(np.float32)
    ours, theirs = (
        jax.grad(lambda x, k, f=f: (f(x, k) * factors).sum(), (0, 1))(x, kernel)
        for f in (depthwise_convolution, plain)
    )
    for name, one, two in zip(("input", "kernel"), ours, theirs, strict=True):
        assert one.shape == two.shape
        check(f"gradient of the {name}", np.abs(one - two) / np.abs(two).max(), 1e-5)


def test_canvases_are_multiples_of_32():
    with pytest.raises(ConfigError, match="pad_divisor is 16, but the backbone 'convnext' needs .* of 32"):
        ModelConfig().replace({"backbone.kind": "convnext", "input.pad_divisor": 16})
    body = nnx.eval_shape(lambda: ConvNeXt(ConvNeXtConfig(), rngs=nnx.Rngs(0)))
    with pytest.raises(ConfigError, match="a canvas of 64 x 60 pixels"):
        jax.eval_shape(lambda body, x: body(x), body, jnp.zeros((1, 64, 60, 3)))


@pytest.mark.slow
def test_random_drops_reach_the_blocks():
    config = ConvNeXtConfig(
        blocks=(1, 1, 2, 1), widths=(8, 8, 8, 8), drop_path=0.9, layer_scale=0.5, freeze_at=2
    )
    body = ConvNeXt(config, rngs=nnx.Rngs(0))
    assert [round(b.drop, 3) for stage in body.stages for b in stage] == [0, 0.225, 0.45, 0.675, 0.9]
    assert body.stages[1][0].gamma[...].tolist() == [0.5] * 8
    image, keys = jnp.ones((1, 32, 32, 3)), jax.random.split(jax.random.key(0), 1)
    plain_ = body(image, Pass())[3]
    assert not jnp.allclose(body(image, Pass(keys=keys, train=True))[3], plain_)


@pytest.mark.parametrize("freeze_at", [0, 1, 3])
def test_freeze_at(freeze_at):
    model = random_model(CASE.config.replace({"backbone.freeze_at": freeze_at}))
    body = nnx.state(model, trainable(model))["backbone"]["body"]
    assert set(body["stages"]) == set(range(max(freeze_at - 1, 0), 4))
    assert set(body["downsample_layers"]) == set(range(max(freeze_at - 1, min(freeze_at, 1)), 4))
    assert set(body["norms"]) == set(range(4))  # MMDetection trains them


# -- files and settings


@pytest.mark.slow
def test_imagenet_weights(tmp_path):
    """mmpretrain's classifiers, of whose output norms only the last one exists."""
    arrays = {k: v for k, v in CASE.weights.items() if k.startswith("backbone.") and ".norm" not in k[:14]}
    arrays |= {"backbone.norm3.weight": np.full(64, 3.0), "backbone.norm3.bias": np.zeros(64)}
    arrays |= {"head.fc.weight": np.zeros((10, 64)), "head.fc.bias": np.zeros(10)}
    np.savez(tmp_path / "convnext.npz", **arrays)
    model = random_model(CASE.config)
    report = load_backbone(model, tmp_path / "convnext.npz")
    body, expected = model.backbone.body, CASE.model.backbone.body
    for place in ("downsample_layers", "stages"):
        pairs = zip(*(jax.tree.leaves(nnx.state(getattr(x, place))) for x in (body, expected)), strict=True)
        assert all((one == two).all() for one, two in pairs)
    assert (body.norms[3].scale[...] == 3).all() and (body.norms[2].scale[...] == 0.5).all()
    assert "head.fc.weight" in report.ignored


def test_recorded_config_file(tmp_path):
    (tmp_path / "config.py").write_text(str(CASE.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == CASE.config
    text, differences = export_settings(CASE.config, "mmdet")
    assert differences == () and "depths" in text
    (tmp_path / "written.py").write_text(text)
    assert config_from_file(tmp_path / "written.py") == CASE.config


def test_mmdet_settings_go_both_ways(tmp_path):
    config = model_config(PRESET)
    text, differences = export_settings(config, "mmdet")
    assert differences == () and "'mmpretrain.ConvNeXt'" in text and "arch='tiny'" in text
    (tmp_path / "config.py").write_text(text)
    assert config_from_file(tmp_path / "config.py") == config
    (tmp_path / "older.py").write_text(text.replace("mmpretrain", "mmcls"))
    assert config_from_file(tmp_path / "older.py") == config
    (tmp_path / "other.py").write_text(text.replace("arch='tiny'", "arch='nano'"))
    with pytest.raises(UserError, match="backbone.arch is 'nano'; supported: a dictionary of depths"):
        config_from_file(tmp_path / "other.py")


def test_arrays_show_which_network_it_is():
    library, config = LIBRARIES["mmdet"], model_config(PRESET)
    state = nnx.to_flat_state(nnx.state(abstract_model(config)))
    empty = {".".join(map(str, p)): np.broadcast_to(np.float32(0), v.shape) for p, v in state}
    shown = library.structure(library.table(config).export(empty))
    assert (shown["backbone"], shown["backbone.blocks"]) == ("convnext", (3, 3, 9, 3))
