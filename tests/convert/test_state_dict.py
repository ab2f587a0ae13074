"""Name tables of whole detectors: round trips, strictness, prefixes, and the structure they show."""

import functools

import numpy as np
import pytest
from conversion_helpers import TORCH
from detectors import flat, random_model, small_config

from jaxmaskrcnn.config import FPNConfig, ModelConfig, PoolConfig
from jaxmaskrcnn.config.paths import part_classes, type_of
from jaxmaskrcnn.convert.libraries import LIBRARIES, recognise
from jaxmaskrcnn.convert.state_dict import fill_detector, from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import backbone_prefix, config_structure, part_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.names.tables import CONV, DECONV, LINEAR, Row, Table, flattened

GN = {
    "backbone.norm": "gn",
    "neck.norm": "gn",
    "box.norm": "gn",
    "mask.norm": "gn",
    "box.convs": 2,
    "box.fcs": 1,
}
WIDE = {"backbone.width": 32, "neck.channels": 32, "box.conv_dim": 32, "mask.dim": 32}  # 32 groups
VARIANTS = {
    "plain": {},
    "faster": {"mask": None},
    "batch_norm": {
        "backbone.norm": "bn",
        "neck.norm": "bn",
        "box.norm": "bn",
        "mask.norm": "bn",
        "box.convs": 2,
        "box.fcs": 1,
        "rpn.convs": 2,
    },
    "two_fcs_behind_convs": {"box.convs": 1, "box.fcs": 2, "mask.convs": 3},
    "agnostic": {"box.class_agnostic": True, "mask.class_agnostic": True},
    "resnext": {"backbone.depth": 50, "backbone.groups": 4, "backbone.width_per_group": 32},
    "one_class": {"num_classes": 1},
    "one_class_agnostic": {"num_classes": 1, "box.class_agnostic": True, "mask.class_agnostic": True},
    "box_norm_alone": {"box.norm": "bn", "box.convs": 1, "box.fcs": 1},
    "mask_norm_alone": {"mask.norm": "bn", "box.convs": 2, "box.fcs": 3, "rpn.convs": 3},
    "convs_without_fcs": {"box.convs": 2, "box.fcs": 0},
    "several_anchors": {"rpn.anchors.sizes": tuple((8.0 * 2**i, 12.0 * 2**i) for i in range(5))},
}
CASES = [(library, variant) for library in TORCH for variant in VARIANTS] + [
    (library, "group_norm") for library in ("detectron2", "mmdet")
]


def config_of(library: str, variant: str) -> ModelConfig:
    changes = GN | WIDE if variant == "group_norm" else VARIANTS[variant]
    background = "first" if library == "torchvision" else "last"
    return small_config(**{"background": background, "box.conv_dim": 8, **changes})


@functools.cache
def _random_arrays(library: str, variant: str) -> dict[str, np.ndarray]:
    arrays = to_state_dict(random_model(config_of(library, variant)), library)
    rng = np.random.default_rng(1)
    return {
        name: a if a.dtype == np.int64 else rng.standard_normal(a.shape, np.float32)
        for name, a in arrays.items()
    }


def random_arrays(library: str, variant: str = "plain") -> tuple[dict[str, np.ndarray], ModelConfig]:
    """A source library's arrays with random values, and the configuration."""
    return dict(_random_arrays(library, variant)), config_of(library, variant)


@pytest.mark.parametrize(("library", "variant"), CASES)
def test_there_and_back_bit_for_bit(library, variant):
    arrays, config = random_arrays(library, variant)
    filled = fill_detector(arrays, config, library)
    assert set(filled.assigned) == set(flat(filled.model)) and not filled.left
    assert set(filled.ignored) == {name for name in arrays if name.endswith("num_batches_tracked")}
    back = to_state_dict(filled.model, library)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and back[name].flags.c_contiguous
        np.testing.assert_array_equal(back[name], array, err_msg=name)


@pytest.mark.parametrize(("library", "variant"), CASES)
def test_the_arrays_show_their_structure(library, variant):
    arrays, config = random_arrays(library, variant)
    assert LIBRARIES[library].structure(arrays) == config_structure(config)


# What a model with the part has to have beside it.
BESIDE = {
    "simple_pyramid": {"backbone": "vit"},
    "vit": {"neck": "simple_pyramid"},
}


