"""Swin transformers beside MMDetection and Detectron2.

What they computed is in `goldens/mmdet_swin.npz` and `goldens/detectron2_swin.npz` (see
`record_mmdet_backbones.py` and `record_detectron2_vitdet.py`). ``pytest -s`` prints the largest errors.
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
from goldens.seeded_weights import (
    sampled,
    seeded_detectron2_transformer_weight,
    seeded_images,
    seeded_mmdet_transformer_weight,
)

from jaxmaskrcnn.config import ConfigError, SwinConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.backbones.swin import Swin, relative_positions, seen_when_shifted
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.models.transformer import drop_path, join_windows, split_windows
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

SMALL = {
    "backbone.width": 8,
    "backbone.blocks": (2, 2, 2, 2),
    "backbone.heads": (1, 2, 2, 4),
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
}
MM, D2 = "mmdet/mask-rcnn_swin-t-p4-w7_fpn_1x_coco", "detectron2/ViTDet/cascade_mask_rcnn_swin_b_in21k_50ep"
CASES = {
    "mmdet": Recorded(
        "mmdet",
        "swin",
        model_config(MM, num_classes=3, **SMALL, **{"input.test_min_size": 94, "input.test_max_size": 126}),
        seeded_mmdet_transformer_weight,
        "swin",
    ),
    "detectron2": Recorded(
        "detectron2",
        "swin",
        model_config(
            D2,
            num_classes=3,
            **SMALL,
            **{
                "input.test_min_size": 94,
                "input.test_max_size": 126,
                "input.pad_divisor": 128,
                "box.convs": 1,
                "box.conv_dim": 16,
            },
        ),
        seeded_detectron2_transformer_weight,
        "swin",
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.slow
@cases
def test_features(case):
    """On a larger canvas too."""
    case.check_maps()


@pytest.mark.slow
@pytest.mark.parametrize("wider", [(0, 0), (32, 64)], ids=["alone", "on a larger canvas"])
@cases
def test_detections(case, wider):
    case.check_detections(wider)


@pytest.mark.slow
def test_losses_and_gradients():
    CASES["mmdet"].check_training()


@cases
def test_names_go_both_ways(case):
    case.check_names()


@functools.cache
def odd_image():
    """An image that no layer divides evenly, and what Detectron2's backbone makes of it."""
    with np.load(GOLDENS / "detectron2_swin.npz") as arrays:
        height, width = arrays["odd/size"]
        return seeded_images(height, width), {k: v for k, v in arrays.items() if k.startswith("odd/p")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "canvas",
    [pytest.param((0, 0), marks=pytest.mark.slow), (19, 53)],
    ids=["alone", "on a larger canvas"],
)
def test_odd_sizes(canvas):
    """Merging pads, and so do windows; the last map is smaller than one."""
    image, golden = odd_image()
    height, width = image.shape[1:3]
    wide = jnp.pad(image, ((0, 0), (0, canvas[0]), (0, canvas[1]), (0, 0)))
    extents = jnp.array([[height, width]]) if any(canvas) else None
    maps = jax.jit(lambda model, x: model.backbone.body(x, Pass(extents)))(CASES["detectron2"].model, wide)
    for i, ours in enumerate(maps):
        shape, theirs = golden[f"odd/p{i}/shape"], golden[f"odd/p{i}/values"]
        inside = np.asarray(ours)[:, : shape[1], : shape[2]]
        assert inside.shape == tuple(shape)
        check(f"p{i}, relative", relative(sampled(f"p{i}", inside, len(theirs)), theirs), 1e-4)


@pytest.mark.slow
def test_recomputing_changes_no_gradient():
    model = CASES["mmdet"].model
    body = model.backbone.body
    image = jnp.asarray(odd_image()[0])

    def gradient(remat):
        graphdef, params = nnx.split(body)

        def total(params):
            own = nnx.merge(graphdef, params)
            own.remat = remat
            return sum((x**2).sum() for x in own(image))

        return jax.jit(jax.grad(total))(params)

    plain, again = gradient(False), gradient(True)
    for one, two in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * float(jnp.abs(one).max()))


