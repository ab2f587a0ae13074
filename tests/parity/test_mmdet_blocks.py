"""MMDetection's models with other layers in their parts, beside what MMDetection computed.

That is in `goldens/mmdet_blocks.npz` (see `record_mmdet_backbones.py`): global context blocks, standardised
kernels before group norm, ResNeSt, Res2Net and HRNet, whose stem has its full
width. CARAFE, Soft-NMS and GRoIE are in `mmdet_carafe.npz` and files beside it. ``pytest -s`` prints the
largest errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_helpers import Recorded
from flax import nnx
from folders import GOLDENS
from golden_helpers import check
from goldens.seeded_weights import (
    seeded_mmdet_block_weight,
    seeded_mmdet_carafe_weight,
    seeded_mmdet_deep_weight,
    seeded_mmdet_groie_weight,
    seeded_mmdet_hrnet_weight,
    seeded_mmdet_res2net_weight,
    seeded_mmdet_soft_weight,
)

from jaxmaskrcnn.config import AnchorConfig, ConfigError, HRFPNConfig, HRNetConfig, Level, ModelConfig
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.anchor_grids import image_anchors, in_own_padding
from jaxmaskrcnn.models.backbones.hrnet import HRNet
from jaxmaskrcnn.models.context import ContextBlock
from jaxmaskrcnn.models.features import Pass
from jaxmaskrcnn.models.layers import ConvNorm, standardised
from jaxmaskrcnn.models.necks.hrfpn import HRFPN
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

SMALL = {
    "backbone.freeze_at": 0,
    "rpn.pre_nms_train": 70,
    "rpn.post_nms_train": 80,
    "rpn.pre_nms_test": 40,
    "rpn.post_nms_test": 30,
    "rpn.batch_size": 64,
    "rpn.anchors.sizes": ((10.0,), (20.0,), (40.0,), (80.0,), (160.0,)),
    "regions.batch_size": 100,
    "regions.positive_fraction": 0.5,
    "input.test_min_size": 94,
    "input.test_max_size": 126,
    "detections.per_image": 12,
    "box.fc_dim": 32,
    "mask.convs": 1,
}
NARROW = {**SMALL, "backbone.width": 8, "neck.channels": 16, "mask.dim": 16}
DEEP = {**NARROW, "backbone.depth": 50, "backbone.stem": 8}
RESNEST = {**DEEP, "backbone.norm": "bn_eval", "box.conv_dim": 16}
RES2NET = {**DEEP, "backbone.scale_width": 6}
HRNET = {
    **{path: value for path, value in SMALL.items() if path != "backbone.freeze_at"},
    "backbone.width": 8, "backbone.first_width": 8, "backbone.blocks": 1,
    "backbone.modules": (1, 1, 2), "neck.channels": 16, "mask.dim": 16,
}  # fmt: skip
IOU = {"box.loss.form": "iou", "box.loss.weight": 10.0}
CARAFE = {**NARROW, "neck.upsample.channels": 8, "mask.upsample.channels": 8}
GROUPS = {**SMALL, "backbone.width": 32, "neck.channels": 32, "box.conv_dim": 32, "mask.dim": 32}
WEIGHTS = {
    "resnest": seeded_mmdet_deep_weight,
    "res2net": seeded_mmdet_res2net_weight,
    "hrnet": seeded_mmdet_hrnet_weight,
    "carafe": seeded_mmdet_carafe_weight,
    "soft_nms": seeded_mmdet_soft_weight,
    "groie": seeded_mmdet_groie_weight,
}
CASES = {
    case: Recorded(
        "mmdet",
        case,
        model_config(
            f"mmdet/{preset}",
            num_classes=3,
            **{k: v for k, v in changes.items() if "mask" in preset or not k.startswith("mask.")},
        ),
        WEIGHTS.get(case, seeded_mmdet_block_weight),
        file,
    )
    for file, case, preset, changes in (
        ("deep", "resnest", "mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco", RESNEST),
        ("deep", "res2net", "mask-rcnn_res2net-101_fpn_2x_coco", RES2NET),
        ("hrnet", "hrnet", "mask-rcnn_hrnetv2p-w32-1x_coco", HRNET),
        ("carafe", "carafe", "mask-rcnn_r50_fpn-carafe_1x_coco", CARAFE),
        ("groie", "groie", "mask-rcnn_r50_fpn_groie_1x_coco", NARROW),
        ("soft_nms", "soft_nms", "faster-rcnn_r50_fpn_soft-nms_1x_coco", NARROW),
        ("ious", "pafpn", "faster-rcnn_r50_pafpn_1x_coco", {**NARROW, **IOU}),
        ("ious", "bounded_iou", "faster-rcnn_r50_fpn_bounded-iou_1x_coco", NARROW),
        ("blocks", "gcb", "mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco", NARROW),
        ("blocks", "gn_ws", "mask-rcnn_r50_fpn_gn-ws-all_2x_coco", GROUPS),
    )
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.slow
@cases
def test_features(case):
    """On a larger canvas."""
    # Sides of ResNeSts, Res2Nets and HRNets are multiples of 32; an HRNet's P6 rounds down.
    case.check_maps(wider=(64, 64))


@pytest.mark.slow
@cases
@pytest.mark.parametrize("wider", [(0, 0), (64, 32)], ids=["alone", "on a larger canvas"])
def test_detections(case, wider):
    case.check_detections(wider)


@pytest.mark.slow
@cases
def test_losses_and_gradients(case):
    case.check_training()


# -- all anchors, in a batch where each image is padded beyond its own size


class AllAnchors(Recorded):
    """A case with room for all of its anchors, beside what was recorded of that."""

    @functools.cached_property
    def arrays(self):
        with np.load(GOLDENS / "mmdet_all_anchors.npz") as arrays:
            own = {k.removeprefix(f"{self.case}/"): v for k, v in arrays.items()}
        return {name: CASES[self.case].arrays[name] for name in ("scenes", "names")} | own


def learnt(case):
    config = case.config.replace({"rpn.batch_size": 100_000})
    return AllAnchors("mmdet", case.case, config, case.seeded)


def test_anchors_that_count():
    """MMDetection leaves out those behind 96 of 128 rows or columns, on every level but P6."""
    batch, config = CASES["hrnet"].batch(), CASES["hrnet"].config
    assert config.rpn.batch_padding == "ignore" and batch.extents.tolist() == [[128, 128]] * 2
    assert model_config("torchvision/maskrcnn_resnet50_fpn").rpn.batch_padding == "count"
    strides = [level.stride for level in config.levels]
    sizes = [(128 // stride, 128 // stride) for stride in strides]
    ends = np.cumsum([3 * h * w for h, w in sizes])[:-1]
    for case in ("hrnet", "bounded_iou"):
        for size, expected in zip(batch.image_sizes, learnt(CASES[case]).arrays["counts"], strict=True):
            found = in_own_padding(sizes, strides, jnp.asarray(size), config.input.pad_divisor, 3)
            assert [int(x.sum()) for x in np.split(found, ends)] == expected.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["hrnet", "bounded_iou"])
def test_losses_of_all_anchors(case):
    learnt(CASES[case]).check_training()


def test_images_in_the_centre_have_padding_on_all_sides():
    with pytest.raises(ConfigError, match="placement is 'centre', but rpn.batch_padding 'ignore' needs"):
        ModelConfig().replace({"input.placement": "centre", "rpn.batch_padding": "ignore"})


@pytest.mark.slow_except("gcb")
@cases
def test_names_go_both_ways(case):
    case.check_names()


@cases
def test_config_file(case, tmp_path):
    """MMDetection's own config, changed as recorded, is the config of these tests; so is what is written."""
    (tmp_path / "config.py").write_text(str(case.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == case.config
    text, differences = export_settings(case.config, "mmdet")
    assert differences == ()
    (tmp_path / "written.py").write_text(text)
    assert config_from_file(tmp_path / "written.py") == case.config


# -- an HRNet's pyramid


def bilinear_oracle(x, factor):
    """One axis of a map [n, ...] enlarged cell by cell, in float64."""
    place = np.clip((np.arange(factor * len(x)) + 0.5) / factor - 0.5, 0, len(x) - 1)
    low = np.floor(place).astype(int)
    share = (place - low).reshape(-1, *[1] * (x.ndim - 1))
    return (1 - share) * x[low] + share * x[np.minimum(low + 1, len(x) - 1)]


def hrfpn_oracle(neck, maps):
    """The levels of one image whose maps end where the image does, in float64."""
    wide = []
    for i, x in enumerate(maps):
        rows = bilinear_oracle(x.astype(np.float64), 2**i)
        wide.append(bilinear_oracle(rows.swapaxes(0, 1), 2**i).swapaxes(0, 1))
    kernel, bias = (
        np.asarray(y[...], np.float64) for y in (neck.reduction.conv.kernel, neck.reduction.conv.bias)
    )
    merged, levels = np.concatenate(wide, -1) @ kernel[0, 0] + bias, []
    for i, layer in enumerate(neck.layer_blocks):
        n, (h, w) = 2**i, (side // 2**i for side in merged.shape[:2])
        x = merged[: h * n, : w * n].reshape(h, n, w, n, -1).mean((1, 3))
        x, kernel = np.pad(x, ((1, 1), (1, 1), (0, 0))), np.asarray(layer.conv.kernel[...], np.float64)
        taps = [x[r : r + h, c : c + w] @ kernel[r, c] for r in range(3) for c in range(3)]
        levels.append(sum(taps) + np.asarray(layer.conv.bias[...], np.float64))
    return levels


@pytest.mark.slow
def test_hrnet_pyramid():
    """Of an image of 96 x 160 pixels P6 has 1 x 2 cells, also where the canvas has room for more."""
    strides = (4, 8, 16, 32)
    neck = HRFPN(HRFPNConfig(channels=4), [Level(s, 2) for s in strides], rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    neck.reduction.conv.bias[...] = rng.normal(size=4)
    maps = [rng.normal(size=(1, 96 // s, 160 // s, 2)).astype(np.float32) for s in strides]
    expected = hrfpn_oracle(neck, [x[0] for x in maps])
    assert [x.shape[:2] for x in expected[3:]] == [(3, 5), (1, 2)]
    wide = [
        np.pad(x, ((0, 0), (0, 64 // s), (0, 32 // s), (0, 0)), constant_values=50.0)
        for s, x in zip(strides, maps, strict=True)
    ]
    for given, extents in ((maps, None), (wide, jnp.array([[96, 160]]))):
        for ours, theirs in zip(neck(given, Pass(extents)), expected, strict=True):
            h, w = theirs.shape[:2]
            check("an HRNet's pyramid", np.abs(ours[0, :h, :w] - theirs), 1e-5)
    sizes = [(160 // s, 192 // s) for s in (*strides, 64)]
    anchors = AnchorConfig(sizes=((8.0,),) * 5, ratios=(1.0,))
    places = (sizes, (*strides, 64), jnp.array([96, 160]), anchors)
    whole = [level.whole for level in neck.levels]
    assert whole == [False] * 4 + [True]
    assert image_anchors(*places, whole=whole).valid[-6:].tolist() == [True, True, *[False] * 4]
    assert image_anchors(*places).valid[-6:].tolist() == [True] * 6


def test_canvas_of_an_hrnet():
    body = HRNet(HRNetConfig(width=4, first_width=4, blocks=1, modules=(1, 1, 1)), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="An HRNet is given a canvas of 64 x 80 pixels"):
        body(jnp.zeros((1, 64, 80, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("num_channels=[8, 16]", "num_channels=[8, 24]"),
            "stage2.num_channels is .*each twice the one before",
        ),
        (
            ("num_channels=[8, 16]", "num_channels=[4, 8]"),
            "stage3.num_channels is .*; supported: the same as",
        ),
        (("num_blocks=[1, 1]", "num_blocks=[1, 2]"), "stage2.num_blocks is .*2 equal numbers"),
        (("'BOTTLENECK'", "'BASIC'"), "stage1.block is 'BASIC'; supported: 'BOTTLENECK'"),
        (
            ("type='HRFPN'", "type='HRFPN', pooling_type='MAX'"),
            "neck.pooling_type is 'MAX'; supported: 'AVG'",
        ),
    ],
    ids=["widths", "widths of two stages", "blocks", "kind of block", "pooling"],
)
def test_other_hrnets_are_refused(change, message, tmp_path):
    text, _ = export_settings(CASES["hrnet"].config, "mmdet")
    assert change[0] in text
    (tmp_path / "config.py").write_text(text.replace(*change))
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "config.py")


# -- global context blocks


def context_oracle(block, x):
    """One image's sums cell by cell, in float64."""
    weigh, reduce, expand = (
        [np.asarray(y[...], np.float64) for y in (layer.kernel, layer.bias)]
        for layer in (block.weigh, block.reduce, block.expand)
    )
    cells = x.reshape(-1, x.shape[-1]).astype(np.float64)
    weights = np.exp(cells @ weigh[0][0, 0, :, 0] + weigh[1])
    context = (cells * (weights / weights.sum())[:, None]).sum(0) @ reduce[0][0, 0] + reduce[1]
    context = (context - context.mean()) / np.sqrt(context.var() + 1e-5)
    context = np.maximum(context * block.norm.scale[...] + block.norm.bias[...], 0)
    return x + context @ expand[0][0, 0] + expand[1]


@pytest.mark.slow
def test_context_block():
    """Cells beside the image's extent have no weight, whatever they are."""
    block = ContextBlock(8, 4, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7, 8)).astype(np.float32)
    np.testing.assert_array_equal(block(x), x)  # its last layer begins with zeros
    block.expand.kernel[...] = rng.normal(size=(1, 1, 4, 8))
    for image, result in zip(x, block(x), strict=True):
        check("context block", np.abs(result - context_oracle(block, image)), 1e-5)
    mask = np.zeros((2, 9, 8, 1), bool)
    mask[:, :5, :7] = True
    wide = np.pad(x, ((0, 0), (0, 4), (0, 1), (0, 0)), constant_values=100.0)
    np.testing.assert_allclose(block(wide, jnp.asarray(mask))[:, :5, :7], block(x), atol=1e-5)


def test_impossible_context_blocks():
    with pytest.raises(ConfigError, match="context_stages is .* at least 50"):
        ModelConfig().replace({"backbone.depth": 18, "backbone.context_stages": (3,)})
    with pytest.raises(ConfigError, match="context_reduction is 600, but stage 3 has 512 channels"):
        ModelConfig().replace({"backbone.context_stages": (3,), "backbone.context_reduction": 600})
    with pytest.raises(UserError, match="its backbone has global context blocks"):
        export_settings(ModelConfig().replace({"backbone.context_stages": (5,)}), "torchvision")


@pytest.mark.parametrize(
    "change",
    [
        ("'ContextBlock'", "'NonLocal2d'"),
        ("'after_conv3'", "'after_conv2'"),
        ("ratio=0.25", "ratio=0.3"),
        ("ratio=0.25", "ratio=0.25, pooling_type='avg'"),
    ],
    ids=["type", "position", "ratio", "pooling"],
)
def test_other_plugins_are_refused(change, tmp_path):
    text, _ = export_settings(CASES["gcb"].config, "mmdet")
    assert change[0] in text
    (tmp_path / "config.py").write_text(text.replace(*change))
    with pytest.raises(UserError, match="backbone.plugins is .*; supported: None, or one 'ContextBlock'"):
        config_from_file(tmp_path / "config.py")


# -- Soft-NMS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("method='linear'", "method='cosine'"),
            "nms.method is 'cosine'; supported: 'linear' or",
        ),
        (("type='soft_nms'", "type='nms_match'"), "nms.type is 'nms_match'; supported: 'nms' or 'soft_nms'"),
        (("min_score=0.001", "min_score=-1"), "nms.min_score is -1; supported: numbers from 0 to 1"),
    ],
    ids=["method", "type", "score"],
)
def test_other_nms_is_refused(change, message, tmp_path):
    text, _ = export_settings(CASES["soft_nms"].config, "mmdet")
    assert change[0] in text
    (tmp_path / "config.py").write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "config.py")


# -- CARAFE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("type='carafe', up_kernel=5", "type='carafe', up_kernel=4"),
            "neck.upsample_cfg.up_kernel is 4; .* odd",
        ),
        (
            ("type='carafe', up_kernel=5", "type='nearest', up_kernel=5"),
            "neck.upsample_cfg.type is 'nearest'",
        ),
        (
            ("scale_factor=2", "scale_factor=2, up_group=2"),
            "mask_head.upsample_cfg.up_group is 2; supported: 1",
        ),
        (("scale_factor=2", "scale_factor=4"), "mask_head.upsample_cfg.scale_factor is 4; supported: 2"),
        (("out_channels=16", "order=('act', 'conv', 'norm'), out_channels=16"), "neck.order is "),
    ],
    ids=["even", "nearest", "groups", "factor", "order"],
)
def test_other_carafes_are_refused(change, message, tmp_path):
    text, _ = export_settings(CASES["carafe"].config, "mmdet")
    assert change[0] in text
    (tmp_path / "config.py").write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "config.py")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neck.kind": "carafe_fpn"}, "its neck is 'carafe_fpn', which no setting there describes"),
        ({"mask.upsample": "carafe"}, "its mask.upsample is 'carafe', which no"),
    ],
    ids=["neck", "masks"],
)
def test_other_libraries_have_no_carafe(change, message):
    for library, preset in (
        ("torchvision", "maskrcnn_resnet50_fpn"),
        ("detectron2", "mask_rcnn_R_50_FPN_3x"),
    ):
        with pytest.raises(UserError, match=message):
            export_settings(model_config(f"{library}/{preset}", **change), library)


