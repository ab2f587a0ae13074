"""The configuration as a tree of parts: paths, kinds, checks of every field, json, files of version 0.1."""

import dataclasses
import json
import re
import typing

import numpy as np
import pytest

from jaxmaskrcnn.config import (
    AnchorConfig,
    BoxConfig,
    BoxStageConfig,
    Config,
    ConfigError,
    ExtraConfig,
    FPNConfig,
    InputConfig,
    MaskConfig,
    MaskScoringConfig,
    ModelConfig,
    PointRendConfig,
    ResNetConfig,
    RPNConfig,
    paths,
    values,
)
from jaxmaskrcnn.config.json import config_from_json, config_to_json
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.version1 import PATHS, VALUES, from_flat
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import RESCALE_RULES
from jaxmaskrcnn.ops.masks.paste import PASTE_RULES
from jaxmaskrcnn.ops.resize import SIZE_RULES
from jaxmaskrcnn.ops.roi_align.levels import LEVEL_RULES
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.lookup import list_models, model_config

CONFIG = ModelConfig()
SETTINGS = {path: (value, expected) for path, value, expected in paths.settings(CONFIG)}


# -- paths


def test_settings_are_read_by_path():
    assert CONFIG.get("num_classes") == 90 and CONFIG.get("rpn") is CONFIG.rpn
    assert CONFIG.get("rpn.anchors.ratios") == (0.5, 1.0, 2.0)
    assert CONFIG.get("box.stages.0.foreground_iou") == 0.5
    assert CONFIG.get("backbone.kind") == "resnet" and CONFIG.get("mask.kind") == "fcn"
    assert CONFIG.replace({"mask": None}).get("mask.pool.size") is None
    for path, (value, _) in SETTINGS.items():
        assert CONFIG.get(path) == value


def test_a_copy_shares_what_does_not_change():
    changed = CONFIG.replace({"rpn.nms_threshold": 0.8, "rpn.anchors.rounding": False}, num_classes=2)
    assert (changed.rpn.nms_threshold, changed.rpn.anchors.rounding, changed.num_classes) == (0.8, False, 2)
    assert CONFIG.rpn.nms_threshold == 0.7 and CONFIG.num_classes == 90
    assert changed.backbone is CONFIG.backbone and changed.rpn.loss is CONFIG.rpn.loss
    assert CONFIG.replace() == CONFIG and CONFIG.replace({}) == CONFIG


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_replaced_and_no_other(path):
    """A value that the field can hold and does not have."""
    value, expected = SETTINGS[path]
    base, _ = values._split(expected)
    if typing.get_origin(base) is typing.Literal:
        other = next(choice for choice in typing.get_args(base) if choice != value)
    elif path == "backbone.dilated_c5" or path.endswith(
        ("loss.gamma", "loss.alpha", "loss.mitigation", "loss.compensation")
    ):
        return  # the outputs or the form change with it
    elif path == "box.class_loss.class_weights":
        other = (1.0, 2.0)
    elif path in ("backbone.deformable_stages", "backbone.context_stages"):
        other = (3, 5)
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, int):
        other = value + 32
    elif isinstance(value, float):
        other = value / 2 + 0.2
    elif path == "categories":
        other = tuple(Category(i, f"c{i}") for i in range(90))
    elif path == "extra":
        other = (ExtraConfig(name="depth"),)
    elif path == "build_model":
        other = "json:dumps"  # of a module that is imported
    elif path in (
        "heads",
        "trunk",
        "keypoints",
        "semantic",
        "box.federated",
        "mask.upsample",
        "extractor",
        "backbone.outputs",
    ) or path.endswith(".kind"):  # they change what other parts have to be
        return
    elif path == "rpn.anchors.sizes":
        other = tuple((2 * size,) for (size,) in value)
    elif path == "input.pixels.intensity_range":
        other = (0.0, 4095.0)
    else:
        other = tuple(x + 1 for x in value)
    changes = {path: other}
    if path == "input.pixels.intensity_range":
        changes["input.pixels.intensity"] = "range"
    if path == "input.pixels.channels":
        changes |= {f"input.{name}": (0.5,) * other for name in ("pixel_mean", "pixel_std")}
        changes["input.pixels.pages"] = "channels"
    if path == "input.resize_kernel":
        changes["input.normalise_before_resize"] = False
    changed = CONFIG.replace(changes)
    assert changed.get(path) == other and changed != CONFIG and hash(changed) != hash(CONFIG)
    differ = {p for p in SETTINGS if changed.get(p) != CONFIG.get(p)}
    assert differ == changes.keys()
    assert changed.replace({p: CONFIG.get(p) for p in changes}) == CONFIG
    assert config_from_json(config_to_json(changed)) == changed


