"""Files of matterport's Mask R-CNN: Keras' weights in HDF5, read and written, and its classes of settings."""

import builtins
import json
import re

import numpy as np
import pytest
from detectors import random_model
from folders import GOLDENS
from goldens.seeded_weights import seeded_matterport_weight

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.convert import load_detector
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_detector, export_settings
from jaxmaskrcnn.convert.families import holds_detector, refuse_other_families
from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.convert.matterport import rows
from jaxmaskrcnn.convert.state_dict import to_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")
GOLDEN = np.load(GOLDENS / "matterport_model.npz")
LAYOUT = json.loads(str(GOLDEN["layout"]))
NAMES = {name: tuple(shape) for name, shape in json.loads(str(GOLDEN["names"])).items()}


@pytest.fixture(scope="module")
def weights():
    """Of the golden's model with narrow heads: ResNet-50, four classes with the background."""
    return {name: seeded_matterport_weight(name, shape) for name, shape in NAMES.items()}


@pytest.fixture(scope="module")
def small():
    """Of a network that the original cannot make so narrow, for files that are not loaded as a whole."""
    config = model_config(
        "matterport/mask_rcnn_coco", 2,
        **{
            "backbone.depth": 50, "backbone.width": 8, "neck.channels": 8, "rpn.conv_dim": 16,
            "box.fc_dim": 8, "mask.dim": 8,
        },
    )  # fmt: skip
    return to_state_dict(random_model(config), "matterport")


def short(name):
    return "/".join(name.removesuffix(":0").split("/")[-2:])


def write_as_keras(path, arrays, group=None, layout=LAYOUT, **attributes):
    """A file as Keras saves it, by the recorded layout of the original's own."""
    with h5py.File(path, "w") as file:
        root = file if group is None else file.create_group(group)
        root.attrs["layer_names"] = [name.encode() for name in ("input_image", *layout)]
        root.create_group("input_image").attrs["weight_names"] = np.zeros(0)
        for layer, names in layout.items():
            names = [name for name in names if short(name) in arrays]
            own = root.create_group(layer)
            own.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                own.create_dataset(name, data=arrays[short(name)])
        if group is not None:
            file.create_group("optimizer_weights").create_dataset("SGD/iter:0", data=np.int64(7))
        for name, value in attributes.items():
            file.attrs[name] = value
    return path


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(scope="module")
def saved(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    return write_as_keras(folder / "weights.h5", weights, keras_version=b"2.15.0")


def test_arrays_are_those_of_the_file(weights, saved):
    same(read_checkpoint(saved), weights)


def test_a_file_of_a_whole_model(small, tmp_path):
    """Its weights are in a group of their own; those of the optimizer are not read."""
    same(read_checkpoint(write_as_keras(tmp_path / "m.h5", small, "model_weights")), small)


@pytest.mark.slow
def test_a_detector_is_recognised_and_comes_back_bit_for_bit(weights, saved, tmp_path):
    model, report = load_detector(saved)
    assert report.library == "matterport's Mask R-CNN" and report.config.num_classes == 3
    assert (report.config.backbone.depth, report.config.neck.channels, report.config.box.fc_dim) == (
        50,
        16,
        32,
    )
    expected = model_config("matterport/mask_rcnn_coco").replace(
        {
            "num_classes": 3, "categories": (), "backbone.depth": 50, "neck.channels": 16, "box.fc_dim": 32,
        }
    )  # fmt: skip
    assert report.config == expected
    assert not report.ignored and not report.left and len(report.assigned) == len(weights)
    same(to_state_dict(model, "matterport"), weights)
    written = export_detector(model, tmp_path / "out.h5", "matterport")
    assert written.differences == ()
    same(read_checkpoint(written.path), weights)
    with h5py.File(written.path) as file:
        layers = [name.decode() for name in file.attrs["layer_names"]]  # bytes, as Keras expects them
        found = {layer: file[layer].attrs["weight_names"] for layer in layers}
        assert {layer: [name.decode() for name in names] for layer, names in found.items()} == LAYOUT
        assert layers == list(LAYOUT)
    again, _ = load_detector(written.path)
    same(to_state_dict(again, "matterport"), weights)


@pytest.mark.slow
def test_other_classes_than_the_file_has(weights, saved, tmp_path):
    """As with the original's ``exclude``: the layers of the classes keep their initial values."""
    config = load_detector(saved)[1].config
    with pytest.raises(UserError, match="has 3 classes, but .* asks for 1;"):
        load_detector(saved, config.replace(num_classes=1))
    model, report = load_detector(saved, config.replace(num_classes=1), allow_new_heads=True)
    heads = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask/")
    left = {name for name in weights if name.startswith(heads)}
    assert len(report.left) == len(left) == 6
    ours = to_state_dict(model, "matterport")
    same(
        {name: x for name, x in ours.items() if name not in left},
        {name: x for name, x in weights.items() if name not in left},
    )
    assert ours["mrcnn_bbox_fc/kernel"].shape == (32, 8)


@pytest.mark.parametrize(
    "name, expected", [("mask_rcnn_coco", (101, 80, 0.7)), ("mask_rcnn_balloon", (101, 1, 0.9))]
)
def test_presets(name, expected):
    config = model_config(f"matterport/{name}")
    assert (config.backbone.depth, config.num_classes, config.detections.score_threshold) == expected
    assert jmr.model_info(f"matterport/{name}").file == f"{name}.h5"


def test_the_names_are_those_of_a_detector(small):
    """And not of a backbone alone, which training would look for."""
    for prefix in ("", "module."):
        names = [prefix + name for name in small]
        assert holds_detector(names)
        refuse_other_families(names, "x.h5")


# -- what is wrong with a file


def without(small, *names):
    return {name: array for name, array in small.items() if not name.startswith(names)}


def one_sentence(error):
    text = str(error.value)
    assert "Traceback" not in text and text.count("\n") == 0 and text.endswith(".")
    return text


def test_h5py_is_missing(small, monkeypatch, tmp_path):
    saved = write_as_keras(tmp_path / "saved.h5", small)
    real = builtins.__import__

    def without_h5py(name, *rest, **options):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_h5py)  # stands for an environment without it
    with pytest.raises(UserError) as error:
        read_checkpoint(saved)
    assert "needs the package h5py; run pip install 'jaxmaskrcnn[keras]'" in one_sentence(error)


