"""``convert`` and ``export``: from file to directory to file, what they print, and their mistakes."""

import json
import os

import numpy as np
import pytest
from conversion_helpers import HEADS, TORCH, arrays_of, small
from detectors import flat, random_model, small_config

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.convert import choice
from jaxmaskrcnn.convert.config_files import config_from_file, config_from_mmdet_text
from jaxmaskrcnn.convert.detector import convert_source
from jaxmaskrcnn.convert.export import export_detector, settings_text
from jaxmaskrcnn.convert.files.reader import SourceFile, read_checkpoint
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.entry import Preset
from jaxmaskrcnn.zoo.lookup import list_models, model_config


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    """A small preset for each library: a command line names presets, and the real ones are too large."""
    for library in TORCH:
        monkeypatch.setitem(PRESETS, f"{library}/small", Preset(vars(small(library)), {}))


def random_values(arrays):
    """Other bits in every array; counters stay 0, which is all that comes back of them."""
    rng = np.random.default_rng(5)
    return {
        name: a if a.dtype == np.int64 else rng.uniform(0.5, 2, a.shape).astype(np.float32)
        for name, a in arrays.items()
    }


def run(capsys, *arguments):
    code = command([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def mistake(capsys, *arguments):
    """The sentence that a wrong command line is told."""
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out and "Traceback" not in err
    assert err.startswith(f"jaxmaskrcnn {arguments[0]}: ")
    return err.strip()


CASES = [
    ("torchvision", {}, ".safetensors"),
    (
        "torchvision",
        {"backbone.norm": "bn", "neck.norm": "bn", "box.norm": "bn", "mask.norm": "bn", "rpn.convs": 2},
        ".npz",
    ),
    ("torchvision", {"mask": None}, ".npz"),
    ("detectron2", {"backbone.stride_in_1x1": False}, ".pkl"),
    ("mmdet", {"neck.norm": "bn"}, ".safetensors"),
]


@pytest.mark.slow_except("torchvision-changes0-.safetensors", "detectron2-changes3-.pkl")
@pytest.mark.parametrize(("library", "changes", "suffix"), CASES)
def test_from_file_to_directory_to_file_no_bit_changes(
    tmp_path, capsys, monkeypatch, library, changes, suffix
):
    arrays = random_values(arrays_of(library, **changes))
    source = tmp_path / f"weights{suffix}"
    write_state_dict(source, arrays, library)
    # A command line names presets, and those of the registry are too large for a test.
    monkeypatch.setitem(PRESETS, f"{library}/small", Preset(vars(small(library, **changes)), {}))
    model = [] if library == "torchvision" else [f"--model={library}/small"]
    code, out, _ = run(capsys, "convert", source, tmp_path / "model", *model)
    assert code == 0
    assert f"{source}: {LIBRARIES[library].title} ({suffix} file" in out
    assert "2 classes" in out and f"{tmp_path / 'model'} (" in out
    counters = [name for name in arrays if name.endswith("num_batches_tracked")]
    assert f"assigned  {len(arrays) - len(counters)} arrays" in out
    assert f"ignored   {len(counters)} arrays: {len(counters)} num_batches_tracked" in out or not counters
    code, out, _ = run(
        capsys, "export", tmp_path / "model", tmp_path / f"again{suffix}", f"--format={library}"
    )
    assert code == 0 and f"{len(arrays)} arrays by {LIBRARIES[library].title}'s names" in out
    assert (f"{len(counters)} of them are num_batches_tracked" in out) == bool(counters)
    again = read_checkpoint(tmp_path / f"again{suffix}")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape), name
        assert again[name].tobytes() == array.tobytes(), name
    # The files themselves can be exported, too; here to another library with the same order of classes.
    other = {"detectron2": "mmdet", "mmdet": "detectron2"}.get(library)
    if other:
        assert run(capsys, "export", source, tmp_path / "b.npz", *model, f"--format={other}")[0] == 0
        loaded = load_model(tmp_path / "b.npz", small(library, **changes))
        expected = flat(load_model(tmp_path / "model"))
        assert all(np.array_equal(value, expected[name]) for name, value in flat(loaded).items())


def test_convert_prints_what_it_did(tmp_path, capsys):
    arrays = {f"module.{name}": a for name, a in arrays_of("detectron2").items()}
    arrays |= {f"module.{name}": np.float32([9, 9, 9]) for name in ("pixel_mean", "pixel_std")}
    bias = "module.proposal_generator.rpn_head.conv.bias"
    arrays[bias] = arrays[bias] + np.nan
    np.savez(tmp_path / "w.npz", **arrays)
    arguments = ["convert", tmp_path / "w.npz", tmp_path / "m", "--model=detectron2/small"]
    code, out, err = run(capsys, *arguments, "--num_classes=4", "--allow_new_heads", "--bn_eps=0.001")
    assert code == 0
    assert "model     detectron2/small, 4 classes without names" in out
    assert f"assigned  {len(arrays) - 2 - 6} arrays" in out
    assert "ignored   2 arrays: pixel_mean, pixel_std" in out
    assert all(name in out for name in HEADS) and "new       6 arrays" in out
    assert "epsilon of the backbone's norm layers is 0.001, as given by bn_eps" in out
    assert "warning   There are NaN" in out and "warning   The file was made with pixel_mean 9, 9, 9" in out
    stored = load_model(tmp_path / "m")
    assert (stored.config.num_classes, stored.config.backbone.norm_epsilon) == (4, 0.001)


def test_annotations_name_the_classes_of_a_file_that_names_none(tmp_path, capsys):
    np.savez(tmp_path / "w.npz", **arrays_of("detectron2"))
    classes = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    truth = tmp_path / "truth.json"
    content = {"images": [], "annotations": [], "categories": classes}
    truth.write_text(json.dumps(content))
    arguments = ["convert", tmp_path / "w.npz", tmp_path / "m", "--model=detectron2/small"]
    code, out, _ = run(capsys, *arguments, f"--categories={truth}")
    assert code == 0 and "2 classes (cat, dog)\n" in out
    assert load_model(tmp_path / "m").categories == ((3, "cat"), (7, "dog"))
    truth.write_text(json.dumps(content | {"categories": classes[:1]}))
    said = mistake(capsys, *arguments, f"--categories={truth}")
    assert f"The model has 2 classes without names, but the annotations {truth} have 1 category;" in said
    assert "absent.json cannot be read" in mistake(capsys, *arguments, "--categories=absent.json")


def test_convert_names_what_is_ignored_when_asked(tmp_path, capsys):
    arrays = arrays_of("mmdet")
    write_state_dict(tmp_path / "w.npz", arrays, "mmdet")
    counters = [name for name in arrays if name.endswith("num_batches_tracked")]
    assert len(counters) > 5
    _, out, _ = run(capsys, "convert", tmp_path / "w.npz", tmp_path / "m", "--model=mmdet/small", "-v")
    assert all(name in out for name in counters)


def test_convert_replaces_a_model_and_nothing_else(tmp_path, capsys):
    write_state_dict(tmp_path / "w.npz", arrays_of("torchvision"), "torchvision")
    save_model(random_model(small_config(), seed=3), tmp_path / "m")
    assert run(capsys, "convert", tmp_path / "w.npz", tmp_path / "m")[0] == 0
    assert load_model(tmp_path / "m").config.background == "first"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    said = mistake(capsys, "convert", tmp_path / "w.npz", tmp_path / "thesis")
    assert "not empty and holds no model" in said
    said = mistake(capsys, "convert", tmp_path / "w.npz", tmp_path / "thesis" / "thesis.tex")
    assert "is a file" in said and (tmp_path / "thesis" / "thesis.tex").read_text() == "x"


def test_convert_names_mistakes(tmp_path, capsys):
    write_state_dict(tmp_path / "d2.npz", arrays_of("detectron2"), "detectron2")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>404</html>")
    (tmp_path / "notes.txt").write_text("weights")
    (tmp_path / "half.npz").write_bytes((tmp_path / "d2.npz").read_bytes()[:-2000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.yaml").write_text("MODEL: [")
    model = "--model=detectron2/small"
    before = sorted(tmp_path.iterdir())
    for arguments, words in (
        (["absent.pth"], "absent.pth does not exist"),
        (["page.pth"], "is a web page"),
        (["notes.txt"], "notes.txt is damaged or not a checkpoint"),
        (["half.npz", model], "half.npz is damaged"),
        (["folder"], "folder is a directory; give a checkpoint file"),
        (["d2.npz"], "give as model= (--model=)"),
        (["d2.npz", "--model=detectron2/smal"], "did you mean 'detectron2/small'"),
        (["d2.npz", "--model=torchvision/small"], "a preset of torchvision"),
        (["d2.npz", f"--model={tmp_path / 'absent.yaml'}"], "absent.yaml"),
        (["d2.npz", f"--model={tmp_path / 'broken.yaml'}"], "broken.yaml"),
        (["d2.npz", model, "--num_classes=0"], "--num_classes is 0"),
        (["d2.npz", model, "--num_classes=5"], "has 2 classes, but num_classes=5 asks for 5"),
        (["d2.npz", model, "--bn_eps=-1"], "bn_eps is -1"),
        (["d2.npz", model, "--weights=ema"], "no weights='ema'"),
    ):
        assert words in mistake(capsys, "convert", tmp_path / arguments[0], tmp_path / "m", *arguments[1:])
        assert sorted(tmp_path.iterdir()) == before, arguments


def test_export_names_mistakes(tmp_path, capsys):
    save_model(random_model(small_config()), tmp_path / "m")
    write_state_dict(tmp_path / "tv.npz", arrays_of("torchvision"), "torchvision")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    for source, file, library, words in (
        ("absent", "a.npz", "mmdet", "absent does not exist"),
        ("empty", "a.npz", "mmdet", "neither a model directory"),
        (
            "m",
            "a.npz",
            "torchvision",
            "torchvision cannot express this model: its background class comes last, not first",
        ),
        (
            "tv.npz",
            "a.npz",
            "mmdet",
            "MMDetection cannot express this model: its background class comes first, not last",
        ),
        ("m", "a.onnx", "mmdet", "a.onnx has the suffix .onnx"),
        ("m", "empty", "mmdet", "empty"),
        ("tv.npz", "tv.npz", "torchvision", "is the model itself"),
    ):
        said = mistake(capsys, "export", tmp_path / source, tmp_path / file, f"--format={library}")
        assert words in said
        assert sorted(tmp_path.iterdir()) == before, said


@pytest.mark.parametrize(
    ("library", "changes", "words"),
    [
        ("torchvision", {"box.class_agnostic": True}, "class-agnostic"),
        ("torchvision", {"backbone.depth": 50, "backbone.stride_in_1x1": True}, "stride in the 1x1"),
        ("torchvision", {"box.fcs": 3}, "two fully connected"),
        ("detectron2", {"rpn.norm": "bn"}, "region proposal network has norm layers"),
    ],
)
def test_models_that_a_library_cannot_express(tmp_path, library, changes, words):
    with pytest.raises(UserError, match=words):
        export_detector(random_model(small(library, **changes)), tmp_path / "a.npz", library)
    assert not list(tmp_path.iterdir())


def test_output_that_nobody_reads_on(monkeypatch, tmp_path):
    """As behind "| head"."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)  # stands for a pipe whose reader has gone
        assert command(["models"]) == 1


def test_structures_without_a_preset_are_described():
    shown = config_structure(small("torchvision"))
    for fields, words in (
        ({"backbone.groups": 32, "backbone.width_per_group": 4, "backbone.width": 64}, "ResNeXt-50-32x4d"),
        ({"backbone.groups": 1, "backbone.width_per_group": 128}, "wide ResNet-50-2"),
        ({"backbone.groups": 1, "backbone.width_per_group": 64}, ", ResNet-50 of width 8,"),
    ):
        assert words in choice._describe({**shown, "backbone.depth": 50, **fields})


def test_an_unknown_format(tmp_path):
    with pytest.raises(UserError, match="no format 'onnx'; choose one of torchvision, detectron2, mmdet"):
        export_detector(random_model(small_config()), tmp_path / "a.npz", "onnx")


def test_conventions_that_a_library_does_not_have_are_told(tmp_path):
    model = random_model(small("mmdet", **{"backbone.norm_epsilon": 1e-3}))
    report = export_detector(model, tmp_path / "a.npz", "detectron2")
    assert "rpn.ranking is 'logit' there and 'probability' in the model" in report.differences
    assert "backbone.norm_epsilon is 1e-05 there and 0.001 in the model" in report.differences
    report = export_detector(model, tmp_path / "a.npz", "mmdet")
    assert not report.differences and "eps=0.001" in report.settings


@pytest.mark.parametrize("library", ["detectron2", pytest.param("mmdet", marks=pytest.mark.slow)])
def test_settings_are_read_back_as_the_models_own(tmp_path, library):
    """Of every preset, and of settings that no preset has."""
    names = [name for name in list_models() if name.startswith(f"{library}/") and "small" not in name]
    if library == "detectron2":  # its yaml has no RegNet
        names = [name for name in names if model_config(name).backbone.kind == "resnet"]
    odd = {
        "num_classes": 7,
        "detections.score_threshold": 0.3,
        "detections.nms_threshold": 0.6,
        "detections.per_image": 33,
        "input.test_min_size": 480,
        "input.test_max_size": 640,
        "box.pool.sampling_ratio": 2,
        "mask.pool.sampling_ratio": 2,
        "input.channel_order": "rgb",
        "input.pixel_mean": (1.5, 2.5, 3.5),
        "input.pixel_std": (4.0, 5.0, 6.0),
        "backbone.stride_in_1x1": False,
        "rpn.nms_threshold": 0.6,
        "rpn.pre_nms_test": 500,
        "rpn.post_nms_test": 400,
        "backbone.freeze_at": 0,
        "rpn.loss.beta": 0.5,
        "box.loss.beta": 0.5,
        "mask.class_agnostic": True,
        "neck.channels": 128,
        "box.fc_dim": 512,
        "compute.weight_decay_exempts_norm": library == "mmdet",
    }
    for config in (*map(model_config, names), model_config(names[0], **odd)):
        text = settings_text(config, library)
        (tmp_path / "config.yaml").write_text(text)
        read = (
            config_from_file(tmp_path / "config.yaml")
            if library == "detectron2"
            else config_from_mmdet_text(text, "the settings")
        )
        assert read.replace(categories=config.categories) == config


@pytest.mark.parametrize("key", ["cfg", "config"])  # MMDetection 3 and 2
def test_the_config_inside_of_an_mmdetection_file(key):
    config = small("mmdet", **{"detections.score_threshold": 0.3})
    source = SourceFile(
        "m.pth", arrays_of("mmdet"), {"meta": {"epoch": 12, key: "model = dict(type='YOLOX')"}}
    )
    with pytest.raises(UserError, match="the config inside m.pth has the model 'YOLOX'"):
        convert_source(source)
    # A model that is given counts for more than what is inside.
    assert convert_source(source, small("mmdet"))[0].config == small("mmdet", label_order="list")
    source = source._replace(attributes={"meta": {"epoch": 12, key: settings_text(config, "mmdet")}})
    model, report = convert_source(source)
    assert model.config == config.replace(label_order="list") and report.model == "the config inside the file"


def test_torchvisions_settings(tmp_path):
    model = random_model(
        small(
            "torchvision",
            **{
                "backbone.norm_epsilon": 0.0,
                "detections.score_threshold": 0.7,
                "box.pool.sampling_ratio": 0,
                "mask.pool.sampling_ratio": 0,
            },
        )
    )
    text = export_detector(model, tmp_path / "a.npz", "torchvision").settings
    compile(text, "settings", "exec")
    assert "num_classes=3" in text and "box_score_thresh=0.7," in text and "eps=0.0" in text
    assert "sampling_ratio=-1" in text and "box_nms_thresh" not in text
