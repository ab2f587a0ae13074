"""Every setting refuses what it cannot hold when it is set, in one sentence; so do parts that do not fit."""

import re
import typing

import numpy as np
import pytest

from jaxmaskrcnn.config import BoxStageConfig, Config, ModelConfig, RegNetConfig, Res5Config, paths, values
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.errors import UserError

C4 = ModelConfig().replace(
    {
        "backbone.outputs": (4,),
        "neck": None,
        "trunk": Res5Config(),
        "rpn.anchors.sizes": ((32.0, 64.0),),
        "mask.pool.size": 7,
    }
)
MODELS = (ModelConfig(), ModelConfig(backbone=RegNetConfig()), C4)
OF_MODELS = {path: (model, kind) for model in MODELS for path, _, kind in paths.settings(model)}
OF_RUNS = {
    path: kind for path, _, kind in paths.settings(Config()) if not path.startswith("model.architecture.")
}
NUMBERS = (float("nan"), -1, -1.0, 1e30, int(1e30), np.float64("inf"))
NO_LIMIT = "any size; what a sensible value is depends on the other settings"
# What is accepted of NUMBERS, and why.
ACCEPTED = {
    ("input.pixel_scale", 1e30): NO_LIMIT,
    ("input.pixel_mean", -1): "a mean may be negative",
    ("input.pixel_mean", 1e30): NO_LIMIT,
    ("input.pixel_std", 1e30): NO_LIMIT,
    ("box.stages.0.box_weights", 1e30): NO_LIMIT,
    ("rpn.box_weights", 1e30): NO_LIMIT,
    ("box.norm_epsilon", 1e30): NO_LIMIT,
    ("box.cosine_scale", 1e30): NO_LIMIT,
    ("mask.cosine_scale", 1e30): NO_LIMIT,
    ("mask.norm_epsilon", 1e30): NO_LIMIT,
    ("data.intensity_range", -1): "values of float pictures may be negative",
    ("data.page", -1): "the page that the model's own setting names",
    ("input.pixels.page", -1): "files with several pages are refused",
    ("rpn.border", -1): "all anchors are learnt from",
    ("box.stages.0.loss_weight", 1e30): NO_LIMIT,
    ("backbone.norm_epsilon", 1e30): NO_LIMIT,
    ("neck.norm_epsilon", 1e30): NO_LIMIT,
    ("box.loss.weight", 1e30): NO_LIMIT,
    ("box.class_loss.class_weights", 1e30): NO_LIMIT,
    ("box.class_loss.background_weight", 1e30): NO_LIMIT,
    ("box.class_loss.weight", 1e30): NO_LIMIT,
    ("mask.loss.cross_entropy", 1e30): NO_LIMIT,
    ("mask.loss.dice", 1e30): NO_LIMIT,
    ("mask.loss.boundary", 1e30): NO_LIMIT,
    ("rpn.nms_threshold", 1e30): "above 1 nothing is suppressed",
    ("detections.nms_threshold", 1e30): "above 1 nothing is suppressed",
    ("detections.nms_sigma", 1e30): "as if no boxes overlapped",
    ("rpn.min_side", 1e30): "everything is left out",
    ("detections.min_side", 1e30): "everything is left out",
    ("rpn.iou_epsilon", 1e30): NO_LIMIT,
    ("regions.iou_epsilon", 1e30): NO_LIMIT,
    ("rpn.loss.beta", 1e30): NO_LIMIT,
    ("rpn.loss.weight", 1e30): NO_LIMIT,
    ("rpn.loss.objectness_weight", 1e30): NO_LIMIT,
    ("box.loss.beta", 1e30): NO_LIMIT,
    ("data.gamma", 1e30): NO_LIMIT,
    ("data.weights", 1e30): NO_LIMIT,
    ("optimizer.learning_rate", 1e30): NO_LIMIT,
    ("optimizer.weight_decay", 1e30): NO_LIMIT,
    ("optimizer.clip_norm", 1e30): "as if it were off",
    ("optimizer.clip_value", 1e30): "as if it were off",
    ("optimizer.trust_coefficient", 1e30): NO_LIMIT,
    ("optimizer.noise", 1e30): NO_LIMIT,
    ("optimizer.noise_decay", 1e30): "noise at the first step alone",
    ("optimizer.power", 1e30): NO_LIMIT,
    ("train.epochs", 1e30): NO_LIMIT,
}


