"""What a file cannot tell is said, and what stands in it or beside it is used."""

import json
import pickle

import numpy as np
import pytest
from conversion_helpers import arrays_of, small
from folders import ROOT

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.convert.choice import choose_config
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.files.reader import SourceFile, read_source
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.missing_settings import name_classes_of_file
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, LVIS_V05_1230, LVIS_V1_1203
from jaxmaskrcnn.zoo.lookup import model_config, model_info

FILES = ROOT / "tests" / "goldens" / "torch_files"
SMALL_ANCHORS = {"rpn.anchors.sizes": tuple((float(4 * 2**i), float(6 * 2**i)) for i in range(5))}


def write(folder, arrays, name="nuclei.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


def chosen(library, arrays, path="nuclei.pth", model=None, attributes=None):
    source = SourceFile(str(path), arrays, attributes or {})
    return choose_config(LIBRARIES[library], arrays, source, model, None, None, False)


# -- torchvision's files


def test_what_torchvisions_files_do_not_tell_is_said_once(tmp_path, caplog):
    path = write(tmp_path, arrays_of("torchvision"))
    (warning,) = load_detector(path)[1].warnings
    for words in (
        "no anchors, image sizes or thresholds",
        "anchors of 32, 64, 128, 256, 512 px with the ratios 0.5, 1, 2",
        "images of 800 to 1333 px",
        "scores above 0.05",
        "nuclei.json",
    ):
        assert words in warning
    caplog.clear()
    load_model(path)
    assert caplog.text.count("no anchors, image sizes or thresholds") == 1


def test_nothing_is_said_where_it_is_known():
    arrays = arrays_of("torchvision")
    assert not chosen("torchvision", arrays, model=small("torchvision")).warnings
    assert not chosen("torchvision", arrays, model="torchvision/maskrcnn_resnet50_fpn").warnings
    assert not chosen("detectron2", arrays_of("detectron2"), model=small("detectron2")).warnings


def test_published_weights_have_known_settings(monkeypatch):
    from jaxmaskrcnn.zoo import PRESETS
    from jaxmaskrcnn.zoo.entry import Preset, PublishedFile

    # A preset of the registry is too large for a test.
    file = PublishedFile("https://download.pytorch.org/models/published-12345678.pth", "none", "here")
    preset = Preset(vars(small("torchvision")), {}, weights=file)
    monkeypatch.setitem(PRESETS, "torchvision/small", preset)
    arrays = arrays_of("torchvision")
    assert not chosen("torchvision", arrays, f"downloads/{model_info('torchvision/small').file}").warnings
    (warning,) = chosen("torchvision", arrays, "mine.pth").warnings
    assert "those of torchvision/small were taken" in warning


ARGUMENTS = {
    "num_classes": 3,
    "min_size": [320, 400],
    "box_score_thresh": 0.3,
    "rpn_anchor_generator": {"sizes": [[8], [16], [32], [64], [128]], "aspect_ratios": [[0.25, 1, 4]]},
    "box_roi_pool": {"sampling_ratio": -1},
    "weights": None,
}


def test_a_scripts_arguments_stand_in_a_json_beside_the_file(tmp_path):
    path = write(tmp_path, arrays_of("torchvision"))
    plain = load_detector(path)[1].config
    (tmp_path / "nuclei.json").write_text(json.dumps(ARGUMENTS))
    report = load_detector(path)[1]
    assert not report.warnings
    assert report.config == plain.replace(
        {
            "input.test_min_size": 400,
            "detections.score_threshold": 0.3,
            "rpn.anchors.sizes": ((8,), (16,), (32,), (64,), (128,)),
            "rpn.anchors.ratios": (0.25, 1, 4),
            "box.pool.sampling_ratio": 0,
        }
    )
    (note,) = [note for note in report.notes if "nuclei.json" in note]
    assert "min_size, box_score_thresh, rpn_anchor_generator.sizes" in note and "weights" not in note
    # A ModelConfig says everything itself.
    given = small("torchvision")
    assert load_detector(path, given)[1].config == given


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"box_score_thresh": 3}, "box_score_thresh is 3; supported: numbers from 0 to 1"),
        ({"min_size": 400, "box_score_tresh": 0.3}, "did you mean box_score_thresh"),
        ({"num_classes": 7}, "num_classes is 7; supported: 3, as the file has 2 besides the background"),
        (
            {"rpn_anchor_generator": {"sizes": [[10**400], [16], [32], [64], [128]]}},
            "rpn_anchor_generator.sizes is .*; supported: 5 lists",
        ),
        (
            {"rpn_anchor_generator": {"sizes": [[8], [16]]}},
            "rpn_anchor_generator.sizes is .*; supported: 5 lists",
        ),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, arguments, words):
    path = write(tmp_path, arrays_of("torchvision"))
    (tmp_path / "nuclei.json").write_text(json.dumps(arguments))
    with pytest.raises(UserError, match=f"nuclei.json has a setting .*(\n.*)*{words}"):
        load_detector(path)


