"""ImageNet weights into the backbone: names, strictness, and warnings about conventions."""

import logging
import pickle
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import flat
from flax import nnx
from folders import ROOT

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.features import Backbone
from jaxmaskrcnn.models.norm import FrozenStat
from jaxmaskrcnn.zoo.lookup import model_config

CHECKPOINTS = ROOT / ".." / "shared" / "checkpoints"
TINY = ModelConfig().replace({"backbone.depth": 18, "backbone.width": 8, "neck.channels": 8})
TINY_50 = TINY.replace({"backbone.depth": 50})
RESNEXT = TINY_50.replace({"backbone.groups": 4, "backbone.width_per_group": 32})
WIDE = TINY_50.replace({"backbone.width_per_group": 128})


class Holder(nnx.Module):
    """The part of a detector that is loaded, and one that must not be touched."""

    def __init__(self, config):
        self.config = config
        self.backbone = Backbone(config, rngs=nnx.Rngs(0))


def make(config):
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: Holder(config)))
    return nnx.merge(graphdef, jax.tree.map(lambda x: jnp.full(x.shape, 7, x.dtype), shapes))


def torchvision_state(config, seed=0):
    """A ResNet's state dict written down from the paper's table, not from this library's modules."""
    rng = np.random.default_rng(seed)
    state = {}

    def conv(name, out, into, size):
        state[f"{name}.weight"] = rng.standard_normal((out, into, size, size)).astype(np.float32)

    def norm(name, features):
        for part in ("weight", "bias", "running_mean"):
            state[f"{name}.{part}"] = rng.standard_normal(features).astype(np.float32)
        state[f"{name}.running_var"] = rng.uniform(0.5, 2, features).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(5)

    width = config.backbone.width
    bottleneck = config.backbone.depth >= 50
    conv("conv1", width, 3, 7)
    norm("bn1", width)
    into = width
    counts = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[config.backbone.depth]
    groups, per_group = config.backbone.groups, config.backbone.width_per_group
    for stage, count in enumerate(counts):
        out = width * 2**stage * (4 if bottleneck else 1)
        # ResNeXt and wide ResNet: in stage 1, each group has per_group channels of a stem of 64.
        inner = width * 2**stage * per_group * groups // 64 if bottleneck else out
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            layers = [(inner, into, 1), (inner, inner // groups, 3), (out, inner, 1)]
            if not bottleneck:
                layers = [(inner, into, 3), (inner, inner, 3)]
            for k, (features, previous, size) in enumerate(layers, start=1):
                conv(f"{name}.conv{k}", features, previous, size)
                norm(f"{name}.bn{k}", features)
            if block == 0 and into != out:
                conv(f"{name}.downsample.0", out, into, 1)
                norm(f"{name}.downsample.1", out)
            into = out
    state["fc.weight"] = rng.standard_normal((10, into)).astype(np.float32)
    state["fc.bias"] = np.zeros(10, np.float32)
    return state


def detectron2_state(config, seed=0):
    """The same arrays under Detectron2's names."""
    renamed = {}
    for name, value in torchvision_state(config, seed).items():
        parts = name.split(".")
        if parts[-1] == "num_batches_tracked":
            continue
        if parts[0] == "fc":
            parts[0] = "stem.fc"
        elif parts[0] == "conv1":
            parts[0] = "stem.conv1"
        elif parts[0] == "bn1":
            parts[0] = "stem.conv1.norm"
        else:
            parts[0] = f"res{int(parts[0][-1]) + 1}"
            if parts[2] == "downsample":
                parts[2:4] = ["shortcut"] if parts[3] == "0" else ["shortcut.norm"]
            elif parts[2].startswith("bn"):
                parts[2] = f"conv{parts[2][-1]}.norm"
        renamed[".".join(parts)] = value
    return renamed


def write_npz(path, state):
    np.savez(path, **state)
    return path


def write_pkl(path, state, **beside):
    path.write_bytes(pickle.dumps({"model": state, **beside}, protocol=2))
    return path


def check(model, state):
    """Each array is the state's, in Flax's order of axes, by names spelled out here."""
    arrays = flat(model.backbone.body)
    words = {"weight": "scale", "running_mean": "mean", "running_var": "var", "bias": "bias"}
    seen = set()
    for name, value in state.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        stem, word = name.rsplit(".", 1)
        stem = stem.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
        target = f"{stem}.{words[word]}"
        if value.ndim == 4:
            target, value = f"{stem}.kernel", np.einsum("oihw->hwio", value)
        np.testing.assert_array_equal(arrays[target], value, err_msg=name)
        seen.add(target)
    assert seen == set(arrays)


@pytest.mark.slow_except("resnet50-frozen_bn")
@pytest.mark.parametrize(
    "norm", ["frozen_bn", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("bn", "bn_eval"))]
)
@pytest.mark.parametrize(
    "config", [TINY, TINY_50, RESNEXT, WIDE], ids=["resnet18", "resnet50", "resnext", "wide_resnet"]
)
def test_every_array_gets_its_value(tmp_path, config, norm):
    config = config.replace({"backbone.norm": norm})
    state = torchvision_state(config)
    for file in (
        write_npz(tmp_path / "tv.npz", state),
        write_pkl(tmp_path / "d2.pkl", detectron2_state(config), __author__="MSRA", matching_heuristics=True),
    ):
        model = make(config)
        before = flat(model.backbone.fpn)
        report = load_backbone(model, file)
        check(model, state)
        for name, value in flat(model.backbone.fpn).items():
            np.testing.assert_array_equal(value, before[name])
        body = {f"backbone.body.{name}" for name in flat(model.backbone.body)}
        assert set(report.assigned) == body and len(report.assigned) == len(body)
        assert report.layout == ("torchvision" if file.suffix == ".npz" else "Detectron2")
        assert all("fc." in name or "num_batches_tracked" in name for name in report.ignored)
    kinds = {type(v) for path, v in nnx.to_flat_state(nnx.state(model.backbone.body)) if path[-1] == "scale"}
    assert kinds == ({FrozenStat} if norm == "frozen_bn" else {nnx.Param})


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "backbone.body.", "module.backbone.body.", "model.", "_orig_mod."]
)
def test_prefixes_of_torchvision_names(tmp_path, prefix):
    state = torchvision_state(TINY)
    model = make(TINY)
    load_backbone(model, write_npz(tmp_path / "a.npz", {prefix + name: v for name, v in state.items()}))
    check(model, state)


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize(
    "prefix, state_of, pyramid",
    [("body.", "torchvision", "fpn.inner_blocks.0.0"), ("bottom_up.", "detectron2", "fpn_lateral2")],
)
def test_a_resnet_with_its_pyramid(tmp_path, wrapper, prefix, state_of, pyramid):
    """The state dict of a library's backbone module: neither a detector nor a ResNet alone."""
    state = torchvision_state(TINY)
    named = state if state_of == "torchvision" else detectron2_state(TINY)
    arrays = {wrapper + prefix + name: value for name, value in named.items()}
    arrays |= {
        f"{wrapper}{pyramid}.{kind}": np.zeros((8, 8, 1, 1)[:n]) for kind, n in (("weight", 4), ("bias", 1))
    }
    file, model = write_npz(tmp_path / "a.npz", arrays), make(TINY)
    report = load_backbone(model, file)
    check(model, state)
    assert {f"{wrapper}{pyramid}.weight", f"{wrapper}{pyramid}.bias"} <= set(report.ignored)
    with pytest.raises(
        UserError, match=rf"holds a ResNet with a pyramid \({len(arrays)} arrays\) but no heads"
    ):
        load_detector(file)