def give(path, value):
    """Set a model's or a run's setting."""
    if path in OF_RUNS or path == "model.architecture":
        place, _, name = path.rpartition(".")
        setattr(paths.get_path(Config(), place), name, value)
    else:
        model, _ = OF_MODELS.get(path, (ModelConfig(), None))
        model.replace({path: value})


def base_of(path):
    kind = OF_RUNS[path] if path in OF_RUNS else OF_MODELS[path][1]
    return values._split(kind)[0]


def refusal(call, *arguments):
    """The sentence with which a call is refused."""
    with pytest.raises(UserError) as error:
        call(*arguments)
    said = str(error.value)
    assert said.endswith((".", "?")) and "\n" not in said and len(said) < 500
    return said


@pytest.mark.parametrize("path", [*OF_RUNS, *OF_MODELS])
def test_wrong_types(path):
    base = base_of(path)
    wrong = [object(), {}, {1}, b"1", 1j, [object()], [[[]]], np.zeros((2, 2))]
    wrong += [] if base is str else ["nonsense", ""]
    wrong += [] if type(None) in typing.get_args(base) else [None]
    wrong += [] if base is bool else [True, False] if type(None) not in typing.get_args(base) else [3]
    if path in ("mask.kind", "neck.kind"):  # a model may have none, and True is the usual one
        wrong = [value for value in wrong if value is not None and not isinstance(value, bool)]
    if path == "data.intensity":
        wrong = [value for value in wrong if not isinstance(value, str) or value]
    for value in wrong:
        assert path.removesuffix(".kind") in refusal(give, path, value), value


@pytest.mark.parametrize("path", [*OF_RUNS, *OF_MODELS])
def test_numbers(path):
    """Numbers for settings that are numbers, and for one of the numbers of those that are several."""
    base = base_of(path)
    several = len(typing.get_args(base)) if typing.get_origin(base) is tuple else 0
    several = 3 if path in ("input.pixel_mean", "input.pixel_std") else several  # as pictures have channels
    for number in NUMBERS:
        value = (number, *[1.0] * (several - 1)) if several else number
        whole = base is int and isinstance(number, float)  # -1.0 is not a whole number, though it equals -1
        if not whole and (path, number) in ACCEPTED:
            give(path, value)
            continue
        said = refusal(give, path, value)
        # What several settings give together is named by the class that has them.
        name = path.rsplit(".", 1)[-1]
        assert path.removesuffix(".kind") in said or re.match(rf"\w+Config.*\b{name}\b", said), number


def test_the_table_of_what_is_accepted_has_no_row_too_many():
    assert {path for path, _ in ACCEPTED} <= OF_RUNS.keys() | OF_MODELS.keys()