def test_parts_are_replaced_by_parts_kinds_and_none():
    resnet = ResNetConfig(depth=18)
    assert CONFIG.replace({"backbone": resnet}).backbone is resnet
    assert CONFIG.replace({"backbone": resnet, "backbone.width": 8}).backbone == ResNetConfig(
        depth=18, width=8
    )
    # A kind that is there already stays as it is.
    narrow = CONFIG.replace({"backbone.width": 8})
    assert narrow.replace({"backbone": "resnet"}) == narrow.replace({"backbone.kind": "resnet"}) == narrow
    assert narrow.replace({"backbone.kind": "resnet", "backbone.depth": 18}).backbone.depth == 18
    boxes = CONFIG.replace({"mask": None})
    assert boxes.mask is None and boxes == CONFIG.replace({"mask": "none"}) == CONFIG.replace({"mask": False})
    assert boxes.replace({"mask": True}) == boxes.replace({"mask": "fcn"}) == CONFIG
    assert boxes.replace({"mask": "fcn", "mask.dim": 8}).mask == MaskConfig(dim=8)
    wide = CONFIG.replace({"mask.dim": 512})
    assert wide.replace({"mask": True}) == wide


def test_settings_within_tuples_of_parts():
    stages = (BoxStageConfig(), BoxStageConfig(foreground_iou=0.6))
    two = CONFIG.replace({"box.stages": stages})
    changed = two.replace(
        {"box.stages.1.foreground_iou": 0.7, "box.stages.0": BoxStageConfig(foreground_iou=0.4)}
    )
    assert [stage.foreground_iou for stage in changed.box.stages] == [0.4, 0.7]
    assert [path for path, _, _ in paths.settings(changed) if path.startswith("box.stages.1.")] == [
        "box.stages.1.foreground_iou",
        "box.stages.1.box_weights",
        "box.stages.1.loss_weight",
    ]
    assert paths.type_of(changed, "box.stages.1.foreground_iou") == values.Fraction
    assert config_from_json(config_to_json(changed)) == changed
    said = r"no setting box\.stages\.2; use an index of box\.stages from 0 to 1\."
    with pytest.raises(ConfigError, match=said):
        two.replace({"box.stages.2": BoxStageConfig()})
    with pytest.raises(ConfigError, match=r"There is no setting box\.stages\.9"):
        two.get("box.stages.9.foreground_iou")


def test_types_and_kinds():
    assert paths.type_of(CONFIG, "compute.remat") is bool
    assert paths.type_of(CONFIG, "rpn.batch_size") == values.Count
    assert paths.part_classes(paths.type_of(CONFIG, "mask")) == {
        "fcn": MaskConfig,
        "mask_scoring": MaskScoringConfig,
        "point_rend": PointRendConfig,
    }
    assert paths.part_classes(paths.type_of(CONFIG, "backbone"))["resnet"] is ResNetConfig
    assert paths.part_classes(paths.type_of(CONFIG, "neck"))["fpn"] is FPNConfig
    assert paths.part_classes(paths.type_of(CONFIG, "rpn")) == paths.part_classes(float) == {}
    with pytest.raises(ConfigError, match=r"mask is None, so mask\.dim cannot be set; set mask first"):
        paths.type_of(CONFIG.replace({"mask": None}), "mask.dim")


