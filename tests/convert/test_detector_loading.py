"""Whole detectors from files of other libraries: which configuration, which arrays, which sentence."""

import functools
import logging
import re

import ml_dtypes
import numpy as np
import pytest
from conversion_helpers import HEADS, TORCH, arrays_of, small
from detectors import flat, random_model

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import choose_config, fitting_presets
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.families import FAMILIES, holds_detector, refuse_other_families
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.structure import config_structure, has_part
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models import new_models
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.categories import COCO_90
from jaxmaskrcnn.zoo.conventions import TORCHVISION
from jaxmaskrcnn.zoo.entry import Preset
from jaxmaskrcnn.zoo.lookup import list_models, model_config


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file a library, with two classes."""
    folder = tmp_path_factory.mktemp("files")
    for library in TORCH:
        write_state_dict(folder / f"{library}.npz", arrays_of(library), library)
    return folder


@pytest.fixture
def presets(monkeypatch):
    """Adds presets for as long as a test runs; those of the registry are too large for tests."""

    def add(name, config):
        monkeypatch.setitem(PRESETS, name, Preset(vars(config), {}))

    return add


def write(folder, arrays, name="changed.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


# -- torchvision


def test_torchvision_needs_no_model(files):
    model, report = load_detector(files / "torchvision.npz")
    shown = {"backbone.depth": 18, "backbone.width": 8, "neck.channels": 8, "box.fc_dim": 8, "mask.dim": 8}
    wanted = {**TORCHVISION, **shown, "mask.convs": 1, "num_classes": 2, "categories": ()}
    assert model.config == report.config == ModelConfig().replace(wanted)
    assert report.library == "torchvision" and not report.left
    expected = flat(random_model(small("torchvision")))
    assert set(report.assigned) == set(expected)
    for name, value in flat(model).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_ninety_classes_are_cocos(tmp_path):
    path = write(tmp_path, arrays_of("torchvision", num_classes=90))
    assert load_detector(path)[0].categories == COCO_90
    assert load_detector(path)[0].config.foreground_offset == 1


V1 = "torchvision/small"  # stands for maskrcnn_resnet50_fpn, which is the same but for its size


@pytest.fixture
def v1(presets):
    config = small("torchvision", num_classes=90, categories=COCO_90, **{"backbone.norm_epsilon": 0.0})
    presets(V1, config)
    return config


def chosen(arrays, model=None, bn_eps=None):
    source = SourceFile("file.pth", arrays, {})
    return choose_config(LIBRARIES["torchvision"], arrays, source, model, None, bn_eps, False)


def test_published_weights_have_the_epsilon_zero():
    assert model_config("torchvision/maskrcnn_resnet50_fpn").backbone.norm_epsilon == 0
    assert model_config("torchvision/maskrcnn_resnet50_fpn_v2").backbone.norm_epsilon == 1e-5


@pytest.mark.parametrize(
    ("changes", "bn_eps", "epsilon", "norm", "words"),
    [
        ({"num_classes": 90}, None, 0.0, "frozen_bn", "COCO_V1"),
        ({}, None, 0.0, "frozen_bn", "--bn_eps=1e-5"),
        ({}, 1e-5, 1e-5, "frozen_bn", "as given by bn_eps"),
        ({"backbone.norm": "bn"}, 0.0, 0.0, "bn", "as given by bn_eps"),
        ({"backbone.norm": "bn"}, None, 1e-5, "bn", "num_batches_tracked implies"),
        # The second version has norm layers in all its parts, and its own epsilon.
        ({"backbone.norm": "bn", "neck.norm": "bn"}, None, 1e-5, "bn", "as in the model"),
        # No published weights have this depth, so that the epsilon 0 of theirs is out of the question.
        ({"backbone.depth": 34}, None, 1e-5, "frozen_bn", "as in the model"),
    ],
)
def test_epsilon_of_torchvision_files(v1, changes, bn_eps, epsilon, norm, words):
    choice = chosen(arrays_of("torchvision", **changes), bn_eps=bn_eps)
    assert (choice.config.backbone.norm_epsilon, choice.config.backbone.norm) == (epsilon, norm)
    assert words in choice.notes[-1] and f"{epsilon:g}" in choice.notes[-1]


def test_epsilon_under_a_given_model(v1):
    arrays = arrays_of("torchvision", num_classes=90, **{"backbone.norm": "bn"})
    for model in (V1, v1):
        choice = chosen(arrays, model)
        assert choice.config == v1.replace({"backbone.norm_epsilon": 1e-5})
        assert "num_batches_tracked implies" in choice.notes[-1]
    assert chosen(arrays, v1.replace({"backbone.norm_epsilon": 1e-3})).config.backbone.norm_epsilon == 1e-3
    frozen = arrays_of("torchvision", num_classes=90)
    assert chosen(frozen, V1).config == v1
    # Counters of other layers say nothing about the backbone's.
    head = {"roi_heads.box_head.0.1.num_batches_tracked": np.zeros((), np.int64)}
    assert chosen({**frozen, **head}).config.backbone.norm_epsilon == 0


def test_batch_norm_in_the_pyramid_is_ordinary_in_the_backbone_too():
    arrays = arrays_of("torchvision", **{"backbone.norm": "bn", "neck.norm": "bn"})
    stripped = {name: a for name, a in arrays.items() if not name.endswith("num_batches_tracked")}
    assert len(stripped) < len(arrays)
    assert chosen(stripped).config == chosen(arrays).config
    assert chosen(arrays).config.backbone.norm == "bn"


def test_channels_without_variance_rule_out_the_epsilon_zero(v1):
    name = "backbone.body.layer1.0.bn1.running_var"
    arrays = arrays_of("torchvision")
    arrays[name] = np.where(np.arange(8) == 3, 0, arrays[name])
    choice = chosen(arrays)
    assert choice.config.backbone.norm_epsilon == 1e-5 and "variance 0" in choice.notes[-1]
    with pytest.raises(UserError, match="would divide by zero; give bn_eps=1e-5"):
        chosen(arrays, bn_eps=0.0)


def test_a_presets_structure_is_named(v1):
    choice = chosen(arrays_of("torchvision"))
    assert choice.name == V1
    assert choice.config == v1.replace(num_classes=2, categories=())
    assert chosen(arrays_of("torchvision", num_classes=90)).config == v1


# -- Detectron2 and MMDetection


@functools.cache
def configs_of(library):
    return {name: model_config(name) for name in list_models() if name.startswith(f"{library}/")}


@pytest.mark.parametrize("name", [n for n in list_models() if n.split("/")[0] in LIBRARIES])
def test_every_preset_is_among_those_that_fit_its_own_structure(name):
    library = LIBRARIES[name.split("/")[0]]
    presets = configs_of(library.name)
    fitting = fitting_presets(library, config_structure(presets[name]), presets)
    assert name in fitting and all(n.startswith(library.name) for n in fitting)


SOME_PRESETS = (
    "torchvision/maskrcnn_resnet50_fpn", "detectron2/mask_rcnn_R_50_C4_1x", "mmdet/mask-rcnn_r50_fpn_1x_coco",
    "detectron2/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ", "mmdet/mask-rcnn_regnetx-3.2GF_fpn_1x_coco",
)  # fmt: skip


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_presets_fit_a_structure_with_another_number_of_classes(name):
    library = LIBRARIES[name.split("/")[0]]
    assert name in fitting_presets(library, config_structure(model_config(name, 5)))


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_no_preset_fits_a_backbone_that_none_has(name):
    config = model_config(name)
    other = {"backbone.depth": 152} if config.backbone.kind == "resnet" else {"backbone.group_width": 4}
    assert not fitting_presets(LIBRARIES[name.split("/")[0]], config_structure(config.replace(other)))


@pytest.mark.parametrize("library", ["detectron2", "mmdet"])
def test_names_that_do_not_tell_the_conventions_ask_for_a_model(files, presets, library):
    with pytest.raises(
        UserError, match="no preset has its structure .*ResNet-18 of width 8.* 2 classes"
    ) as error:
        load_detector(files / f"{library}.npz")
    assert {"detectron2": "a Detectron2 yaml", "mmdet": "an MMDetection config"}[library] in str(error.value)
    presets(f"{library}/small", small(library, num_classes=80))
    with pytest.raises(UserError) as error:
        load_detector(files / f"{library}.npz")
    assert str(error.value).splitlines()[1:] == [f"  {library}/small with num_classes=2"]
    presets(f"{library}/exact", small(library))
    with pytest.raises(UserError) as error:
        load_detector(files / f"{library}.npz")
    assert str(error.value).splitlines()[1:] == [
        f"  {library}/exact",
        f"  {library}/small with num_classes=2",
    ]


@pytest.mark.parametrize("library", ["detectron2", "mmdet"])
def test_a_preset_or_a_configuration_says_it(files, presets, library):
    config = small(library)
    presets(f"{library}/small", config)
    for model in (f"{library}/small", config):
        loaded, report = load_detector(files / f"{library}.npz", model)
        order = {"detectron2": "id", "mmdet": "list"}[library]  # its labels have no names
        assert loaded.config == config.replace(label_order=order) and not report.left and not report.warnings
        expected = flat(random_model(config))
        assert all(np.array_equal(value, expected[name]) for name, value in flat(loaded).items())


def test_another_librarys_model_is_refused(files, tmp_path):
    for library, model, hint in (
        ("detectron2", "torchvision/maskrcnn_resnet50_fpn", "give a preset detectron2/"),
        ("mmdet", "detectron2/mask_rcnn_R_50_FPN_3x", "give a preset mmdet/"),
        ("torchvision", "detectron2/mask_rcnn_R_50_FPN_3x", "leave model out"),
        ("torchvision", tmp_path / "config.yaml", "a config file of Detectron2"),
    ):
        with pytest.raises(UserError, match=re.escape(hint)):
            load_detector(files / f"{library}.npz", model)
    with pytest.raises(
        UserError, match="background class comes last, but it comes first in the given ModelConfig"
    ):
        load_detector(files / "detectron2.npz", small("torchvision"))
    with pytest.raises(UserError, match="maskrcnn_resnet50_fpn'"):
        load_detector(files / "torchvision.npz", "torchvision/maskrcnn_resnet50")


# -- classes


def test_another_number_of_classes(files, presets):
    presets("detectron2/small", small("detectron2", num_classes=5))
    path = files / "detectron2.npz"
    # A name gives the conventions, and the file its number of classes.
    model, report = load_detector(path, "detectron2/small")
    assert model.config == small("detectron2").replace(categories=()) and not report.left
    assert "The number of classes is the file's, 2; detectron2/small has 5." in report.notes
    assert model_directory.load_model(path, "detectron2/small").config == model.config
    # A number that the user gives has to be the file's.
    for asked in (
        lambda: load_detector(path, "detectron2/small", num_classes=5),
        lambda: load_detector(path, small("detectron2", num_classes=5)),
        lambda: model_directory.load_model(path, "detectron2/small", num_classes=5),
    ):
        with pytest.raises(UserError, match="has 2 classes, but .* asks for 5") as error:
            asked()
        for way in ("num_classes=2", "--num_classes=2", "allow_new_heads=True", "--allow_new_heads"):
            assert way in str(error.value)
    model, report = load_detector(path, "detectron2/small", num_classes=2)
    assert model.config.num_classes == 2 and not report.left
    assert not any("number of classes" in note for note in report.notes)
    model, report = load_detector(path, "detectron2/small", allow_new_heads=True)
    assert model.config.num_classes == 5 and set(report.left) == HEADS
    assert not set(report.left) & set(report.assigned)
    source, again = (
        flat(random_model(small("detectron2"))),
        flat(load_detector(path, "detectron2/small", allow_new_heads=True)[0]),
    )
    for name, value in flat(model).items():
        np.testing.assert_array_equal(value, again[name] if name in HEADS else source[name], err_msg=name)
    heads = flat(model)
    assert 0.005 < heads["box_head.cls_score.kernel"].std() < 0.02
    assert 0.0005 < heads["box_head.bbox_pred.kernel"].std() < 0.002
    # The same number of classes leaves nothing new.
    assert not load_detector(path, "detectron2/small", num_classes=2, allow_new_heads=True)[1].left


def test_torchvisions_number_of_classes_can_be_changed_too(files):
    with pytest.raises(UserError, match="has 2 classes"):
        load_detector(files / "torchvision.npz", num_classes=7)
    model, report = load_detector(files / "torchvision.npz", num_classes=7, allow_new_heads=True)
    assert model.config.num_classes == 7 and set(report.left) == HEADS


# -- what else is in files


@pytest.mark.parametrize(
    ("dtype", "words"), [(np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16"), (np.float64, "float64")]
)
def test_other_precisions_become_float32(tmp_path, dtype, words):
    arrays = {k: a.astype(dtype) for k, a in arrays_of("torchvision").items()}
    write_state_dict(tmp_path / "m.safetensors", arrays, "torchvision")
    model, report = load_detector(tmp_path / "m.safetensors")
    assert f"{len(arrays)} arrays of {words} became float32." in report.notes
    assert all(value.dtype == np.float32 for value in flat(model).values())
    kernel = arrays["roi_heads.box_predictor.cls_score.weight"].astype(np.float32).T
    np.testing.assert_array_equal(flat(model)["box_head.cls_score.kernel"], kernel)


def test_wrappers_and_old_names(tmp_path):
    arrays = arrays_of("torchvision")
    old = {
        re.sub(r"_blocks\.(\d)\.0\.", r"_blocks.\1.", name)
        .replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        .replace("mask_head.0.0.", "mask_head.mask_fcn1."): array
        for name, array in arrays.items()
    }
    assert len(old.keys() - arrays.keys()) == 20
    path = write(tmp_path, {f"module.{name}": array for name, array in old.items()})
    expected = flat(random_model(small("torchvision")))
    loaded = flat(load_detector(path)[0])
    assert all(np.array_equal(value, expected[name]) for name, value in loaded.items())


@pytest.mark.parametrize("counter", ["n_averaged", "steps"])
def test_averaged_models_have_a_counter(tmp_path, counter):
    """Beside the names behind "module.": torch's AveragedModel, MMEngine's averages."""
    arrays = {f"module.{name}": array for name, array in arrays_of("torchvision").items()}
    report = load_detector(write(tmp_path, arrays | {counter: np.zeros((), np.int64)}))[1]
    assert counter in report.ignored
    with pytest.raises(UserError, match="count .without the prefix 'module.'."):
        load_detector(write(tmp_path, arrays | {"count": np.zeros((), np.int64)}))


def test_values_that_are_not_finite_are_told(tmp_path):
    arrays = arrays_of("torchvision")
    arrays["rpn.head.cls_logits.bias"] = np.float32([np.nan, 0, np.inf])
    report = load_detector(write(tmp_path, arrays))[1]
    assert "There are NaN or infinite values in 1 array: rpn.head.cls_logits.bias." in report.warnings


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("detectron2", ("pixel_mean", "pixel_std")),
        ("mmdet", ("data_preprocessor.mean", "data_preprocessor.std")),
    ],
)
def test_an_input_that_contradicts_the_model_is_told(tmp_path, library, names):
    config = small(library)
    mean, std = (np.float32(x).reshape(3, 1, 1) for x in (config.input.pixel_mean, config.input.pixel_std))
    arrays = {**arrays_of(library), names[0]: mean, names[1]: std}
    report = load_detector(write(tmp_path, arrays), config)[1]
    assert not report.warnings and set(names) <= set(report.ignored)
    # A model that counts its pixels from 0 to 1 sees the same.
    scaled = config.replace(
        {
            "input.pixel_scale": 1 / 255,
            "input.pixel_mean": tuple(x / 255 for x in config.input.pixel_mean),
            "input.pixel_std": tuple(x / 255 for x in config.input.pixel_std),
        }
    )
    assert not load_detector(write(tmp_path, arrays), scaled)[1].warnings
    swapped = config.replace({"input.pixel_mean": config.input.pixel_mean[::-1]})
    (warning,) = load_detector(write(tmp_path, arrays), swapped)[1].warnings
    assert names[0] in warning and names[1] not in warning


def test_every_mismatch_is_listed_at_once(tmp_path):
    arrays = arrays_of("torchvision")
    del arrays["rpn.head.cls_logits.bias"]
    arrays["roi_heads.secret.weight"] = np.zeros(3, np.float32)
    arrays["backbone.fpn.inner_blocks.1.0.bias"] = np.zeros(9, np.float32)
    with pytest.raises(UserError, match="changed.npz does not fit the model; nothing was loaded") as error:
        load_detector(write(tmp_path, arrays))
    for words in (
        "1 without a value in the file:\n  rpn.cls_logits.bias",
        "1 in the file without a place in the model:\n  roi_heads.secret.weight",
        "1 with another shape:\n  backbone.fpn.inner_blocks.1.conv.bias (8,)",
    ):
        assert words in str(error.value)


def test_a_structure_that_differs_is_said_first(files):
    config = small("detectron2", **{"backbone.depth": 34, "mask": None})
    with pytest.raises(UserError) as error:
        load_detector(files / "detectron2.npz", config)
    said = str(error.value)
    assert "does not fit the given ModelConfig: " in said and "backbone.depth 18, here 34" in said
    assert "mask fcn, here None" in said and "box.fc_dim" not in said and "\n" not in said


def test_averaged_weights_are_told(tmp_path, monkeypatch):
    arrays = arrays_of("torchvision")
    from jaxmaskrcnn.convert import detector

    source = SourceFile("a.pth", arrays, {}, "state_dict", ("ema_state_dict",))
    # Such a file is a .pth, which only torch writes.
    monkeypatch.setattr(detector, "read_source", lambda path, weights: source)
    note = load_detector("a.pth")[1].notes[0]
    assert "'state_dict'" in note and "'ema_state_dict'" in note and "--weights=" in note


# -- what cannot be loaded

NAMES = {
    "a Segment Anything model": "image_encoder.patch_embed.proj.weight",
    "Mask2Former or MaskFormer": "sem_seg_head.predictor.query_feat.weight",
    "a DETR model": "module.transformer.encoder.layers.0.linear1.weight",
    "a one-stage detector (RetinaNet, FCOS, SSD)": "bbox_head.retina_cls.weight",
    "a YOLO model": "model.22.cv2.0.0.conv.weight",
    "tensorpack's Faster or Mask R-CNN": "group0/block0/conv1/W:0",
    "Keypoint R-CNN of a library before Detectron2": "roi_heads.keypoint.predictor.kps_score_lowres.weight",
    "Keypoint R-CNN": "roi_heads.keypoint_predictor.kps_score_lowres.weight",
    "Panoptic FPN": "sem_seg_head.p2.0.weight",
    "PointRend": "roi_heads.mask_head.point_head.fc1.weight",
    "Mask Scoring R-CNN of its authors": "roi_heads.maskiou.predictor.maskiou.bias",
    "Hybrid Task Cascade": "roi_head.mask_head.1.conv_res.conv.weight",
    "an R-CNN on C4 features": "roi_heads.res5.0.conv1.weight",
    "a detector with a RegNet": "backbone.bottom_up.s1.b1.f.a.weight",
    "a detector with torchvision's RegNet": "backbone.body.trunk_output.block1.block1-0.proj.0.weight",
    "torchvision's Vision Transformer": "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
    "a detector with a MobileNet": "backbone.body.0.0.weight",
    "a detector with a PAFPN neck": "neck.pafpn_convs.0.conv.weight",
}


@pytest.mark.parametrize("title, part", [(family.title, family.part) for family in FAMILIES])
def test_other_families_are_named(title, part):
    common = ["backbone.bottom_up.stem.conv1.weight", "proposal_generator.rpn_head.conv.weight"]
    if has_part(part):  # Such models are supported.
        refuse_other_families([*common, NAMES[title]], "x.pth")
        return
    for prefix in ("", "module."):
        names = [prefix + name for name in (*common, NAMES[title])]
        with pytest.raises(
            UserError, match=re.escape(f"x.pth is {title} (it has {names[-1]}), which is not")
        ):
            refuse_other_families(names, "x.pth")


def test_panoptic_fpn_is_no_maskformer():
    names = ["sem_seg_head.predictor.weight", "sem_seg_head.p2.0.weight", "roi_heads.box_head.fc1.weight"]
    refuse_other_families(names, "x.pth")  # it is supported
    with pytest.raises(UserError, match="is Mask2Former or MaskFormer"):
        refuse_other_families(["sem_seg_head.predictor.query_feat.weight"], "x.pth")


@pytest.mark.parametrize("library", TORCH)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "backbone.norm": "bn",
            "neck.norm": "bn",
            "box.norm": "bn",
            "mask.norm": "bn",
            "box.convs": 2,
            "box.fcs": 1,
            "rpn.convs": 2,
        },
    ],
)
def test_supported_detectors_are_no_other_family(library, changes):
    names = list(arrays_of(library, **changes))
    for prefix in ("", "module.", "model.", "module.model."):
        refuse_other_families([prefix + name for name in names], "x.pth")
        assert holds_detector([prefix + name for name in names])


@pytest.mark.parametrize("prefix", ["", "backbone.", "module."])
def test_a_resnet_alone_is_sent_to_the_backbone(tmp_path, prefix):
    names = [f"{prefix}{n}" for n in ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight")]
    with pytest.raises(UserError, match="holds a ResNet alone .* load_backbone.*--config.model.weights="):
        load_detector(write(tmp_path, {name: np.zeros((2, 2, 1, 1), np.float32) for name in names}))


def test_names_of_no_library(tmp_path):
    with pytest.raises(UserError, match="names of no supported Faster or Mask R-CNN, .*, but encoder.weight"):
        load_detector(write(tmp_path, {"encoder.weight": np.zeros(3), "decoder.weight": np.zeros(3)}))


# -- load_model


def test_load_model_reads_files_and_logs_the_report(files, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"):
        model = model_directory.load_model(files / "torchvision.npz")
    assert model.config.num_classes == 2
    assert "torchvision.npz: torchvision" in caplog.text and "epsilon" in caplog.text
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "no anchors, image sizes or thresholds" in warning
    caplog.clear()
    config = small("detectron2", num_classes=3, **{"input.pixel_mean": (1.0, 2.0, 3.0)})
    path = write(tmp_path, {**arrays_of("detectron2"), "pixel_mean": np.float32([103.53, 116.28, 123.675])})
    model = model_directory.load_model(path, config, allow_new_heads=True, bn_eps=1e-3)
    assert model.config == config.replace({"backbone.norm_epsilon": 1e-3})
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2 and "pixel_mean 103.53" in warnings[0]
    assert all(name in warnings[1] for name in HEADS)


def test_loading_computes_no_model(files, monkeypatch):
    """Initial weights of a whole model take long to make; nothing needs them."""

    traced = []

    def spy(config, *, rngs):
        traced.append("Tracer" in type(rngs.params()).__name__)
        return MaskRCNN(config, rngs=rngs)

    # Only within the constructor it can be seen whether random numbers are computed.
    monkeypatch.setattr(new_models, "MaskRCNN", spy)
    new_models._abstract_parts.cache_clear()  # shapes that were traced before are known
    load_detector(files / "torchvision.npz")
    assert traced == [True]
