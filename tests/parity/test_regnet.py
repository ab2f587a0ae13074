"""RegNets against Detectron2's and MMDetection's, under their pyramids; see `goldens/record_regnet.py`.

``pytest -s`` prints the largest error of each stage.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import random_model
from flax import nnx
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import (
    sampled,
    seeded_detectron2_regnet_weight,
    seeded_images,
    seeded_mmdet_weight,
    seeded_projection,
)

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.config.backbones import REGNETS, RegNetConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.convert.choice import fitting_presets
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.export import export_detector, export_settings
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.features import Backbone, Pass
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.layers import conv_norm
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.zoo.lookup import list_models, model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

GOLDEN = np.load(GOLDENS / "regnet.npz")
CANVAS, OWN = GOLDEN["canvas"], GOLDEN["own_canvas"]
SMALL = {
    "backbone.kind": "regnet",
    "backbone.w0": 16,
    "backbone.wa": 14.0,
    "backbone.wm": 2.0,
    "backbone.depth": 7,
    "backbone.group_width": 12,
    "neck.channels": 16,
}
VARIANTS = {
    "x": {"backbone.norm": "frozen_bn"},
    "y": {"backbone.norm": "bn", "neck.norm": "bn", "backbone.squeeze_ratio": 0.25},
    "mmdet": {"backbone.norm": "bn_eval"},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def path_of(name):
    """This library's path of an array of a backbone, typed in from the libraries' sources."""
    leaf = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    *parts, last = name.split(".")
    last = leaf[last]
    if parts[0] == "neck":  # neck.lateral_convs.0.conv
        return f"fpn.{'inner' if 'lateral' in parts[1] else 'layer'}_blocks.{parts[2]}.conv.{last}"
    if parts[1].startswith("fpn_"):  # backbone.fpn_lateral2.norm
        kind, number = ("inner", parts[1][11:]) if "lateral" in parts[1] else ("layer", parts[1][10:])
        norm = parts[2:] == ["norm"]
        last = last if not norm else last.replace("kernel", "scale")
        return f"fpn.{kind}_blocks.{int(number) - 2}.{'norm' if norm else 'conv'}.{last}"
    parts = parts[2:] if parts[1] == "bottom_up" else parts[1:]
    if parts[0][0] == "s" and parts[0] != "stem":  # s1.b1.f.a_bn
        layer, block, *rest = f"layer{parts[0][1:]}", int(parts[1][1:]) - 1, *parts[2:]
        known = {"proj": "downsample.conv", "bn": "downsample.bn", "a": "conv1", "b": "conv2", "c": "conv3",
                 "a_bn": "bn1", "b_bn": "bn2", "c_bn": "bn3"}  # fmt: skip
        squeeze = {"0": "squeeze.reduce", "2": "squeeze.expand"}
        place = squeeze[rest[-1]] if "se" in rest else known[rest[-1]]
        path = f"{layer}.{block}.{place}"
    else:
        path = ".".join(parts).replace("stem.conv", "conv1").replace("stem.bn", "bn1")
        path = path.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
    if "bn" in path.split(".")[-1]:
        last = last.replace("kernel", "scale")
    return f"body.{path}.{last}"


@functools.cache
def weights(variant):
    """The seeded arrays of a backbone and its pyramid, by the library's names."""
    make = seeded_mmdet_weight if variant == "mmdet" else seeded_detectron2_regnet_weight
    shapes = json.loads(str(GOLDEN[f"{variant}/names"]))
    wanted = {k: s for k, s in shapes.items() if k.startswith(("backbone.", "neck.")) and "tracked" not in k}
    return {name: make(name, tuple(shape)) for name, shape in wanted.items()}


def to_model(value):
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