def test_a_json_of_something_else(tmp_path):
    path = write(tmp_path, arrays_of("torchvision"))
    for content in ({"images": [], "annotations": []}, [1, 2], {"epoch": 3}):
        (tmp_path / "nuclei.json").write_text(json.dumps(content))
        assert len(load_detector(path)[1].warnings) == 1
    (tmp_path / "nuclei.json").write_text('{"min_size": 400,}')
    with pytest.raises(UserError, match=r"nuclei.json is read for .* not JSON .*; mend it or give it an"):
        load_detector(path)


# -- whole models


@pytest.mark.parametrize("name", ["model", "parallel"])
def test_a_whole_model_has_its_settings_in_its_modules(name):
    """The script that recorded the file, record_torchvision_whole_model.py, has these values."""
    source = read_source(FILES / f"torchvision_{name}.zip.pth")
    values = [float(array.flat[0]) for array in source.arrays.values()]
    assert values == [n / 8 for n in range(len(values))] and len(values) > 100
    assert all((array == array.flat[0]).all() for array in source.arrays.values())
    choice = choose_config(LIBRARIES["torchvision"], source.arrays, source, None, None, None, False)
    assert not choice.warnings and any("the model inside the file" in note for note in choice.notes)
    wanted = {
        "num_classes": 3, "backbone.depth": 18, "backbone.norm": "frozen_bn", "backbone.norm_epsilon": 2e-5,
        "input.test_min_size": 384, "input.test_max_size": 640, "input.pixel_mean": (0.4, 0.5, 0.6),
        "input.pixel_std": (0.2, 0.25, 0.3), "rpn.anchors.sizes": ((8,), (16,), (32,), (64,), (128,)),
        "rpn.anchors.ratios": (0.25, 1, 4), "rpn.pre_nms_test": 600, "rpn.post_nms_test": 300,
        "rpn.nms_threshold": 0.6, "box.pool.sampling_ratio": 0, "mask.pool.sampling_ratio": 2,
        "detections.nms_threshold": 0.4, "detections.per_image": 50, "detections.score_threshold": 0.3,
        "box.stages.0.box_weights": (5, 5, 2, 2),
    }  # fmt: skip
    assert {path: choice.config.get(path) for path in wanted} == wanted
    assert choice.config == LIBRARIES["torchvision"].usual.replace({**wanted, "categories": ()})


# -- anchors


def test_another_number_of_anchors_is_said_with_what_would_fit(tmp_path):
    path = write(tmp_path, arrays_of("torchvision", **SMALL_ANCHORS))
    with pytest.raises(UserError) as error:
        load_detector(path)
    for words in (
        "nuclei.npz has 6 anchors in each cell",
        "has 3 (1 x 3, anchors of 32, 64",
        "6 x 1 or 3 x 2 or 2 x 3 or 1 x 6",
        "nuclei.json",
    ):
        assert words in str(error.value)
    sizes = [list(group) for group in SMALL_ANCHORS["rpn.anchors.sizes"]]
    (tmp_path / "nuclei.json").write_text(json.dumps({"rpn_anchor_generator": {"sizes": sizes}}))
    assert load_detector(path)[1].config.rpn.anchors.sizes == SMALL_ANCHORS["rpn.anchors.sizes"]
    with pytest.raises(UserError, match="has 6 anchors in each cell, and the given ModelConfig has 3"):
        chosen("detectron2", arrays_of("detectron2", **SMALL_ANCHORS), model=small("detectron2"))


def cell_anchors(sizes, ratios):
    """Detectron2's DefaultAnchorGenerator.generate_cell_anchors."""
    boxes = []
    for size in sizes:
        for ratio in ratios:
            width = (size**2 / ratio) ** 0.5
            boxes.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    return np.array(boxes, np.float32)