@pytest.mark.parametrize(
    "path, said",
    [
        ("rpn.nms_thresold", "There is no setting rpn.nms_thresold; did you mean rpn.nms_threshold"),
        ("foreground_iou", "did you mean rpn.foreground_iou or box.stages.0.foreground_iou?"),
        ("backbone.freez_at", "did you mean backbone.freeze_at"),
        ("nonsense", "There is no setting nonsense."),
        ("rpn.kind", "There is no setting rpn.kind"),
        ("rpn.batch_size.x", "There is no setting rpn.batch_size.x"),
        ("box.stages.first", "There is no setting box.stages.first"),
        ("levels", "There is no setting levels"),
        (
            "rpn_post_nms_test",
            "The setting rpn_post_nms_test is called rpn.post_nms_test now; use that name.",
        ),
        ("smooth_l1_beta", "is called rpn.loss.beta and box.loss.beta now; use these names."),
    ],
)
def test_names_that_do_not_exist(path, said):
    for call in (lambda: CONFIG.replace({path: 1}), lambda: model_config("jaxmaskrcnn/shapes", **{path: 1})):
        with pytest.raises(ConfigError) as error:
            call()
        assert said in str(error.value) and "\n" not in str(error.value)
    for call in (CONFIG.get, lambda path: paths.type_of(CONFIG, path)):
        with pytest.raises(ConfigError, match=re.escape(path.rsplit(".", 1)[-1])):
            call(path)


def test_what_cannot_be_put_in_the_place_of_a_part():
    boxes = CONFIG.replace({"mask": None})
    for config, changes, said in (
        (boxes, {"mask.dim": 8}, "mask is None, so mask.dim cannot be set; set mask first."),
        (CONFIG, {"mask": None, "mask.dim": 8}, "mask is None, so mask.dim cannot be set"),
        (CONFIG, {"backbone": "vgg"}, "backbone is 'vgg'; give 'resnet'"),
        (
            CONFIG,
            {"mask.kind": "point"},
            "mask is 'point'; give 'fcn' or 'mask_scoring' or 'point_rend' or None.",
        ),
        (CONFIG, {"backbone": None}, "backbone is None; give "),
        (CONFIG, {"rpn": MaskConfig()}, "rpn is MaskConfig("),
        (CONFIG, {"neck": ResNetConfig()}, "neck is ResNetConfig("),
    ):
        with pytest.raises(ConfigError) as error:
            config.replace(changes)
        assert said in str(error.value)


def test_no_kind_is_no_part_and_anything_else_is_refused():
    assert CONFIG.replace({"mask.kind": "none"}).mask is None
    for kind in (None, 3, ["resnet"]):
        with pytest.raises(ConfigError, match="^backbone is "):
            CONFIG.replace({"backbone.kind": kind})


ONE_LEVEL = {"backbone.outputs": (4,), "neck": None, "rpn.anchors.sizes": ((32.0, 64.0, 128.0),)}


@pytest.mark.parametrize(
    ("typed", "changes"),
    [
        ("backbone.outputs=4 neck=none rpn.anchors.sizes=(32,64,128),", ONE_LEVEL),
        (
            "neck.channels=64 backbone.w0=80 backbone=regnet rpn.anchors.sizes=8,16,32,64,128",
            {
                "neck.channels": 64,
                "backbone": "regnet",
                "backbone.w0": 80,
                "rpn.anchors.sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
            },
        ),
        (
            "rpn.anchors.sizes=(32,64,128), neck=none backbone.outputs=4 trunk=res5 mask.pool.size=7",
            {**ONE_LEVEL, "trunk": "res5", "mask.pool.size": 7},
        ),
        ("mask.kind=none neck.channels=64", {"mask": None, "neck.channels": 64}),
    ],
)
def test_parts_and_their_settings_are_typed_together(typed, changes):
    """What a model cannot be on the way to what is typed does not matter."""
    config = override(Config(), [f"--config.model.{text}" for text in typed.split()])
    assert config.model.architecture == Config().model.architecture.replace(changes)