# -- parts


def test_windows_are_cut_and_joined():
    x = jnp.arange(2 * 5 * 8 * 3).reshape(2, 5, 8, 3)
    windows = split_windows(x, 3)
    assert windows.shape == (2, 2 * 3, 9, 3)
    np.testing.assert_array_equal(windows[1, 1].reshape(3, 3, 3), x[1, :3, 3:6])
    assert (windows[0, 5].reshape(3, 3, 3)[2] == 0).all() and (
        windows[0, 5].reshape(3, 3, 3)[:, 2] == 0
    ).all()
    np.testing.assert_array_equal(join_windows(windows, 3, 5, 8), x)


def test_relative_positions_beside_an_oracle():
    side = 3
    found = relative_positions(side)
    for i in range(side * side):
        for j in range(side * side):
            rows, columns = i // side - j // side, i % side - j % side
            assert found[i, j] == (rows + side - 1) * (2 * side - 1) + columns + side - 1


def oracle_of_shifts(height, width, side, shift):
    """The nine regions of the authors' code, for a map that fills its canvas."""
    rows, columns = -(-height // side) * side, -(-width // side) * side
    regions = np.zeros((rows, columns), int)
    slices = slice(0, -side), slice(-side, -shift), slice(-shift, None)
    for i, down in enumerate(slices):
        for j, across in enumerate(slices):
            regions[down, across] = 3 * i + j
    windows = regions.reshape(rows // side, side, columns // side, side).swapaxes(1, 2).reshape(-1, side**2)
    return windows[:, :, None] == windows[:, None, :]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(7, 7), (4, 3), (20, 15), (14, 29)])
def test_which_cells_see_each_other(size):
    expected = oracle_of_shifts(*size, 7, 3)
    np.testing.assert_array_equal(seen_when_shifted(7, 3, size, None)[0], expected)
    own = jnp.array([size, (2, 1)])
    np.testing.assert_array_equal(seen_when_shifted(7, 3, size, own)[0], expected)


def test_paths_are_dropped_by_image():
    x = jnp.ones((400, 2, 2, 1))
    keys = jax.random.split(jax.random.key(1), 400)
    pass_ = Pass(keys=keys, train=True)
    one, two = drop_path(x, 0.25, 0, pass_), drop_path(x, 0.25, 1, pass_)
    per_image = one[:, 0, 0, 0]
    assert (one == per_image[:, None, None, None]).all() and not (one == two).all()
    np.testing.assert_allclose(jnp.unique(per_image), [0, 4 / 3], rtol=1e-6)
    assert abs(float(one.mean()) - 1) < 0.1
    for other in (Pass(keys=keys), Pass(train=True)):
        assert drop_path(x, 0.25, 0, other) is x


def bodies(**settings):
    config = SwinConfig(width=8, blocks=(1, 1, 2, 1), heads=(1, 1, 1, 1), drop_path=0.9, **settings)
    return nnx.eval_shape(lambda: Swin(config, rngs=nnx.Rngs(0)))


def test_rates_of_drops():
    rates = [round(block.drop, 3) for stage in bodies().layers for block in stage.blocks]
    assert rates == [0, 0.225, 0.45, 0.675, 0.9]
    frozen = bodies(freeze_at=4)
    assert [block.drop for stage in frozen.layers for block in stage.blocks] == [0, 0, 0, 0, 0.9]
    parts = {f"{part}.{i}.*" for i in range(3) for part in ("layers", "norms")}
    assert set(frozen.frozen()) == {"patch_embed.*", *parts}


@pytest.mark.slow
def test_random_drops_reach_the_blocks():
    config = CASES["mmdet"].config.replace({"backbone.drop_path": 0.9})
    body = random_model(config).backbone.body
    image, keys = jnp.ones((1, 32, 32, 3)), jax.random.split(jax.random.key(0), 1)
    run = jax.jit(lambda body, pass_: body(image, pass_)[3])
    plain = run(body, Pass())
    np.testing.assert_array_equal(run(body, Pass(keys=keys)), plain)
    assert not jnp.allclose(run(body, Pass(keys=keys, train=True)), plain)


