"""Model files of other programs are named for what they are, with what can be done."""

import pickle
import re
import zipfile

import numpy as np
import pytest
from detectors import random_model, small_config

import jaxmaskrcnn as jmr
from jaxmaskrcnn.checkpoints.fit import LoadSettings, requested_config
from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.convert import load_detector
from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

HDF5 = b"\x89HDF\r\n\x1a\n" + b"\0" * 600
INDEX_END = bytes.fromhex("57fb808b247547db")
FILES = {
    "model.h5": (HDF5 + b"keras_version\0layer_names", "is a Keras model in an HDF5 file"),
    "model.keras": (HDF5 + b"\0" * 99, "is a Keras model in an HDF5 file"),
    "other.hdf5": (HDF5, "is an HDF5 file"),
    "m.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xff\x01", "is an ONNX file"),
    "renamed.pth": (b"\x08\x07\x12\x07tf2onnx\x1a\x051.9", "is an ONNX file"),
    "empty.onnx": (b"\x3a\x05\x0a\x03abc", "is an ONNX file"),
    "m.tflite": (b"\x1c\0\0\0TFL3\x14\0", "is a TensorFlow Lite model"),
    "m.engine": (b"ftrt\0\0\0\0", "is a TensorRT engine"),
    "openvino.xml": (b'<?xml version="1.0"?>\n<net name="m" version="11">', "is an OpenVINO model"),
    "saved_model.pb": (b"\x08\x01\x12\xf4\x05\n", "is a TensorFlow graph"),
    "model.ckpt.index": (b"\0\0\x02x" + b"\0" * 60 + INDEX_END, "is a part of a TensorFlow checkpoint"),
    "model.ckpt.data-00000-of-00001": (b"\x3f\x80\0\0" * 20, "is a part of a TensorFlow checkpoint"),
    "checkpoint": (b'model_checkpoint_path: "model.ckpt-1000"\n', "is TensorFlow's list of checkpoints"),
    "m.mlmodel": (b"\x08\x04\x12\x07", "is a Core ML model"),
    "yolov3.weights": (b"\0\0\0\0\2\0\0\0\0\0\0\0" + b"\0" * 20, "holds weights of a Darknet YOLO"),
    "params.msgpack": (b"\x81\xa6params\x82", "is a Flax msgpack file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_named(tmp_path, name):
    content, said = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_checkpoint, load_detector, jmr.load_model):
        with pytest.raises(UserError, match=rf"{re.escape(name)} {said}") as error:
            read(path)
        text = str(error.value)
        assert "; " in text and "\n" not in text and "damaged" not in text
        assert re.search(r"torchvision, Detectron2 or MMDetection", text)


def test_a_name_does_not_outweigh_the_bytes(tmp_path):
    arrays = {"a.weight": np.zeros(2, np.float32)}
    for name in ("weights.onnx", "weights.pb", "weights.weights"):
        with open(tmp_path / name, "wb") as file:
            pickle.dump(arrays, file)
        assert list(read_checkpoint(tmp_path / name)) == ["a.weight"]


def pickled_object(module: str, name: str) -> bytes:
    """A dictionary with an object under "model", as torch and pickle write one, by hand."""
    return b"\x80\x02}X\x05\0\0\0model" + f"c{module}\n{name}\n".encode() + b")\x81s."