def test_other_models_of_keras(tmp_path):
    path = tmp_path / "vgg.h5"
    write_as_keras(
        path, {"block1_conv1/kernel": np.zeros(3)}, layout={"block1_conv1": ["block1_conv1/kernel:0"]}
    )
    with pytest.raises(UserError, match=r"vgg\.h5 is a Keras model in an HDF5 file") as error:
        load_detector(path)
    one_sentence(error)


def test_a_damaged_file(small, tmp_path):
    content = write_as_keras(tmp_path / "whole.h5", small).read_bytes()
    for name, damaged in (("cut.h5", content[: len(content) // 2]), ("head.h5", content[:2000])):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{re.escape(name)} is ") as error:
            load_detector(tmp_path / name)
        one_sentence(error)


def test_values_that_are_not_finite(small, tmp_path):
    small = {**small, "conv1/bias": np.full(8, np.nan, np.float32)}
    _, report = load_detector(write_as_keras(tmp_path / "nan.h5", small))
    assert "There are NaN or infinite values in 1 array: conv1/bias." in report.warnings


def test_shapes_that_do_not_fit(small, tmp_path):
    wrong = {**small, "fpn_p3/bias": np.zeros(9, np.float32)}
    with pytest.raises(UserError, match=r"fpn_p3/bias, \(9,\) in the file"):
        load_detector(write_as_keras(tmp_path / "wrong.h5", wrong))


@pytest.mark.parametrize("missing", ["mrcnn_class_logits", "fpn_p3", "rpn_class_raw", "res4f"])
def test_a_part_is_missing(small, tmp_path, missing):
    with pytest.raises(UserError):
        load_detector(write_as_keras(tmp_path / "part.h5", without(small, missing)))


def test_arrays_in_other_files_are_not_read(small, tmp_path):
    write_as_keras(tmp_path / "a.h5", without(small, "conv1/"))
    (tmp_path / "secret").write_bytes(bytes(32))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.create_dataset(
            "conv1/conv1/bias:0", (8,), np.float32, external=[(str(tmp_path / "secret"), 0, 32)]
        )
    with pytest.raises(UserError, match="is in another file"):
        read_checkpoint(tmp_path / "a.h5")


def test_a_file_that_would_expand(small, tmp_path):
    write_as_keras(tmp_path / "a.h5", {"rpn_class_raw/kernel": np.zeros(3, np.float32)})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.create_dataset("x/kernel:0", (10**12,), np.float32, chunks=True)
    with pytest.raises(UserError, match="would expand to more than"):
        read_checkpoint(tmp_path / "a.h5")


def test_formats_that_do_not_take_it(tmp_path):
    with pytest.raises(
        UserError, match=r"an \.h5 file holds Keras' weights, which torchvision does not load"
    ):
        write_state_dict(tmp_path / "a.h5", {"a/b": np.zeros(1, np.float32)}, "torchvision")
    assert not list(tmp_path.iterdir())


# -- classes of settings

CLASS = '''
import numpy as np
from mrcnn.config import Config
from mrcnn import model as modellib, utils

SIDE = 512


class CellConfig(Config):
    """For training."""
    NAME = "cell"
    IMAGES_PER_GPU = 4
    NUM_CLASSES = 1 + 2  # background and two kinds
    BACKBONE = "resnet50"
    IMAGE_MIN_DIM = SIDE
    IMAGE_MAX_DIM = SIDE
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_ANCHOR_RATIOS = [0.5, 1, 4]
    MEAN_PIXEL = np.array([43.5, 39.5, 48.25])
    RPN_BBOX_STD_DEV = np.array([0.1, 0.2, 0.4, 0.5])
    LEARNING_RATE = 0.002


class InferenceConfig(CellConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0


class CellDataset(utils.Dataset):
    def load(self):
        open("ran", "w")
'''


def test_a_class_of_a_user(tmp_path):
    """The last of its classes, with what it inherits; nothing of the file is run."""
    (tmp_path / "cell.py").write_text(CLASS)
    config = config_from_file(tmp_path / "cell.py")
    usual = model_config("matterport/mask_rcnn_coco")
    assert config == usual.replace(
        {
            "num_classes": 2, "categories": (), "backbone.depth": 50, "input.test_min_size": 512,
            "input.test_max_size": 512, "input.pad_divisor": 512, "input.pixel_mean": (43.5, 39.5, 48.25),
            "rpn.anchors.sizes": (8, 16, 32, 64, 128), "rpn.anchors.ratios": (2.0, 1.0, 0.25),
            "rpn.box_weights": (5.0, 10.0, 2.0, 2.5), "detections.score_threshold": 0.0,
        }
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["cell.py"]
    text, differences = export_settings(config, "matterport")
    assert all(line.startswith("categories") for line in differences) or not differences
    (tmp_path / "again.py").write_text(text)
    assert config_from_file(tmp_path / "again.py") == config


def body(lines):
    return "class A(Config):\n    NUM_CLASSES = 3\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    "text, said",
    [
        (body(["IMAGE_RESIZE_MODE = 'pad64'"]), "IMAGE_RESIZE_MODE is 'pad64'; supported: 'square'"),
        (body(["IMAGE_MAX_DIM = 1000"]), "IMAGE_MAX_DIM is 1000; supported: multiples of 64"),
        (body(["RPN_ANCHOR_STRIDE = 2"]), "RPN_ANCHOR_STRIDE is 2; supported: 1"),
        (body(["BACKBONE = my_graph"]), "BACKBONE cannot be read without running it"),
        (body(["IMAGE_CHANNEL_COUNT = 1"]), "IMAGE_CHANNEL_COUNT is 1; supported: 3"),
        (body(["DETECTION_MIN_CONFIDENSE = 1"]), "did you mean DETECTION_MIN_CONFIDENCE?"),
        (
            body(["MASK_SHAPE = [56, 56]"]),
            "MASK_SHAPE is [56, 56]; supported: [28, 28], twice MASK_POOL_SIZE",
        ),
        (body(["LOSS_WEIGHTS = {'mrcnn_mask_loss': 2.0}"]), "supported: weights of 1"),
        (
            body(["def __init__(self):", "    self.NAME = 1"]),
            "has an __init__, which can set fields in line 3",
        ),
        ("class A(Config):\n    pass\n", "NUM_CLASSES is not set"),
        (body([]) + body([]).replace("A(", "B("), "has the configurations A, B; keep one of them"),
        ("class A(Config:\n", "is not valid Python"),
    ],
)
def test_classes_that_are_refused(tmp_path, text, said):
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(UserError) as error:
        config_from_file(tmp_path / "a.py")
    assert said in str(error.value) and "a.py" in str(error.value)


def test_settings_that_only_training_reads_are_said(tmp_path, caplog):
    (tmp_path / "a.py").write_text(body(["USE_RPN_ROIS = False"]))
    config_from_file(tmp_path / "a.py", training=False)
    assert "training here would differ: USE_RPN_ROIS is False" in caplog.text


def test_the_table_of_fields_is_that_of_the_docs():
    page = (GOLDENS.parent.parent / "docs" / "conversion.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", page, re.M))
    expected = {row.key: paths(row.field) for row in rows.SETTINGS} | {rows.MASK_SHAPE: ()}
    expected |= {key: paths(field) for key, field in rows.RUN.items()}
    assert {key: tuple(re.findall(r"`([\w.]+)`", text)) for key, text in table.items()} == expected


def paths(field):
    return () if field is None else field if isinstance(field, tuple) else (field,)


# -- commands


@pytest.mark.slow
def test_commands(saved, tmp_path, capsys):
    assert command(["export", str(saved), str(tmp_path / "b.h5"), "--format=matterport"]) == 0
    printed = capsys.readouterr().out
    assert "384 arrays by matterport's Mask R-CNN's names" in printed
    assert "    BACKBONE = 'resnet50'\n" in printed
    same(read_checkpoint(tmp_path / "b.h5"), read_checkpoint(saved))


@pytest.mark.parametrize("library", ["torchvision", "detectron2", "mmdet"])
def test_other_libraries_do_not_have_such_models(library):
    config = model_config("matterport/mask_rcnn_coco")
    with pytest.raises(UserError, match="cannot express this model: ") as error:
        export_settings(config, library)
    one_sentence(error)