@pytest.mark.parametrize(
    ("dtype", "first", "told"), [(np.float32, 32, False), (np.float32, 16, True), (np.float16, 32, False)]
)
def test_anchors_that_a_file_carries_are_compared(tmp_path, dtype, first, told):
    carried = {
        f"proposal_generator.anchor_generator.cell_anchors.{i}":
            cell_anchors([first * 2**i], (0.5, 1.0, 2.0)).astype(dtype)
        for i in range(5)
    }  # fmt: skip
    path = write(tmp_path, {**arrays_of("detectron2"), **carried})
    warnings = load_detector(path, small("detectron2"))[1].warnings
    assert len(warnings) == told
    if told:
        assert "anchors of 16, 32, 64, 128, 256 px and the ratios 0.5, 1, 2" in warnings[0]
        assert "the model has anchors of 32, 64, 128, 256, 512 px" in warnings[0]


# -- prefixes and wrappers

PREFIXES = ("net.", "maskrcnn.", "student.", "module.model.", "_orig_mod.net.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_left_out_and_told(tmp_path, prefix):
    arrays = {f"{prefix}{name}": array for name, array in arrays_of("torchvision").items()}
    report = load_detector(write(tmp_path, arrays))[1]
    told = prefix.replace("_orig_mod.", "")
    assert f"The names begin with {told!r}, which was left out." in report.notes
    with pytest.raises(UserError, match=r"1 in the file without a place in the model:\n  loss.w .without"):
        load_detector(write(tmp_path, {**arrays, "loss.w": np.zeros(3)}))


def test_marks_of_compiled_parts_are_left_out(tmp_path):
    arrays = {name.replace("backbone.", "backbone._orig_mod."): a for name, a in arrays_of("mmdet").items()}
    assert not load_detector(write(tmp_path, arrays), small("mmdet"))[1].left


@pytest.mark.parametrize("key", ["net", "weights", "model_state", "ema", "state_dict", "params"])
def test_keys_that_hold_a_model(tmp_path, key):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"epoch": 3, key: arrays_of("torchvision")}))
    assert f"in {key!r}" in load_detector(tmp_path / "a.pkl")[1].container


def test_a_folder_of_accelerate_is_its_model(tmp_path):
    from jaxmaskrcnn.convert.files.writer import write_state_dict

    folder = tmp_path / "checkpoint_1"
    folder.mkdir()
    arrays = {f"module.{name}": array for name, array in arrays_of("torchvision").items()}
    write_state_dict(folder / "model.safetensors", arrays, "torchvision")
    (folder / "optimizer.bin").write_bytes(b"x")
    assert load_model(folder).config.num_classes == 2


# -- MMDetection's class names


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": {"classes": ("nut", "bolt")}},
        {"dataset_meta": {"CLASSES": ["nut", "bolt"]}},
        {"CLASSES": ("nut", "bolt")},
    ],
)
def test_class_names_in_mmdetections_files_are_used(tmp_path, meta):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"meta": meta, "state_dict": arrays_of("mmdet")}))
    report = load_detector(tmp_path / "a.pkl", small("mmdet"))[1]
    assert report.config.categories == ((0, "nut"), (1, "bolt")) and report.config.label_order == "list"
    assert "The class names are the file's: nut, bolt." in report.notes
    named = small("mmdet", categories=(Category(5, "a"), Category(6, "b")))
    report = load_detector(tmp_path / "a.pkl", named)[1]
    assert report.config.categories == named.categories
    assert "The file names its classes nut, bolt, and the given model a, b, which are taken." in report.notes


def test_other_class_names():
    arrays = arrays_of("mmdet", num_classes=80)
    meta = {"meta": {"dataset_meta": {"classes": tuple(c.name for c in COCO_80)}}}
    config = chosen("mmdet", arrays, model=small("mmdet", num_classes=80), attributes=meta).config
    assert config.categories == COCO_80 and config.label_order == "id"
    choice = chosen("mmdet", arrays_of("mmdet"), model=small("mmdet"), attributes=meta)
    assert not choice.config.categories and choice.config.label_order == "list"
    assert "The file names 80 classes but has 2, so they are not used." in choice.notes
    one = {"meta": {"CLASSES": "balloon"}}
    config = chosen(
        "mmdet", arrays_of("mmdet", num_classes=1), model=small("mmdet", num_classes=1), attributes=one
    )
    assert [c.name for c in config.config.categories] == ["balloon"]


@pytest.mark.parametrize("known", [LVIS_V1_1203, LVIS_V05_1230, CITYSCAPES_8], ids=len)
def test_names_of_known_data_sets_get_their_ids(known):
    """MMDetection's files name LVIS' classes with one letter more than LVIS itself."""
    names = tuple(c.name.replace("(stero_equipment)", "(stereo_equipment)") for c in known)
    config = model_config("mmdet/mask-rcnn_r50_fpn_1x_coco", len(known))
    named, notes = name_classes_of_file("list", config, names, given=False)
    assert named.categories == known and named.label_order == "id" and not notes