@pytest.mark.parametrize(
    "path, value, said",
    [
        ("data.flip", 7, "data.flip is 7; give a number from 0 to 1."),
        ("data.batch_size", -1, "data.batch_size is -1; give a whole number of at least 0."),
        ("data.min_sizes", (), "data.min_sizes is (); give one or more whole numbers"),
        ("data.canvases", (64, 96, 64), "data.canvases is (64, 96, 64); give heights and widths in turn"),
        ("data.jitter_scale", (2, 1), "data.jitter_scale is (2, 1); give the smallest and the largest scale"),
        ("data.intensity_range", (9, 1), "data.intensity_range is (9, 1); give two ascending numbers"),
        ("data.crop", 0, "data.crop is 0; give a number above 0 and at most 1."),
        ("data.rotate", 181, "data.rotate is 181; give a number from 0 to 180."),
        ("data.shapes.size", 8, "data.shapes.size is 8; give a whole number from 32 to 4096."),
        (
            "optimizer.schedule",
            "foo",
            "optimizer.schedule is 'foo'; give 'step' or 'cosine' or 'constant' or ",
        ),
        ("optimizer.momentum", 1, "optimizer.momentum is 1; give a number of at least 0 and below 1."),
        ("optimizer.decay_steps", (8, 8), "optimizer.decay_steps is (8, 8); give ascending whole numbers"),
        ("optimizer.groups", ("a:x",), "optimizer.groups has 'a:x'; write PATTERN:FACTOR"),
        (
            "train.parallel",
            "foo",
            "train.parallel is 'foo'; give 'auto' or 'jit' or 'pmap' or 'shard_map' or 'sharded'.",
        ),
        ("model.num_classes", -1, "model.num_classes is -1; give a whole number of at least 0."),
        ("model.architecture", "resnet", "model.architecture is 'resnet'; give a ModelConfig."),
        ("num_classes", -1, "num_classes is -1; give a whole number of at least 1."),
        ("rpn.batch_size", 2**31, "give a whole number of at least 1, at most 2147483647."),
        ("detections.mask_threshold", 1.5, "detections.mask_threshold is 1.5; give a number from 0 to 1."),
        ("box.stages", (), "box.stages is (); give one or more BoxStageConfig"),
        ("backbone.outputs", (5, 4), "backbone.outputs is (5, 4); give some of "),
        ("backbone.deformable_stages", (5, 4), "backbone.deformable_stages is (5, 4); give none or some of "),
    ],
)
def test_sentences(path, value, said):
    assert said in refusal(give, path, value)


def test_a_number_that_python_does_not_write():
    assert "num_classes is a value of the type int that cannot be shown; give" in refusal(
        give, "num_classes", 10**5000
    )


def test_a_value_that_is_refused_is_not_kept():
    config = Config()
    for name, value in (("groups", ("a",)), ("momentum", 2), ("schedule", "foo")):
        before = getattr(config.optimizer, name)
        refusal(setattr, config.optimizer, name, value)
        assert getattr(config.optimizer, name) == before


def test_names_that_a_section_does_not_have():
    assert "no setting data.batchsize; did you mean data.batch_size" in refusal(
        setattr, Config().data, "batchsize", 4
    )
    assert "There is no setting optimiser" in refusal(setattr, Config(), "optimiser", Config().optimizer)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("data.flip=7", "--config.data.flip is '7'; give a number from 0 to 1."),
        ("model.num_classes=-1", "--config.model.num_classes is '-1'; give a whole number of at least 0."),
        ("model.box.stages=", "--config.model.box.stages is ''; give one or more BoxStageConfig"),
        ("model.box.stages.²=1", "There is no setting --config.model.box.stages.²; use an index of "),
        (
            "model.rpn.anchors.sizes.0.0=1",
            "no setting --config.model.rpn.anchors.sizes.0.0; --config.model.rpn",
        ),
        ("model.rpn.nms_thresold=1", "did you mean --config.model.rpn.nms_threshold?"),
        ("model.mask=none model.mask.dimm=1", "There is no setting --config.model.mask.dimm; did you mean"),
        ("model.rpn_post_nms_test=1", "is called --config.model.rpn.post_nms_test now; use that name."),
        ("model.categories=cat,dog", "--config.model.categories cannot be set, as a run has the categories"),
        ("model.rpn.background_iou=0.9", "--config: RPNConfig.background_iou is 0.9 and foreground_iou 0.7"),
        (
            "model.mask=none model.mask.kind=fcn",
            "--config.model.mask is 'none' and --config.model.mask.kind is",
        ),
        ("train.patience=3", "--config: train.patience counts evaluations, but train.eval_every is 0"),
        ("optimizer.nesterov=true optimizer.momentum=0", "--config: optimizer.nesterov needs momentum"),
        ("data.jitter_scale=0.5,2", "--config: data.jitter_scale is (0.5, 2.0) but data.jitter_size is 0"),
        ("data.intensity=range", "--config: PixelConfig.intensity is 'range' and intensity_range is ()"),
        ("data.device_resize=true data.crop=0.5", "--config: data.device_resize leaves images to the device"),
        ("optimizer.groups=a", "--config.optimizer.groups has 'a'; write PATTERN:FACTOR"),
        ("model.mask.=none", "There is no setting --config.model.mask.; remove the dot at the end"),
        ("train.=3", "There is no setting --config.train."),
    ],
)
def test_flags_are_named_as_they_are_typed(flags, said):
    assert said in refusal(override, Config(), [f"--config.{flag}" for flag in flags.split()])