def test_settings_of_a_part_that_is_typed_away():
    with pytest.raises(
        (ConfigError, UserError),
        match=r"--config\.model\.mask is None, so --config\.model\.mask\.dim cannot be set; set --config",
    ):
        override(Config(), ["--config.model.mask=none", "--config.model.mask.dim=8"])


# -- checks


@pytest.mark.parametrize("path", SETTINGS)
def test_every_field_refuses_what_it_cannot_hold_in_one_sentence(path):
    _, expected = SETTINGS[path]
    if path.endswith(".kind"):
        expected, path = paths.type_of(CONFIG, place := path.removesuffix(".kind")), place
    base, limits = values._split(expected)
    optional = (
        "extractor",
        "trunk",
        "keypoints",
        "semantic",
        "mask",
        "neck",
        "box.federated",
        "mask.upsample",
    )
    wrong = [object(), {}] + ([] if path in optional else [None])
    if typing.get_origin(base) is typing.Literal:
        wrong += ["nonsense", 99, True]
    if base is bool:
        wrong += [0, 1, "True"]
    if base in (int, float):
        wrong += ["3", True, float("nan"), float("inf")]
    if base is int:
        wrong += [1.5, 2.0]
    if isinstance(limits, values.Range):
        wrong += [limits.least - 1, *([limits.least] if limits.more else [])]
        wrong += [] if limits.most is None else [limits.most + 1]
    if typing.get_origin(base) is tuple:
        wrong += [3, "1,2", ["a"], [None]]
    for value in wrong:
        with pytest.raises(ConfigError) as error:
            CONFIG.replace({path: value})
        said = str(error.value)
        assert re.match(rf"{re.escape(path)} is .*; give .+\.$", said), said
        assert isinstance(error.value, UserError)