# -- standardised kernels


@pytest.mark.slow
def test_standardised_kernels():
    """The mean and the unbiased standard deviation of all weights of an output."""
    kernel = np.random.default_rng(0).normal(2.0, 3.0, (3, 3, 4, 6)).astype(np.float32)
    flat = kernel.reshape(-1, 6).astype(np.float64)
    expected = (flat - flat.mean(0)) / (flat.std(0, ddof=1) + 1e-5)
    check("kernel", np.abs(standardised(jnp.asarray(kernel)).reshape(-1, 6) - expected), 1e-6)
    layer = ConvNorm(4, 32, 3, norm="gn_ws", rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 6, 6, 4)).astype(np.float32))
    before = layer(x)
    layer.conv.kernel[...] = 5 * layer.conv.kernel[...] + 1
    check("after a change of mean and size", np.abs(layer(x) - before), 1e-3)
    gradient = jax.grad(lambda kernel: standardised(kernel)[0, 0, 0].sum())(jnp.asarray(kernel))
    # Neither the sum of an output's weights nor their size matters.
    check("gradient", np.abs(gradient.sum((0, 1, 2))), 1e-6)


def test_convolutions_that_are_not_standardised_alike_are_refused(tmp_path):
    text, _ = export_settings(CASES["gn_ws"].config, "mmdet")
    (tmp_path / "config.py").write_text(text.replace("ConvWS", "ConvAWS"))
    with pytest.raises(UserError, match="backbone.conv_cfg.type is 'ConvAWS'; supported: no conv_cfg, or"):
        config_from_file(tmp_path / "config.py")