@pytest.mark.parametrize("freeze_at", [0, 1, 3])
def test_freeze_at(freeze_at):
    model = random_model(CASES["mmdet"].config.replace({"backbone.freeze_at": freeze_at}))
    body = nnx.state(model, trainable(model))["backbone"]["body"]
    assert ("patch_embed" in body) == (freeze_at == 0)
    assert set(body["layers"]) == set(body["norms"]) == set(range(max(freeze_at - 1, 0), 4))


def test_heads_must_divide_the_channels():
    with pytest.raises(ConfigError, match="5 do not divide the 192 channels"):
        SwinConfig(heads=(3, 5, 12, 24))


# -- files


def authors_names(arrays):
    """MMDetection's arrays as Swin-Transformer-Object-Detection and the authors' files have them.

    The order of four cells is typed in from the permutation between the two libraries.
    """
    found = {}
    for name, value in arrays.items():
        if "downsample.reduction" in name:
            value = (
                value.reshape(len(value), -1, 4)[:, :, [0, 2, 1, 3]].transpose(0, 2, 1).reshape(value.shape)
            )
        elif "downsample.norm" in name:
            value = value.reshape(-1, 4)[:, [0, 2, 1, 3]].transpose().reshape(value.shape)
        for old, new in (
            ("backbone.stages", "backbone.layers"), ("attn.w_msa", "attn"), ("ffn.layers.0.0", "mlp.fc1"),
            ("ffn.layers.1", "mlp.fc2"), ("patch_embed.projection", "patch_embed.proj"),
        ):  # fmt: skip
            name = name.replace(old, new)
        found[name] = value
    return found


def test_files_of_the_authors_copy_of_mmdetection():
    case = CASES["mmdet"]
    arrays = authors_names(case.weights)
    assert "backbone.layers.0.blocks.1.attn.relative_position_bias_table" in arrays
    arrays["backbone.layers.0.blocks.1.attn.relative_position_index"] = np.zeros((49, 49), np.int64)
    model = from_state_dict(arrays, case.config, "mmdet")
    ours, theirs = (dict(nnx.to_flat_state(nnx.state(m))) for m in (model, case.model))
    for path, variable in theirs.items():
        np.testing.assert_array_equal(ours[path][...], variable[...])


def imagenet(prefix=""):
    """A classifier's file, as the authors publish it."""
    arrays = {
        k.removeprefix("backbone."): v
        for k, v in authors_names(CASES["mmdet"].weights).items()
        if k.startswith("backbone.") and not k.startswith("backbone.norm")
    }
    arrays |= {"norm.weight": np.ones(64), "norm.bias": np.zeros(64), "head.weight": np.zeros((10, 64))}
    arrays |= {"head.bias": np.zeros(10), "layers.0.blocks.1.attn_mask": np.zeros((4, 49, 49))}
    return {prefix + name: value for name, value in arrays.items()}


@pytest.mark.slow
@pytest.mark.parametrize("library", CASES)
def test_imagenet_weights(library, tmp_path):
    config = CASES[library].config
    np.savez(tmp_path / "swin.npz", **imagenet())
    model = random_model(config)
    report = load_backbone(model, tmp_path / "swin.npz")
    assert {"head.weight", "norm.bias", "layers.0.blocks.1.attn_mask"} <= set(report.ignored)
    body, expected = model.backbone.body, CASES["mmdet"].model.backbone.body
    for place in ("patch_embed", "layers"):
        pairs = zip(*(jax.tree.leaves(nnx.state(getattr(x, place))) for x in (body, expected)), strict=True)
        assert all((one == two).all() for one, two in pairs)
    assert (body.norms[3].scale[...] == 0.5).all()  # of detectors only
    assert len(report.assigned) == len(imagenet()) - 5