@pytest.mark.parametrize("place", ["backbone", "neck", "rpn", "box", "mask"])
def test_every_part_has_its_names_and_tells_its_settings(place):
    expected = type_of(ModelConfig(), place)
    for part_class in part_classes(expected).values() or [expected]:
        beside = BESIDE.get(getattr(part_class, "kind", ""), {})
        names, config = names_file(part_class), ModelConfig().replace({**beside, place: part_class()})
        known = set()
        for library in LIBRARIES:
            arguments = (backbone_prefix(library, FPNConfig()),) if place == "backbone" else ()
            if names.names(library, part_class(), *arguments).rows:
                known.add(library)
        # Every library has the usual parts; Detectron2, MMDetection or both have each of the others.
        usual = type(getattr(ModelConfig(), place)) is part_class
        assert known == set(LIBRARIES) if usual else known & {"detectron2", "mmdet"}, part_class
        found = names.structure(config)
        assert found and all(path == "num_classes" or path.startswith(f"{place}.") for path in found)


def test_parts_from_what_arrays_show():
    shown = config_structure(config_of("mmdet", "faster"))
    assert shown["backbone"] == "resnet" and shown["mask"] is None
    assert part_of(shown, "backbone").depth == 18 and part_of(shown, "mask") is None
    shown = config_structure(config_of("mmdet", "plain"))
    assert part_of(shown, "mask").convs == 1


def test_arrays_without_a_backbone():
    arrays, _ = random_arrays("mmdet")
    arrays = {name: array for name, array in arrays.items() if not name.startswith("backbone.")}
    said = "the checkpoint has no known backbone; give a detector with one of these: resnet."
    with pytest.raises(UserError, match=said):
        LIBRARIES["mmdet"].structure(arrays)


def test_a_part_without_names_is_in_no_library():
    with pytest.raises(UserError, match="PoolConfig has no array names for other libraries"):
        names_file(PoolConfig())


def test_a_depth_that_no_resnet_has():
    arrays, _ = random_arrays("torchvision")
    arrays = {k: v for k, v in arrays.items() if "layer3.1" not in k}
    with pytest.raises(UserError, match="2, 2, 1, 2 basic blocks"):
        LIBRARIES["torchvision"].structure(arrays)


@pytest.mark.parametrize("library", TORCH)
def test_a_layer_that_every_detector_has_is_named_where_it_is_missing(library):
    arrays, _ = random_arrays(library)
    path = "box_head.cls_score.bias"
    table = LIBRARIES[library].table(config_of(library, "plain"))
    arrays = {name: a for name, a in arrays.items() if (table.translate(name) or [""])[0] != path}
    with pytest.raises(UserError, match="has no array for box_head.cls_score.bias"):
        LIBRARIES[library].structure(arrays)


@pytest.mark.parametrize("library", TORCH)
def test_strict_in_both_directions(library):
    arrays, config = random_arrays(library)
    names = list(arrays)
    lost, reshaped = names[3], next(n for n in names[20:] if arrays[n].ndim == 4)
    arrays["roi_heads.extra.weight"] = np.zeros(3, np.float32)
    arrays[reshaped] = np.zeros((2, 2, 1), np.float32)  # another number of axes as well
    missing = LIBRARIES[library].table(config).translate(lost)[0]
    del arrays[lost]
    with pytest.raises(UserError) as error:
        from_state_dict(arrays, config, library)
    text = str(error.value)
    assert "1 without a value in the file:\n  " + missing in text
    assert "1 in the file without a place in the model:\n  roi_heads.extra.weight" in text
    assert "1 with another shape:" in text and reshaped in text


def test_another_number_of_classes():
    arrays, config = random_arrays("detectron2")
    wanted = config.replace(num_classes=7)
    with pytest.raises(UserError, match="6 with another shape"):
        from_state_dict(arrays, wanted, "detectron2")
    filled = fill_detector(arrays, wanted, "detectron2", allow_new_heads=True)
    heads = ("box_head.cls_score", "box_head.bbox_pred", "mask_head.logits")
    assert sorted(filled.left) == sorted(f"{h}.{part}" for h in heads for part in ("kernel", "bias"))
    values = flat(filled.model)
    assert values["box_head.cls_score.kernel"].shape == (8, 8)
    assert 0.005 < values["box_head.cls_score.kernel"].std() < 0.02  # initialised, not zero
    assert not values["box_head.cls_score.bias"].any()
    back = to_state_dict(filled.model, "detectron2")
    name = "roi_heads.mask_head.deconv.weight"
    np.testing.assert_array_equal(back[name], arrays[name])


def test_new_heads_are_no_excuse_for_other_layers():
    arrays, config = random_arrays("mmdet")
    arrays["roi_head.bbox_head.shared_fcs.1.weight"] = np.zeros((4, 8), np.float32)
    with pytest.raises(UserError, match="1 with another shape:\n  box_head.fcs.1.kernel"):
        fill_detector(arrays, config.replace(num_classes=7), "mmdet", allow_new_heads=True)