@pytest.mark.parametrize(
    "changes, fields, said",
    [
        ([1], {}, "[1] does not say which settings to change; give values by path"),
        ("num_classes", {}, "'num_classes' does not say which settings to change"),
        ({3: 1}, {}, "{3: 1} does not say which settings to change"),
        ({"num_classes": 3}, {"num_classes": 4}, "num_classes is given as 3 and as 4; give it once."),
        (
            {"backbone": "resnet", "backbone.kind": "regnet"},
            {},
            "backbone is 'resnet' and backbone.kind is 'regnet'",
        ),
        ({"rpn.anchors.sizes.0.0": 3}, {}, "rpn.anchors.sizes is a value, which is set as a whole."),
        ({"rpn.nms_threshold.x": 3}, {}, "no setting rpn.nms_threshold.x; rpn.nms_threshold is a value"),
        (
            {"box.stages.²": 3},
            {},
            "There is no setting box.stages.²; use an index of box.stages from 0 to 0.",
        ),
        ({"box.stages.-1": 3}, {}, "There is no setting box.stages.-1; use an index"),
        ({"box.stages.0": 3}, {}, "box.stages is (3,); give one or more BoxStageConfig"),
        ({"": 3}, {}, "There is no setting "),
        ({".": 3}, {}, "There is no setting "),
        ({"rpn..x": 3}, {}, "There is no setting rpn..x"),
        ({"mask.": None}, {}, "There is no setting mask.; remove the dot at the end"),
        ({"box.stages.0.": BoxStageConfig()}, {}, "There is no setting box.stages.0.; remove the dot"),
        ({"num_classes.": 3}, {}, "There is no setting num_classes.; remove the dot"),
        ({"rpn": 3}, {}, "rpn is 3; give an RPNConfig."),
        ({"rpn.anchors": 3}, {}, "rpn.anchors is 3; give an AnchorConfig."),
        ({"box.pool": 3}, {}, "box.pool is 3; give a PoolConfig."),
    ],
)
def test_changes_that_cannot_be_made(changes, fields, said):
    assert said in refusal(lambda: ModelConfig().replace(changes, **fields))


def test_settings_of_a_part_that_a_model_does_not_have():
    boxes, c4 = ModelConfig().replace({"mask": None}), C4
    assert (
        boxes.get("mask.dim") is None and boxes.get("mask.pool.size") is None and c4.get("neck.norm") is None
    )
    for config, path, near in (
        (boxes, "mask.dimm", "mask.dim"),
        (boxes, "mask.pool.sise", "mask.pool.size"),
        (c4, "neck.chanels", "neck.channels"),
    ):
        for call in (config.get, lambda path, c=config: paths.type_of(c, path)):
            assert f"There is no setting {path}; did you mean {near}" in refusal(call, path)
        assert f"There is no setting {path}; did you mean {near}" in refusal(config.replace, {path: 1})