def test_values_are_plain_and_hashable():
    config = CONFIG.replace({
        "num_classes": np.int64(3), "rpn.nms_threshold": np.float32(0.5), "box.loss.beta": 1,
        "rpn.anchors.sizes": [16, 32, [64, ], np.float64(128), (256,)], "input.pixel_mean": [1, 2, 3],
    })  # fmt: skip
    assert type(config.num_classes) is int and type(config.rpn.nms_threshold) is float
    assert type(config.box.loss.beta) is float and config.input.pixel_mean == (1.0, 2.0, 3.0)
    assert config.rpn.anchors.sizes == ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    same = ModelConfig(
        num_classes=3, rpn=RPNConfig(nms_threshold=0.5, anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256))),
        box=BoxConfig().__class__(loss=dataclasses.replace(CONFIG.box.loss, beta=1.0)),
        input=InputConfig(pixel_mean=(1, 2, 3)),
    )  # fmt: skip
    assert config == same and hash(config) == hash(same) and len({config, same}) == 1
    assert config != CONFIG and ResNetConfig() != FPNConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.rpn.nms_threshold = 0.1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"input.resize_kernel": "pil"}, "InputConfig.normalise_before_resize is True, but the kernel 'pil'"),
        ({"categories": (Category(1, "a"),)}, "names 1 classes but num_classes is 90"),
        ({"rpn.anchors.sizes": (32, 64)}, "has 2 entries, but there are 5 levels, with the strides 4, 8, 16"),
        (
            {"rpn.anchors.ratios": ((1.0,), (2.0,))},
            "AnchorConfig.ratios has 2 groups and AnchorConfig.sizes 5",
        ),
        ({"rpn.anchors.sizes": (32, 64, (1, 2), 8, 9)}, "and the same number of anchors for each level"),
        ({"rpn.anchors.sizes": (32, 64, -1, 8, 9)}, "give positive numbers"),
        ({"rpn.anchors.ratios": ()}, "give positive numbers"),
    ],
)
def test_fields_that_do_not_fit_each_other(changes, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        CONFIG.replace(changes)


def test_levels_follow_the_parts():
    config = ModelConfig(backbone=ResNetConfig(depth=34, width=16), neck=FPNConfig(channels=24))
    assert config.backbone.levels == ((4, 16), (8, 32), (16, 64), (32, 128))
    assert config.levels == tuple((stride, 24) for stride in (4, 8, 16, 32, 64))
    assert config.pooled_levels == config.levels[:4]


# -- texts of a command line


@pytest.mark.parametrize(
    "text, expected, value",
    [
        ("3", int, 3), ("-3", int, -3), ("3", float, 3.0), ("1e-3", float, 1e-3), ("8", values.Count, 8),
        ("true", bool, True), ("False", bool, False), ("1", bool, True), ("0", bool, False),
        ("", str, ""), ("a,b", str, "a,b"), ("12", str, "12"),
        ("bgr", typing.Literal["rgb", "bgr"], "bgr"), ("2", typing.Literal[0, 1, 2], 2),
        ("1,2", tuple[int, ...], (1, 2)), ("1", tuple[int, ...], (1,)), ("", tuple[int, ...], ()),
        ("(1, 2)", tuple[int, ...], (1, 2)), ("[1,2]", tuple[float, ...], (1.0, 2.0)),
        ("1,2,3", tuple[float, float, float], (1.0, 2.0, 3.0)),
        ("a.*,*.b", tuple[str, ...], ("a.*", "*.b")), ("('a', 'b')", tuple[str, ...], ("a", "b")),
        ("'a'", tuple[str, ...], ("a",)), ("[ab].*,c", tuple[str, ...], ("[ab].*", "c")),
        ("16,(32,64)", tuple[tuple[float, ...], ...], ((16.0,), (32.0, 64.0))),
        ("0.5,1", AnchorConfig.__dataclass_fields__["ratios"].type, (0.5, 1.0)),
        ("(0.5,1),(1,2)", AnchorConfig.__dataclass_fields__["ratios"].type, ((0.5, 1.0), (1.0, 2.0))),
        ("none", int | None, None), ("4", int | None, 4),
    ],
)  # fmt: skip
def test_texts_are_read_by_type(text, expected, value):
    read = values.parse(text, expected, "x")
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    "text, expected, said",
    [
        ("many", int, "x is 'many'; give a whole number."),
        ("1.5", int, "give a whole number."),
        ("True", float, "give a number."),
        ("nan", float, "give a number."),
        ("1e999", float, "give a number."),
        ("yes", bool, "give True or False."),
        ("hsv", typing.Literal["rgb", "bgr"], "give 'rgb' or 'bgr'."),
        ("True", typing.Literal[0, 1], "give 0 or 1."),
        ("0", values.Count, "give a whole number of at least 1."),
        ("2", values.Fraction, "give a number from 0 to 1."),
        ("0", values.Positive, "give a number above 0."),
        ("1,a", tuple[int, ...], "give whole numbers separated by commas."),
        ("1,2", tuple[float, float, float], "give 3 values: a number, a number, a number."),
        ("1,", tuple[str, str], "x is '1,'; give 2 values"),
        ("('a', 3)", tuple[str, ...], "give strings separated by commas."),
        ("(3)", tuple[str, ...], "give strings separated by commas."),
        ("{[]: 1}", int, "give a whole number."),
        ("(" * 500, int, "give a whole number."),
        ("x", int | None, "give a whole number or None."),
    ],
)
def test_texts_that_are_no_such_value(text, expected, said):
    with pytest.raises(ConfigError) as error:
        values.parse(text, expected, "x")
    assert str(error.value).endswith(said) or said in str(error.value)