@pytest.mark.parametrize(
    "module, name, said",
    [
        ("ultralytics.nn.tasks", "SegmentationModel", "is a model of ultralytics .*yolo-seg"),
        ("ultralytics.nn.tasks", "DetectionModel", "is a model of ultralytics"),
        ("models.yolo", "DetectionModel", "is a model of ultralytics"),  # YOLOv5's own repository
        ("keras.src.engine.functional", "Functional", "is a pickle of a Keras model"),
        ("detectron2.modeling.meta_arch.rcnn", "GeneralizedRCNN", "was refused: it holds a whole model"),
    ],
)
@pytest.mark.parametrize("container", ["pickle", "zip"])
def test_classes_in_pickles_are_named(tmp_path, container, module, name, said):
    path = tmp_path / "best.pt"
    path.write_bytes(pickled_object(module, name))
    if container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("best/data.pkl", pickled_object(module, name))
            archive.writestr("best/version", "3")
    with pytest.raises(UserError, match=f"best.pt {said}") as error:
        jmr.load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entries, said",
    [
        (("metadata.json", "config.json", "model.weights.h5"), "is a Keras model"),
        (("metadata.json", "config.json", "model.weights.npz"), "is a Keras model"),
        (("model.weights.json", "model_00000.weights.h5"), "is a Keras model"),
        (("metadata.json", "config.json", "variables.npz"), "is a Keras model"),
        (("a.txt",), "is a Keras model"),  # by the file's name
        (("my/saved_model.pb", "my/variables/variables.index"), "is a zipped SavedModel of TensorFlow"),
        (("m.mlpackage/Data/com.apple.CoreML/model.mlmodel",), "is a Core ML model"),
        (("run/model_final.pth", "run/log.txt"), "with run/model_final.pth in it; unpack it"),
    ],
)
def test_archives_are_named(tmp_path, entries, said):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for entry in entries:
            archive.writestr(entry, "x")
    with pytest.raises(UserError, match=f"model.keras {said}|model.keras is a zip archive {said}"):
        jmr.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize(
    "files, said",
    [
        (("saved_model.pb", "variables/variables.index"), "is a SavedModel of TensorFlow"),
        (("checkpoint", "model.ckpt-1.index", "model.ckpt-1.meta"), "holds a checkpoint of TensorFlow"),
        (
            ("model_final.pth", "model_0004999.pth", "log.txt"),
            r"checkpoint files \(model_0004999.pth, model_f",
        ),
        (("_CHECKPOINT_METADATA", "default/_METADATA"), "is an Orbax checkpoint without a description"),
        (("notes.txt",), "is neither a model directory"),
    ],
)
def test_folders_are_named(tmp_path, files, said):
    folder = tmp_path / "run"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"run .*{said}"):
        jmr.load_model(folder)


@pytest.fixture(scope="module")
def model():
    return random_model(small_config())


@pytest.mark.parametrize(
    "names",
    [
        ("conv1.weight", "conv1.bias", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.bias"),  # LeNet
        ("features.conv1.weight", "features.conv2.weight", "classifier.weight"),
        ("module.conv1.weight", "module.bn1.weight", "module.lstm.weight_ih_l0"),
        ("encoder.conv1.weight", "decoder.conv1.weight", "layer1.weight"),
        ("stem.conv1.weight", "blocks.0.dw.weight"),
    ],
)
def test_a_first_convolution_makes_no_resnet(tmp_path, model, names):
    np.savez(tmp_path / "lenet.npz", **{name: np.zeros((2, 2, 1, 1), np.float32) for name in names})
    with pytest.raises(UserError, match="has the names of no supported Faster or Mask R-CNN.* but ") as error:
        load_detector(tmp_path / "lenet.npz")
    assert "ResNet alone" not in str(error.value) and names[0] in str(error.value)
    with pytest.raises(UserError, match="has neither Detectron2's ResNet names .* but "):
        jmr.load_backbone(model, tmp_path / "lenet.npz")


@pytest.mark.parametrize(
    "names",
    [
        ("conv1.weight", "layer1.0.conv1.weight"),  # torchvision
        ("stem.conv1.weight", "res2.0.conv1.weight"),  # Detectron2
        ("backbone.body.conv1.weight", "backbone.body.layer1.0.conv2.weight"),
    ],
)
def test_a_resnet_is_still_one(tmp_path, names):
    np.savez(tmp_path / "r.npz", **{name: np.zeros((2, 2, 1, 1), np.float32) for name in names})
    with pytest.raises(UserError, match="holds a ResNet alone"):
        load_detector(tmp_path / "r.npz")


def test_a_preset_leaves_how_pictures_are_read():
    pixels = PixelConfig(intensity="percentile", page=1)
    stored = model_config("jaxmaskrcnn/shapes").replace({"input.pixels": pixels})
    named = requested_config(LoadSettings("torchvision/maskrcnn_resnet50_fpn", False, None), stored)
    assert named.input.pixels == pixels and named.backbone.depth == 50
    whole = requested_config(
        LoadSettings(stored.replace({"input.pixels": PixelConfig()}), False, None), stored
    )
    assert whole.input.pixels == PixelConfig()