@functools.cache
def parts(variant, remat=False):
    """A backbone with its pyramid: graph, parameters, other arrays."""
    config = ModelConfig().replace(SMALL | VARIANTS[variant] | {"compute.remat": remat})
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Backbone(config, rngs=nnx.Rngs(0))))
    arrays = {path_of(name): to_model(value) for name, value in weights(variant).items()}
    flat = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
    assert {k: v.shape for k, v in arrays.items()} == {k: v.shape for k, v in flat.items()}
    filled = [
        (path, variable.replace(jnp.asarray(arrays[".".join(map(str, path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.split(nnx.merge(graphdef, nnx.from_flat_state(filled)), nnx.Param, ...)


@functools.cache
def runner(variant, remat=False, train=False):
    """Maps, moved statistics, and gradients of a projection of the levels."""
    graphdef, params, rest = parts(variant, remat)

    def total(params, images, extents, factors):
        model = nnx.merge(graphdef, params, rest, copy=True)
        pass_ = Pass(extents, train=train)
        stem = conv_norm(model.body.conv1, model.body.bn1, images, None, False, relu=True)
        stages = model.body(images, pass_)
        levels = model.fpn(stages, pass_)
        maps = {"stem": stem} | {f"C{i}": x for i, x in enumerate(stages, 2)}
        maps |= {f"P{i}": x for i, x in enumerate(levels, 2)}
        value = sum((maps[name] * factor).sum() for name, factor in factors.items())
        return value, (maps, nnx.state(model, nnx.BatchStat))

    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    return lambda *arguments: run(params, *arguments)


def images():
    batch = np.zeros((2, *CANVAS, 3), np.float32)
    for out, (height, width) in zip(batch, GOLDEN["images"], strict=True):
        out[:height, :width] = seeded_images(int(height), int(width))[0]
    return batch


@functools.cache
def results(variant, case, remat=False):
    """Maps as the golden has them, gradients by path, and the statistics."""
    shapes = {f"P{i}": tuple(GOLDEN[f"{variant}/{case}/P{i}_shape"]) for i in range(2, 7)}
    factors = {name: seeded_projection(name, shape) for name, shape in shapes.items()}
    extents = np.tile(CANVAS, (2, 1))
    if case == "alone":
        # On the canvas of the pair and beside another image, whose levels no factor asks for.
        extents[1] = OWN
        for name, value in factors.items():
            wide = np.zeros((2, *-(-CANVAS // 2 ** int(name[1:])), value.shape[-1]), np.float32)
            wide[1:, : value.shape[1], : value.shape[2]] = value
            factors[name] = wide
    run = runner(variant, remat, case == "train")
    (_, (maps, statistics)), (gradient, of_input) = run(images(), extents, factors)
    gradient, statistics = (
        {".".join(map(str, p)): np.asarray(v[...]) for p, v in nnx.to_flat_state(state)}
        for state in (gradient, statistics)
    )
    maps, of_input = {k: np.asarray(v) for k, v in maps.items()}, np.asarray(of_input)
    if case == "alone":
        of_input = of_input[1:, : OWN[0], : OWN[1]]
        for name, value in maps.items():
            stride = 2 if name == "stem" else 2 ** int(name[1:])
            height, width = -(-OWN // stride)
            maps[name] = np.ascontiguousarray(value[1:, :height, :width])
    return maps, gradient, of_input, statistics


CASES = [("x", "pair", False), ("y", "alone", False),
         *(pytest.param(*case, marks=pytest.mark.slow)
           for case in (("x", "alone", False), ("y", "pair", False), ("mmdet", "pair", False),
                        ("mmdet", "alone", False), ("y", "train", False), ("y", "train", True),
                        ("x", "pair", True)))]  # fmt: skip
cases = pytest.mark.parametrize(("variant", "case", "remat"), CASES)


@pytest.mark.slow
@cases
def test_maps(variant, case, remat):
    for name, ours in results(variant, case, remat)[0].items():
        if name == "stem" and case == "train":  # computed without the batch's statistics
            continue
        theirs = GOLDEN[f"{variant}/{case}/{name}"]
        if theirs.ndim == 1:
            assert ours.shape == tuple(GOLDEN[f"{variant}/{case}/{name}_shape"])
            ours = sampled(name, ours, len(theirs))
        check(f"{variant} {case} {name}, relative", relative(ours, theirs), 1e-5)


@pytest.mark.slow
@cases
def test_gradients(variant, case, remat):
    _, gradient, of_input, _ = results(variant, case, remat)
    names = json.loads(str(GOLDEN[f"{variant}/{case}/gradient_names"]))
    assert {path_of(name) for name in names} == gradient.keys()
    for name, (*theirs, norm) in zip(names, GOLDEN[f"{variant}/{case}/gradients"], strict=True):
        ours, shape = gradient[path_of(name)], weights(variant)[name].shape
        ours = ours.transpose(3, 2, 0, 1) if len(shape) == 4 else ours
        check(f"{name}, norm", abs(np.linalg.norm(ours) / norm - 1), 1e-4)
        check(name, np.abs(sampled(name, ours, len(theirs)) - theirs) / np.abs(ours).max(), 1e-4)
    *theirs, norm = GOLDEN[f"{variant}/{case}/input_gradient"]
    check("input, norm", abs(np.linalg.norm(of_input) / norm - 1), 1e-4)
    check("input", relative(sampled("input", of_input, len(theirs)), theirs), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_statistics_of_a_batch(remat):
    """They move as torch's do, but for the variance's divisor, which is all cells here and one less there."""
    statistics = results("y", "train", remat)[3]
    values = iter(np.split(GOLDEN["y/train/statistics"], np.cumsum(
        [v.size for k, v in weights("y").items() if "running" in k])[:-1]))  # fmt: skip
    for name, before in weights("y").items():
        if "running" not in name:
            continue
        theirs, ours = next(values), statistics[path_of(name)]
        if name.endswith("var"):
            stage = path_of(name).split(".")
            stride = _stride_of(stage)
            count = 2 * np.prod(-(-CANVAS // stride))
            theirs = 0.9 * before + (theirs - 0.9 * before) * (count - 1) / count
        check(name, relative(ours, theirs), 1e-4)


def _stride_of(path):
    """Of the map that a norm layer sees."""
    if path[0] == "fpn":
        return 4 * 2 ** int(path[2])
    if path[1] == "bn1":
        return 2
    number = int(path[1][5:])
    return 2 ** (number if path[2] == "0" and path[3] == "bn1" else number + 1)


def test_stages():
    """Widths and blocks of the published models, typed in from the libraries' models."""
    expected = {
        "regnetx_400mf": ((32, 1), (64, 2), (160, 7), (384, 12)),
        "regnetx_800mf": ((64, 1), (128, 3), (288, 7), (672, 5)),
        "regnetx_1.6gf": ((72, 2), (168, 4), (408, 10), (912, 2)),
        "regnetx_3.2gf": ((96, 2), (192, 6), (432, 15), (1008, 2)),
        "regnetx_4.0gf": ((80, 2), (240, 5), (560, 14), (1360, 2)),
        "regnetx_6.4gf": ((168, 2), (392, 4), (784, 10), (1624, 1)),
        "regnetx_8.0gf": ((80, 2), (240, 5), (720, 15), (1920, 1)),
        "regnetx_12gf": ((224, 2), (448, 5), (896, 11), (2240, 1)),
        "regnety_4.0gf": ((128, 2), (192, 6), (512, 12), (1088, 2)),
    }
    for name, stages in expected.items():
        assert RegNetConfig(**REGNETS[name]).stages == stages
    levels = ModelConfig().replace(SMALL).backbone.levels
    assert [tuple(level) for level in levels] == [(4, 12), (8, 36), (16, 60), (32, 132)]


def test_hidden_channels_of_squeeze_and_excitation():
    """A quarter of the channels that the block's input has, not of its own."""
    config = ModelConfig(backbone=RegNetConfig(**REGNETS["regnety_4.0gf"]))
    body = nnx.eval_shape(lambda: Backbone(config, rngs=nnx.Rngs(0))).body
    hidden = [block.squeeze.reduce.bias.shape[0] for i in range(1, 5) for block in getattr(body, f"layer{i}")]
    assert hidden == [8, 32, 32, *[48] * 6, *[128] * 12, 272]


def test_numbers_that_make_other_stages_are_refused():
    with pytest.raises(ConfigError, match="give 1 stages; choose numbers that give 4"):
        RegNetConfig(wa=0)


@pytest.mark.parametrize("freeze_at", range(6))
def test_freeze_at(freeze_at):
    config = ModelConfig().replace(SMALL | {"backbone.norm": "bn", "backbone.freeze_at": freeze_at})
    model = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    body = nnx.state(model, trainable(model))["backbone"].get("body", {})
    layers = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    frozen = {"conv1", "bn1"} if freeze_at else set()
    assert set(body) == layers - frozen - {f"layer{i}" for i in range(1, freeze_at)}


# -- weights and settings of other libraries

PRESETS = {
    "x": "detectron2/mask_rcnn_regnetx_4gf_dds_fpn_1x",
    "y": "detectron2/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ",
    "mmdet": "mmdet/mask-rcnn_regnetx-3.2GF_fpn_1x_coco",
}
NUMBERS = {path: value for path, value in SMALL.items() if path != "backbone.kind"}


def detector(variant, **changes):
    """Library, configuration and arrays of the recorded detector."""
    library = "mmdet" if variant == "mmdet" else "detectron2"
    sizes = {"box.fc_dim": 32, "box.conv_dim": 16, "mask.dim": 16, **changes}
    config = model_config(PRESETS[variant], num_classes=3, **NUMBERS, **sizes)
    make = seeded_mmdet_weight if variant == "mmdet" else seeded_detectron2_regnet_weight
    shapes = json.loads(str(GOLDEN[f"{variant}/names"]))
    return library, config, {name: make(name, tuple(shape)) for name, shape in shapes.items()}


@pytest.mark.slow_except("y")
@variants
def test_names_go_both_ways(variant):
    """Every array of the detector has a place, and comes back bit by bit."""
    library, config, arrays = detector(variant)
    model = from_state_dict(arrays, config, library)
    body = nnx.to_flat_state(nnx.state(model.backbone))
    mine = {".".join(map(str, path)): np.asarray(v[...]) for path, v in body}
    for name, value in weights(variant).items():
        np.testing.assert_array_equal(mine[path_of(name)], to_model(value))
    back = to_state_dict(model, library)
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)


@variants
def test_a_file_is_loaded_with_a_configuration(variant, tmp_path):
    library, config, arrays = detector(variant)
    np.savez(tmp_path / "model.npz", **arrays)
    model, _ = load_detector(tmp_path / "model.npz", config)
    assert model.config == config.replace(label_order=LIBRARIES[library].label_order)
    if library == "detectron2":
        write_state_dict(tmp_path / "again.npz", to_state_dict(model, library), library)
    else:
        export_detector(model, tmp_path / "again.npz", library)
    with np.load(tmp_path / "again.npz") as again:
        assert set(again.files) == set(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(again[name], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    ["detectron2/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ"]
    + [
        pytest.param(name, marks=pytest.mark.slow if "400MF" not in name else ())
        for name in list_models()
        if "mmdet/mask-rcnn_regnet" in name
    ],
)
def test_arrays_show_which_network_it_is(preset):
    library, config = LIBRARIES[preset.split("/")[0]], model_config(preset)
    state = nnx.state(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
    paths = {".".join(map(str, path)): v for path, v in nnx.to_flat_state(state)}
    empty = {path: np.broadcast_to(np.float32(0), v.shape) for path, v in paths.items()}
    arrays = library.table(config).export(empty)
    shown = library.structure(arrays)
    assert shown == config_structure(config)
    assert shown["backbone"] == "regnet" and shown["backbone.w0"] == config.backbone.w0
    assert preset in fitting_presets(library, shown)


def test_detectron2_names_of_the_zoo():
    """Names and shapes of some arrays of mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ, as Detectron2 builds it."""
    config = model_config(PRESETS["y"])
    table = LIBRARIES["detectron2"].table(config)
    state = nnx.state(nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0))))
    shapes = {".".join(map(str, path)): v.shape for path, v in nnx.to_flat_state(state)}
    expected = {
        "stem.conv.weight": (3, 3, 3, 32),
        "s1.b1.f.se.f_ex.0.weight": (1, 1, 128, 8),
        "s3.b12.f.b.weight": (3, 3, 64, 512),
        "s4.b1.proj.weight": (1, 1, 512, 1088),
        "s4.b1.bn.running_var": (1088,),
        "s4.b2.f.c_bn.weight": (1088,),
        "s4.b2.f.se.f_ex.2.bias": (1088,),
    }
    for name, shape in expected.items():
        path, _ = table.translate(f"backbone.bottom_up.{name}")
        assert shapes[path] == shape, name


def test_mmdet_settings_go_both_ways(tmp_path):
    for name in [name for name in list_models() if name.startswith("mmdet") and "regnet" in name]:
        config = model_config(name)
        text, differences = export_settings(config, "mmdet")
        assert differences == () and "'RegNet'" in text
        size = name.split("regnetx-")[1].split("_")[0].split("-")[0].lower()
        size = {"4gf": "4.0gf", "8gf": "8.0gf"}.get(size, size)
        assert f"'regnetx_{size}'" in text
        (tmp_path / "config.py").write_text(text)
        assert config_from_file(tmp_path / "config.py") == config
    _, small, _ = detector("mmdet")
    text, differences = export_settings(small, "mmdet")
    assert differences == () and "w0=16" in text


REGNET_FILE = """
_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../_base_/datasets/coco_instance.py']
model = dict(
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True, type='RegNet', arch='regnetx_3.2gf', out_indices=(0, 1, 2, 3), frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://regnetx_3.2gf')),
    neck=dict(type='FPN', in_channels=[96, 192, 432, 1008], out_channels=256, num_outs=5))
"""


def test_an_mmdet_config_file(tmp_path):
    (tmp_path / "regnet.py").write_text(REGNET_FILE)
    assert config_from_file(tmp_path / "regnet.py", training=False) == model_config(PRESETS["mmdet"])
    (tmp_path / "other.py").write_text(REGNET_FILE.replace("regnetx_3.2gf'", "regnetx_5gf'", 1))
    with pytest.raises(UserError, match="backbone.arch is 'regnetx_5gf'; supported: a dictionary"):
        config_from_file(tmp_path / "other.py", training=False)


def test_libraries_without_such_networks():
    config = detector("x")[1]
    said = "torchvision cannot express this model: its backbone is 'regnet', which no setting there describes"
    with pytest.raises(UserError, match=said):
        export_settings(config.replace({"background": "first"}), "torchvision")
    # Detectron2 has them, but its yaml files do not.
    said = "Detectron2 cannot express this model: its backbone is 'regnet', which no setting there describes"
    with pytest.raises(UserError, match=said):
        export_settings(config, "detectron2")


@pytest.mark.parametrize("variant", ["y", "mmdet"])
def test_imagenet_weights(variant, tmp_path):
    library, config, arrays = detector(variant)
    prefix = "backbone." if variant == "mmdet" else "backbone.bottom_up."
    arrays = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    np.savez(tmp_path / "regnet.npz", **arrays, **{"head.fc.weight": np.zeros((10, 132))})
    model = random_model(config)
    report = load_backbone(model, tmp_path / "regnet.npz")
    assert "head.fc.weight" in report.ignored and report.warnings == ()
    body = {".".join(map(str, p)): v[...] for p, v in nnx.to_flat_state(nnx.state(model.backbone.body))}
    assert len(report.assigned) == len(body)
    for name, value in weights(variant).items():
        if name.startswith(prefix) and "fpn" not in name:
            np.testing.assert_array_equal(body[path_of(name).removeprefix("body.")], to_model(value))