def test_every_setting_of_a_run_can_be_typed():
    for path, value, expected in paths.settings(Config()):
        if not path.startswith("model.architecture."):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert values.parse(text, expected, path) == value, path


# -- json


def test_presets_come_back_from_json():
    for name in list_models():
        config = model_config(name)
        again = config_from_json(config_to_json(config))
        assert again == config and hash(again) == hash(config), name


# All presets of an architecture have the same settings, and a change of each takes a millisecond.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if i % 16 == 0 else pytest.mark.slow)
        for i, name in enumerate(list_models())
    ],
)
def test_a_setting_replaced_by_itself_changes_nothing(name):
    config = model_config(name)
    for path, value, _ in paths.settings(config):
        assert config.replace({path: value}) == config, path


def test_the_json_is_the_tree():
    content = json.loads(config_to_json(CONFIG.replace({"mask": None})))
    assert content["format_version"] == 2 and content["config"]["mask"] is None
    assert content["config"]["backbone"] | {"kind": "resnet", "depth": 50} == content["config"]["backbone"]
    assert content["config"]["box"]["stages"] == [
        {"foreground_iou": 0.5, "box_weights": [10.0, 10.0, 5.0, 5.0], "loss_weight": 1.0}
    ]


def test_json_of_other_releases():
    """What a text lacks has its default; what is unknown is named."""

    def changed(change):
        content = json.loads(config_to_json(CONFIG))
        change(content["config"])
        return json.dumps(content)

    assert config_from_json(changed(lambda c: c["rpn"].pop("ranking"))) == CONFIG
    assert config_from_json(changed(lambda c: c.pop("compute"))) == CONFIG
    for change, said in (
        (lambda c: c["rpn"].update(speed=3), "settings unknown to this release: rpn.speed; update"),
        (lambda c: c["backbone"].update(kind="vgg"), "backbone is a 'vgg', unknown to this release; update"),
        (
            lambda c: c["rpn"].update(batch_size=0),
            "RPNConfig.batch_size is 0; give a whole number of at least 1",
        ),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            config_from_json(changed(change), "model.json")


# -- version 0.1


def flat_json(**fields):
    return json.dumps({"format": "jaxmaskrcnn model", "format_version": 1, "config": fields})


def test_every_old_name_leads_to_settings_that_exist():
    for name, places in PATHS.items():
        assert places, name
        for path in places:
            paths.type_of(CONFIG, path)
    # Each setting of before has one name, and what is new has none.
    places = [path for paths_ in PATHS.values() for path in paths_]
    assert len(places) == len(set(places))
    own = {"num_classes", "categories", "background"}
    # What is new since: several anchor sizes a level, models without a pyramid, pictures of 16 bits and large
    # ones.
    new = {"rpn.anchors.order", "backbone.kind", "backbone.outputs", "box.average", "trunk", "keypoints"}
    new |= {
        f"input.pixels.{name}"
        for name in ("channels", "pages", "intensity", "intensity_range", "page", "max_pixels")
    }
    # Losses beside those of version 0.1, and hard examples.
    new |= {path for path in SETTINGS if path.startswith(("box.class_loss.", "mask.loss."))} | {
        "regions.sampling"
    }
    # A model of one's own.
    new |= {"heads", "extra", "build_model"}
    # Labels in the order of a list, and the arithmetic of Detectron and maskrcnn-benchmark.
    new |= {
        "label_order",
        "rpn.anchors.base",
        "rpn.anchors.offset",
        "box.pool.inclusive",
        "mask.pool.inclusive",
    }
    # Cascades, and MMDetection's border.
    new |= {"box.stage_gradient", "box.stage_scores", "box.stages.0.loss_weight", "mask.heads"}
    new |= {"regions.empty_boxes", "regions.later_stages", "rpn.border", "rpn.batch_padding"}
    # Panoptic FPN.
    new |= {"semantic", "detections.nms_scope"}
    # Deformable and dilated stages.
    new |= {"backbone.dilated_c5"}
    new |= {f"backbone.deformable_{name}" for name in ("stages", "masks", "groups")}
    # Global context blocks.
    new |= {"backbone.context_stages", "backbone.context_reduction"}
    # Mask heads of several kinds, and the boxes that they learn from.
    new |= {"mask.kind", "regions.head_boxes"}
    # Necks of several kinds, and ConvNeXts' losses.
    new |= {"neck.kind", "neck.norm_epsilon", "box.loss.form", "box.loss.weight"}
    # matterport's models.
    new |= {
        "box_edges", "input.placement", "input.padding", "backbone.conv_bias", "backbone.pool_padding",
        "rpn.conv_dim", "rpn.objectness", "rpn.box_weights", "rpn.nms_scope", "rpn.empty_boxes", "rpn.clip",
        "box.pool.method", "mask.pool.method", "box.fc_norm", "box.norm_epsilon", "mask.norm_epsilon",
        "mask.conv_bias", "detections.classes_per_region",
    }  # fmt: skip
    # GRoIE.
    new |= {"extractor"}
    # Soft-NMS.
    new |= {"detections.nms_method", "detections.nms_sigma", "detections.nms_min_score"}
    # CARAFE in the mask head.
    new |= {"mask.upsample"}
    # LVIS' losses.
    new |= {"box.scores", "box.federated"}
    # The seesaw loss' models.
    new |= {"box.cosine_scale", "mask.cosine_scale"}
    # Losses of the region proposal network.
    new |= {f"rpn.loss.{x}" for x in ("form", "weight", "objectness", "gamma", "alpha", "objectness_weight")}
    # Models of one's own.
    new |= {"heads", "extra", "build_model"}
    assert SETTINGS.keys() - set(places) - own == new


def test_old_files_are_read_to_the_right_places():
    config = config_from_json(flat_json(
        num_classes=2, categories=[{"id": 3, "name": "a"}, {"id": 5, "name": "b"}], background="last",
        backbone_depth=101, freeze_at=1, fpn_channels=64, anchor_sizes=[8, 16, 32, 64, 128], rpn_convs=2,
        delta_clamp="both", iou_epsilon=1e-6, crowd_regions="drop", roi_foreground_iou=0.6,
        box_weights=[1, 2, 3, 4], roi_sampling_ratio=0, head_norm="gn", smooth_l1_beta=0.5, box_pool_size=5,
        mask_pool_size=10, class_agnostic_masks=True, score_threshold=0.2, nms_threshold=0.4,
        detections_per_image=7, dtype="bfloat16", mask_head=True, roi_low_quality=True,
        rpn_low_quality="reassign",
    ))  # fmt: skip
    assert config.categories == (Category(3, "a"), Category(5, "b")) and config.background == "last"
    assert (config.backbone.depth, config.backbone.freeze_at, config.neck.channels) == (101, 1, 64)
    assert config.rpn.anchors.sizes == ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))
    assert config.rpn.convs == 2 and config.rpn.delta_clamp == config.box.delta_clamp == "both"
    assert config.rpn.iou_epsilon == config.regions.iou_epsilon == 1e-6
    assert config.rpn.crowd == config.regions.crowd == "drop"
    assert config.box.stages == (BoxStageConfig(foreground_iou=0.6, box_weights=(1, 2, 3, 4)),)
    assert config.box.pool.sampling_ratio == config.mask.pool.sampling_ratio == 0
    assert (config.box.pool.size, config.mask.pool.size) == (5, 10)
    assert config.box.norm == config.mask.norm == "gn" and config.neck.norm == config.rpn.norm == "none"
    assert config.rpn.loss.beta == config.box.loss.beta == 0.5 and config.mask.class_agnostic
    assert (config.detections.score_threshold, config.detections.nms_threshold) == (0.2, 0.4)
    assert config.rpn.nms_threshold == 0.7 and config.detections.per_image == 7
    assert config.compute.dtype == "bfloat16"
    assert config.rpn.low_quality == config.regions.low_quality == "reassign"