# -- what goes together


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"backbone.dilated_c5": True}, "but its outputs are (2, 3, 4, 5); give some that end with 5 and"),
        ({"backbone.depth": 34, "backbone.deformable_stages": (5,)}, "a depth of at least 50 instead of 34"),
        (
            {"backbone.deformable_stages": (5,), "backbone.deformable_groups": 3},
            "deformable_groups is 3, which does not divide the 512 channels of stage 5",
        ),
        (
            {"backbone.outputs": (2, 3, 4), "backbone.deformable_stages": (3, 5)},
            "deformable_stages are (3, 5), but the last of its outputs is 4; leave out the stages after it",
        ),
        ({"backbone.outputs": (2, 4, 5)}, "but the backbone returns maps with the strides 4, 16, 32;"),
        ({"backbone.outputs": (3, 5)}, "with the strides 8, 32; a pyramid needs consecutive ones"),
        ({"backbone.outputs": (4,), "trunk": "res5", "rpn.anchors.sizes": (32, 64), "mask.pool.size": 7},
         "ModelConfig.trunk is 'res5', which needs the backbone's 1024 channels, but with the neck 'fpn'"),
        ({"neck": None, "rpn.anchors.sizes": (32, 64, 128, 256)},
         "ModelConfig.neck is None, and the levels have 256, 512, 1024, 2048 channels"),
        ({"backbone.norm": "gn", "backbone.width": 48}, "ResNetConfig.width is 48, which the 32 groups"),
        ({"backbone.norm": "gn", "backbone.width_per_group": 65}, "and groups give is 65, which"),
        ({"backbone.norm": "gn", "backbone.width": 8, "backbone.depth": 18}, "ResNetConfig.width is 8"),
        ({"neck.norm": "gn", "neck.channels": 40}, "FPNConfig.channels is 40, which the 32 groups"),
        ({"rpn.norm": "gn", "neck.channels": 40}, "channels that ModelConfig.rpn reads is 40, which"),
        ({"box.norm": "gn", "box.convs": 4, "box.conv_dim": 100}, "BoxConfig.conv_dim is 100, which"),
        ({"mask.norm": "gn", "mask.dim": 100}, "MaskConfig.dim is 100, which the 32 groups"),
        ({"backbone.width": 16, "backbone.width_per_group": 1}, "give a width_per_group of at least 4."),
        ({"rpn.foreground_iou": 0.2}, "RPNConfig.background_iou is 0.3 and foreground_iou 0.2; give"),
        ({"regions.batch_size": 3}, "RegionConfig.batch_size is 3 and positive_fraction 0.25, which"),
        ({"regions.positive_fraction": 0.0}, "RegionConfig.batch_size is 512 and positive_fraction 0, which"),
        ({"rpn.batch_size": 1}, "RPNConfig.batch_size is 1 and positive_fraction 0.5, which leaves no place"),
        ({"backbone": RegNetConfig(), "backbone.wa": 1e308}, "RegNetConfig.wa is 1e+308, which gives widths"),
    ],
)  # fmt: skip
def test_parts_that_do_not_go_together(changes, said):
    assert said in refusal(ModelConfig().replace, changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone.outputs": (3, 4, 5), "rpn.anchors.sizes": (32, 64, 128, 256)},
        {"backbone.outputs": (4,), "rpn.anchors.sizes": (32, 64)},
        # Layers that a model does not have need not fit.
        {"box.norm": "gn", "box.conv_dim": 100},
        {"mask.norm": "gn", "mask.dim": 100, "mask.convs": 0},
        {"backbone.depth": 18, "backbone.width_per_group": 1, "backbone.width": 8},
        {"rpn.background_iou": 0.7},
        {"backbone.norm": "gn", "backbone.groups": 32, "backbone.width_per_group": 4, "neck.norm": "gn"},
    ],
)
def test_unusual_parts_that_go_together(changes):
    ModelConfig().replace(changes)