@pytest.mark.parametrize("prefix", ["backbone.bottom_up.", "module.backbone.bottom_up.", "bottom_up."])
def test_prefixes_of_detectron2_names(tmp_path, prefix):
    model = make(TINY)
    state = {prefix + name: v for name, v in detectron2_state(TINY).items()}
    load_backbone(model, write_npz(tmp_path / "a.npz", state))
    check(model, torchvision_state(TINY))


def test_a_whole_detector_gives_its_backbone(tmp_path):
    others = {
        "backbone.fpn_lateral2.weight": np.zeros((8, 8, 1, 1)),
        "proposal_generator.rpn_head.conv.weight": np.zeros((8, 8, 3, 3)),
        "roi_heads.box_head.fc1.weight": np.zeros((4, 4)),
        "pixel_mean": np.zeros((3, 1, 1)),
    }
    state = {f"backbone.bottom_up.{name}": v for name, v in detectron2_state(TINY).items()}
    model = make(TINY)
    report = load_backbone(model, write_npz(tmp_path / "a.npz", {**others, **state}))
    check(model, torchvision_state(TINY))
    assert set(others) <= set(report.ignored)

    others = {
        f"module.{name}": np.zeros(1) for name in ("backbone.fpn.inner_blocks.0.0.bias", "rpn.head.conv.bias")
    }
    state = {f"module.backbone.body.{name}": v for name, v in torchvision_state(TINY).items()}
    load_backbone(make(TINY), write_npz(tmp_path / "b.npz", {**state, **others}))


def test_half_precision_and_other_floats_become_float32(tmp_path):
    state = torchvision_state(TINY)
    model = make(TINY)
    load_backbone(model, write_npz(tmp_path / "a.npz", {n: v.astype(np.float16) for n, v in state.items()}))
    arrays = flat(model.backbone.body)
    assert {v.dtype for v in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["bn1.scale"], state["bn1.weight"].astype(np.float16))