def test_old_files_of_models_without_masks_and_without_low_quality_matches():
    config = config_from_json(flat_json(
        mask_head=False, mask_dim=16, mask_pool_size=7, head_norm="gn", roi_scale="stride",
        roi_low_quality=False, rpn_low_quality="reassign",
    ))  # fmt: skip
    assert config.mask is None and config.box.norm == "gn" and config.box.pool.scale == "stride"
    assert (config.rpn.low_quality, config.regions.low_quality) == ("reassign", "none")
    assert config_from_json(flat_json()) == CONFIG
    assert config_from_json(flat_json(roi_low_quality=True)).regions.low_quality == "label"


@pytest.mark.parametrize("name", sorted(set(PATHS) - {"mask_head", "roi_low_quality"}))
def test_every_old_field_alone(name):
    """What today's setting holds, under the name of before, comes back, and nothing else changes."""
    changed = model_config("mmdet/mask-rcnn_r50-caffe_fpn_1x_coco").replace(num_classes=90, categories=())
    value = changed.get(PATHS[name][0])
    changes = from_flat({name: value})
    assert changes == dict.fromkeys(PATHS[name], value)
    needed = {"input.normalise_before_resize": False} if name == "resize_kernel" else {}
    assert CONFIG.replace(changes | needed).get(PATHS[name][-1]) == value