def test_backbones_of_detectors_are_weights_too(tmp_path):
    """With the norms of its outputs."""
    np.savez(tmp_path / "detector.npz", **CASES["mmdet"].weights)
    model = random_model(CASES["mmdet"].config)
    load_backbone(model, tmp_path / "detector.npz")
    scale = CASES["mmdet"].weights["backbone.norm2.weight"]
    np.testing.assert_array_equal(model.backbone.body.norms[2].scale[...], scale)
    np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)})
    with pytest.raises(UserError, match="other.npz has no names of a Swin transformer with 8 channels"):
        load_backbone(model, tmp_path / "other.npz")


# -- settings


@pytest.mark.parametrize("size", ["t-p4-w7_fpn_1x", "s-p4-w7_fpn_amp-ms-crop-3x"])
def test_mmdet_settings_go_both_ways(size, tmp_path):
    config = model_config(f"mmdet/mask-rcnn_swin-{size}_coco")
    text, differences = export_settings(config, "mmdet")
    assert differences == () and "'SwinTransformer'" in text and "norm_eval" not in text
    (tmp_path / "config.py").write_text(text)
    assert config_from_file(tmp_path / "config.py") == config


SWIN_FILE = """
_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../_base_/datasets/coco_instance.py']
model = dict(
    type='MaskRCNN',
    backbone=dict(
        _delete_=True, type='SwinTransformer', embed_dims=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24],
        window_size=7, mlp_ratio=4, qkv_bias=True, qk_scale=None, drop_rate=0., attn_drop_rate=0.,
        drop_path_rate=0.2, patch_norm=True, out_indices=(0, 1, 2, 3), with_cp=False, convert_weights=True,
        init_cfg=dict(type='Pretrained', checkpoint='swin_tiny_patch4_window7_224.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]))
optim_wrapper = dict(
    type='OptimWrapper',
    paramwise_cfg=dict(custom_keys={
        'absolute_pos_embed': dict(decay_mult=0.), 'relative_position_bias_table': dict(decay_mult=0.),
        'norm': dict(decay_mult=0.)}),
    optimizer=dict(type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05))
"""


def test_an_mmdet_config_file(tmp_path):
    (tmp_path / "swin.py").write_text(SWIN_FILE)
    assert config_from_file(tmp_path / "swin.py") == model_config(MM)
    for old, new, said in (
        ("patch_norm=True", "patch_norm=False", "backbone.patch_norm is False"),
        ("patch_norm=True", "use_abs_pos_embed=True", "backbone.use_abs_pos_embed is True"),
        ("window_size=7", "depth=50", "backbone.depth is not a known setting"),
    ):
        (tmp_path / "other.py").write_text(SWIN_FILE.replace(old, new))
        with pytest.raises(UserError, match=said):
            config_from_file(tmp_path / "other.py")


def test_recorded_config_file(tmp_path):
    case = CASES["mmdet"]
    (tmp_path / "config.py").write_text(str(case.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == case.config


def test_libraries_without_such_networks():
    config = CASES["detectron2"].config
    said = "Detectron2 cannot express this model: its backbone is 'swin', which no setting there describes"
    with pytest.raises(UserError, match=said):
        export_settings(config, "detectron2")
    mmdet = CASES["mmdet"].config
    with pytest.raises(UserError, match="its backbone is 'swin', which no"):
        export_settings(mmdet.replace({"background": "first"}), "torchvision")
    with_norms = mmdet.replace({"neck.norm": "ln"})
    with pytest.raises(UserError, match="its feature pyramid or its heads have layer norm"):
        export_settings(with_norms, "mmdet")


@pytest.mark.parametrize("preset", [MM, pytest.param(D2, marks=pytest.mark.slow)])
def test_arrays_show_which_network_it_is(preset):
    library, config = LIBRARIES[preset.split("/")[0]], model_config(preset)
    state = nnx.to_flat_state(nnx.state(abstract_model(config)))
    arrays = library.table(config).export(
        {".".join(map(str, p)): np.broadcast_to(np.float32(0), v.shape) for p, v in state}
    )
    shown = library.structure(arrays)
    assert (shown["backbone"], shown["backbone.blocks"], shown["backbone.window"]) == (
        "swin",
        config.backbone.blocks,
        7,
    )