def test_one_error_lists_every_mismatch_and_nothing_is_loaded(tmp_path):
    state = torchvision_state(TINY)
    del state["layer2.1.bn2.bias"], state["layer4.0.downsample.1.running_var"]
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"][:5]
    state["bn1.weight"] = state["bn1.weight"][None]
    state["layer5.0.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    state["layer1.7.bn1.bias"] = np.zeros(8, np.float32)
    state["head.weight"] = np.zeros(3, np.float32)
    model = make(TINY)
    path = write_npz(tmp_path / "a.npz", state)
    with pytest.raises(UserError) as error:
        load_backbone(model, path)
    message = str(error.value)
    assert message.startswith(f"{path} does not fit a ResNet-18 of width 8; nothing was loaded.")
    for name in (
        "layer2.1.bn2.bias", "layer4.0.downsample.bn.var", "layer3.0.conv1.kernel (3, 3, 16, 32)",
        "(5, 16, 3, 3)",
        "bn1.scale (8,)", "layer5.0.conv1.weight", "layer1.7.bn1.bias", "head.weight",
    ):  # fmt: skip
        assert name in message, name
    assert "layer1.0" not in message
    assert all((value == 7).all() for value in flat(model).values())


def test_another_depth_or_width_does_not_fit(tmp_path):
    path = write_npz(tmp_path / "a.npz", torchvision_state(TINY))
    with pytest.raises(UserError, match="does not fit a ResNet-50"):
        load_backbone(make(TINY_50), path)
    with pytest.raises(UserError, match="with another shape"):
        load_backbone(make(TINY.replace({"backbone.width": 16})), path)


def test_arrays_with_and_without_prefix_are_not_mixed(tmp_path):
    state = {f"backbone.{name}": v for name, v in torchvision_state(TINY).items()}
    state["layer1.0.conv1.weight"] = state["backbone.layer1.0.conv1.weight"] + 1
    with pytest.raises(UserError, match=r"layer1.0.conv1.weight \(without the prefix 'backbone.'\)"):
        load_backbone(make(TINY), write_npz(tmp_path / "a.npz", state))
    both = {**torchvision_state(TINY), **{f"module.{n}": v for n, v in torchvision_state(TINY).items()}}
    with pytest.raises(UserError, match="holds 2 ResNets, with the prefixes '', 'module.'"):
        load_backbone(make(TINY), write_npz(tmp_path / "b.npz", both))


def test_files_that_are_no_resnet(tmp_path):
    with pytest.raises(UserError, match="neither Detectron2's ResNet names .*, but features.0.weight"):
        load_backbone(make(TINY), write_npz(tmp_path / "a.npz", {"features.0.weight": np.zeros(3)}))
    with pytest.raises(UserError, match="does not exist"):
        load_backbone(make(TINY), tmp_path / "none.npz")


def test_group_norm_models_are_refused(tmp_path):
    path = write_npz(tmp_path / "a.npz", torchvision_state(TINY))
    config = TINY.replace({"backbone.norm": "gn", "backbone.width": 32})
    with pytest.raises(UserError, match='backbone.norm "gn"'):
        load_backbone(make(config), path)


def caffe2_state(config, kind="bn"):
    """The same arrays under Caffe2's names, where batch norm is affine and nothing else."""
    branches = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    renamed = {"pred_w": np.zeros((1000, 8)), "conv1_b": np.zeros(8), "conv1_w_momentum": np.zeros(3)}
    for name, value in detectron2_state(config).items():
        words = {"weight": "w", "bias": "b"}
        parts = name.split(".")
        if "running" in name or "fc" in parts:
            continue
        if parts[0] == "stem":
            layer = "conv1" if len(parts) == 3 or kind == "gn" else "res_conv1"
        else:
            layer = f"{parts[0]}_{parts[1]}_{branches[parts[2]]}"
        if "norm" in parts:
            layer, words = f"{layer}_{kind}", {"weight": "s", "bias": "b"}
        renamed[f"{layer}_{words[parts[-1]]}"] = value
    return renamed


@pytest.mark.parametrize("nested", [False, True])
def test_caffe2_names(tmp_path, nested):
    state = caffe2_state(TINY_50)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"blobs": state} if nested else state, protocol=2))
    model = make(TINY_50)
    report = load_backbone(model, path)
    assert report.layout == "Detectron2" and "MSRA" in report.warnings[0]
    expected = torchvision_state(TINY_50)
    for name in expected:
        if name.endswith("running_mean"):
            expected[name] = np.zeros_like(expected[name])
        elif name.endswith("running_var"):
            expected[name] = np.ones_like(expected[name])
    check(model, expected)