@pytest.mark.parametrize(
    ("library", "preset"),
    [
        ("torchvision", "torchvision/maskrcnn_resnet50_fpn"),
        ("detectron2", "detectron2/mask_rcnn_R_50_FPN_3x"),
        ("mmdet", "mmdet/mask-rcnn_r50-caffe_fpn_1x_coco"),
    ],
)
def test_old_rules_named_after_libraries(library, preset):
    """A file of then has the rules of the library's presets; MMDetection pastes as Detectron2 does."""
    paste = "detectron2" if library == "mmdet" else library
    rules = {"size_rule": library, "roi_level_rule": library, "rescale_rule": library, "paste_rule": paste}
    config, expected = config_from_json(flat_json(**rules)), model_config(preset)
    for path in (path for name in rules for path in PATHS[name]):
        assert config.get(path) == expected.get(path), path


def test_old_rules_lead_to_the_choices_of_now_and_others_are_refused():
    for name, now in VALUES.items():
        for path in PATHS[name]:
            new = {"truncate_long_side", "multiply_inclusive", "whole_pixels_inclusive"}
            new |= {"enlarge", "rounded", "last_pixels", "whole_boxes"}
            assert sorted(now.values()) == sorted(set(typing.get_args(SETTINGS[path][1])) - new)
    with pytest.raises(UserError, match="size_rule is 'caffe'"):
        config_from_json(flat_json(size_rule="caffe"))


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        ("input.size_rule", SIZE_RULES),
        ("box.pool.level_rule", LEVEL_RULES),
        ("detections.rescale_rule", RESCALE_RULES),
        ("detections.paste_rule", PASTE_RULES),
    ],
)
def test_a_setting_has_the_rules_of_its_function(path, rules):
    choices = typing.get_args(SETTINGS[path][1])
    assert choices == tuple(rules)
    with pytest.raises(ConfigError, match=".*".join(map(re.escape, ("'torchvision'", *choices)))):
        CONFIG.replace({path: "torchvision"})


def test_old_files_with_names_that_nobody_knows():
    with pytest.raises(UserError, match=r"model\.json: There is no setting speed"):
        config_from_json(flat_json(speed=3), "model.json")