def test_what_older_files_hold_besides():
    arrays, config = random_arrays("detectron2")
    besides = {
        "pixel_mean": np.zeros((3, 1, 1), np.float32),
        "pixel_std": np.ones((3, 1, 1), np.float32),
        "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4), np.float32),
    }
    assert set(fill_detector(arrays | besides, config, "detectron2").ignored) == set(besides)


@pytest.mark.parametrize("library", TORCH)
@pytest.mark.parametrize("prefix", ["", "module.", "module.model.", "_orig_mod.", "net.", "student.my_net."])
def test_the_library_is_recognised_behind_a_prefix(library, prefix):
    arrays, _ = random_arrays(library)
    found, stripped, removed = recognise({prefix + name: a for name, a in arrays.items()}, "a file")
    assert found.name == library and stripped.keys() == arrays.keys() and removed == prefix


def test_names_before_a_prefix_are_not_taken_for_those_behind_it():
    arrays, config = random_arrays("torchvision")
    mixed = {f"module.{name}": a for name, a in arrays.items()}
    mixed["rpn.head.cls_logits.bias"] = mixed.pop("module.rpn.head.cls_logits.bias")
    _, stripped, _ = recognise(mixed, "a file")
    with pytest.raises(UserError, match=r"cls_logits.bias \(without the prefix 'module.'\)"):
        from_state_dict(stripped, config, "torchvision")


def test_two_detectors_in_a_file():
    arrays, _ = random_arrays("mmdet")
    both = {f"{prefix}{name}": a for name, a in arrays.items() for prefix in ("model.", "ema_model.")}
    with pytest.raises(UserError, match="2 detectors, with the prefixes 'model.', 'ema_model.'"):
        recognise(both, "a file")


@pytest.mark.parametrize(("library", "background"), [("torchvision", "last"), ("mmdet", "first")])
def test_another_order_of_classes_is_not_exported(library, background):
    model = random_model(small_config(background=background))
    with pytest.raises(UserError, match=f"its background class comes {background}"):
        to_state_dict(model, library)


def test_transforms_against_what_the_layers_compute():
    """Linear maps with integer entries: any wrong order of axes gives other numbers."""
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 3, 3, 5)).astype(np.float64)  # [N, y, x, C]
    weight = rng.integers(-4, 5, (7, 5 * 9)).astype(np.float64)  # torch: [out, (C, y, x)]
    expected = x.transpose(0, 3, 1, 2).reshape(2, -1) @ weight.T
    np.testing.assert_array_equal(x.reshape(2, -1) @ flattened(3).to_model(weight), expected)

    # A transposed convolution adds x[i] * weight[i, o] at (2 y + a, 2 x + b).
    weight = rng.integers(-4, 5, (5, 6, 2, 2)).astype(np.float64)
    expected = np.zeros((2, 6, 6, 6))
    for y, column, a, b in np.ndindex(3, 3, 2, 2):
        expected[:, 2 * y + a, 2 * column + b] += x[:, y, column] @ weight[:, :, a, b]
    kernel = DECONV.to_model(weight)
    ours = np.einsum("nhwi,abio->nhawbo", x, kernel).reshape(2, 6, 6, 6)
    np.testing.assert_array_equal(ours, expected)

    weight = rng.integers(-4, 5, (4, 5, 3, 3)).astype(np.float64)
    expected = np.einsum("nhwc,ochw->no", x, weight)  # a 3x3 convolution at the centre
    np.testing.assert_array_equal(np.einsum("nhwc,hwco->no", x, CONV.to_model(weight)), expected)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [(CONV, (4, 5, 3, 2)), (LINEAR, (4, 5)), (DECONV, (4, 5, 2, 2)), (flattened(3), (4, 45))],
)
def test_transforms_have_inverses(transform, shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(transform.to_source(transform.to_model(x)), x)


def test_an_array_with_two_names_in_a_file():
    table = Table([Row("new.{i}", "layer.{i}"), Row("old.{i}", "layer.{i}", alias=True)], {}, [])
    with pytest.raises(UserError, match=r"1 with two values:\n  layer.0 \(from new.0 and old.0\)"):
        table.assign({"new.0": np.zeros(2), "old.0": np.zeros(2)}, {"layer.0": (2,)}, "x")
    assert list(table.export({"layer.0": np.zeros(2)})) == ["new.0"]


def test_arrays_that_a_library_has_no_names_for_are_listed():
    with pytest.raises(UserError, match=r"no names for these arrays of the model:\n  a.b\n  c$"):
        Table([], {}, []).export({"a.b": np.zeros(1), "c": np.zeros(1)})