@pytest.mark.slow
def test_group_norm_weights(tmp_path):
    config = TINY_50.replace({"backbone.norm": "gn", "backbone.width": 32})
    expected = {k: v for k, v in torchvision_state(config).items() if "running" not in k}
    for path in (
        write_npz(tmp_path / "caffe2.npz", caffe2_state(config, "gn")),
        write_npz(
            tmp_path / "detectron2.npz",
            {k: v for k, v in detectron2_state(config).items() if "running" not in k},
        ),
    ):
        model = make(config)
        load_backbone(model, path)
        check(model, expected)
    with pytest.raises(UserError, match="has no batch norm statistics"):
        load_backbone(make(config.replace({"backbone.norm": "bn"})), path)


def test_variance_of_zero_needs_an_epsilon(tmp_path):
    state = torchvision_state(TINY)
    state["layer1.0.bn1.running_var"][3] = 0
    path = write_npz(tmp_path / "a.npz", state)
    load_backbone(make(TINY), path)
    with pytest.raises(UserError, match="norm_epsilon to 1e-5"):
        load_backbone(make(TINY.replace({"backbone.norm_epsilon": 0.0})), path)


def tiny(preset, **changes):
    return model_config(preset).replace({"backbone.width": 8, "neck.channels": 8, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "changes", "author", "words"),
    [
        ("detectron2/mask_rcnn_R_50_FPN_1x", {}, "MSRA", ()),
        ("mmdet/mask-rcnn_r50-caffe_fpn_1x_coco", {}, "MSRA", ()),
        ("mmdet/mask-rcnn_r50_fpn_1x_coco", {}, None, ()),
        ("torchvision/maskrcnn_resnet50_fpn", {"backbone.norm_epsilon": 1e-5}, None, ()),
        ("torchvision/maskrcnn_resnet50_fpn", {"backbone.norm_epsilon": 1e-5}, "torchvision", ()),
        ("torchvision/maskrcnn_resnet50_fpn", {}, None, ("norm_epsilon=1e-5",)),
        (
            "torchvision/maskrcnn_resnet50_fpn",
            {"backbone.norm_epsilon": 1e-5},
            "MSRA",
            ("backbone.stride_in_1x1=True", "input.channel_order='bgr'", "pixel_scale", "detectron2/*"),
        ),
        (
            "detectron2/mask_rcnn_R_50_FPN_1x",
            {},
            None,
            ("backbone.stride_in_1x1=False", "input.channel_order='rgb'", "pixel_std", "torchvision/*"),
        ),
        ("detectron2/mask_rcnn_R_50_FPN_1x", {}, "torchvision", ("stride in the 3x3",)),
        (
            "detectron2/mask_rcnn_R_50_FPN_1x",
            {"backbone.stride_in_1x1": False},
            "MSRA",
            ("stride in the 1x1",),
        ),
    ],
)
def test_warnings_about_conventions(tmp_path, caplog, preset, changes, author, words):
    """``author``: that of a Detectron2 file, or None for a torchvision file."""
    config = tiny(preset, **changes)
    path = tmp_path / "a.npz"
    if author is None:
        write_npz(path, torchvision_state(config))
    else:
        path = write_pkl(tmp_path / "a.pkl", detectron2_state(config), __author__=author)
    with caplog.at_level(logging.WARNING):
        report = load_backbone(make(config), path)
    logged = " ".join(record.message for record in caplog.records)
    assert bool(report.warnings) == bool(caplog.records) == bool(words)
    for word in words:
        assert word in logged


def test_basic_blocks_have_no_stride_to_misplace(tmp_path):
    config = tiny("detectron2/mask_rcnn_R_50_FPN_1x", **{"backbone.depth": 18})
    report = load_backbone(make(config), write_npz(tmp_path / "a.npz", torchvision_state(config)))
    assert "stride" not in " ".join(report.warnings)


@pytest.mark.slow
@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="no folder shared/checkpoints beside the checkout")
def test_real_imagenet_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["expand.py", str(tmp_path)])  # a script reads its arguments there
    runpy.run_path(str(CHECKPOINTS / "expand.py"))
    model = make(model_config("detectron2/mask_rcnn_R_50_FPN_1x"))
    report = load_backbone(model, tmp_path / "R-50.pkl")
    assert (len(report.assigned), report.ignored, report.warnings) == (265, (), ())
    source = read_checkpoint(tmp_path / "R-50.pkl")
    np.testing.assert_array_equal(
        flat(model.backbone.body)["layer3.5.conv2.kernel"],
        source["res4.5.conv2.weight"].transpose(2, 3, 1, 0),
    )
    detector = load_backbone(model, tmp_path / "model_final.pkl")
    assert len(detector.assigned) == 265 and len(detector.ignored) == 42
