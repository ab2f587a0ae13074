"""Model files that are of no use here: what they are, by their bytes or names, and what can be done."""

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path


class Foreign(Exception):
    """A pickle names a class of another kind of model; the message is as `foreign_file` returns it."""


_INSTEAD = (
    "give a Mask R-CNN checkpoint of torchvision, Detectron2 or MMDetection, or start from one (jaxmaskrcnn "
    "models lists the presets)"
)
_KERAS = f"which has no layout that is read; {_INSTEAD}"
_TENSORFLOW = f"which is not converted; {_INSTEAD}"
_EXPORTED = (
    "a program with its weights for running alone, which is not converted; give the checkpoint that it was "
    "exported from, a .pth of torchvision, Detectron2 or MMDetection"
)
_ULTRALYTICS = (
    "is a model of ultralytics (a YOLO), of another kind than Mask R-CNN, which cannot be converted (nothing "
    f"of it was run); {_INSTEAD}, and train it with your labels (jaxmaskrcnn import --format=yolo-seg reads "
    "them)"
)

# By the first bytes, with the place where they stand.
_MAGIC = (
    (4, b"TFL3", f"is a TensorFlow Lite model, {_EXPORTED}"),
    (0, b"ftrt", f"is a TensorRT engine, {_EXPORTED}"),
    (0, b"GGUF", f"is a GGUF language model, which is no detector; {_INSTEAD}"),
    (0, b"7767517\n", f"is ncnn's description of a network, {_EXPORTED}"),
)
_TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's .index files
_LARGEST_INDEX = 10_000_000  # bytes; a detector's has less than one
# Names in the index of a checkpoint. (Sources: tensorflow/models, official/vision/modeling/maskrcnn_model.py
# and research/object_detection/meta_architectures.)
_TENSORFLOW_DETECTORS = {
    "TensorFlow's Object Detection API": (b"SecondStage", b"FirstStage", b"_box_predictor/"),
    "TensorFlow's Model Garden (a Mask R-CNN)": (b"mask_head/", b"detection_head/", b"rpn_head/"),
}
_ONNX_PRODUCERS = re.compile(
    rb"\x08[\x01-\x20]\x12.(pytorch|tf2onnx|keras2onnx|onnx|paddle|mxnet|caffe2|cntk|skl2onnx|winmltools)",
    re.S,
)


def foreign_file(path: str | os.PathLike, head: bytes) -> str | None:
    """What a file is, if it is a model of a kind that is not read.

    Args:
        path: The file. Of most kinds its bytes tell, and its name for those without a mark of their own.
        head: Its first bytes, 512 at best.

    Returns:
        The end of a sentence that begins with the file's name, without its full stop; None for others.
    """
    name = Path(path).name.lower()
    if head.startswith(b"\x89HDF"):
        return _hdf5(path)
    for start, magic, problem in _MAGIC:
        if head[start : start + len(magic)] == magic:
            return problem
    if _ONNX_PRODUCERS.match(head):
        return f"is an ONNX file, {_EXPORTED}"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?<net\s", head):
        return f"is an OpenVINO model, {_EXPORTED}"
    if head.startswith(b"model_checkpoint_path:"):
        return f"is TensorFlow's list of checkpoints, and names files of TensorFlow, {_TENSORFLOW}"
    return None if head.startswith((b"PK", b"\x80")) else _by_name(path, name, head)


def _by_name(path: str | os.PathLike, name: str, head: bytes) -> str | None:
    """What the end of a name says of a file without a mark of its own."""
    if name.endswith(".onnx"):
        return f"is an ONNX file, {_EXPORTED}"
    if re.search(r"\.data-\d{5}-of-\d{5}$", name) or (
        name.endswith(".index") and _ends_with(path, _TABLE_END)
    ):
        return f"is a part of a TensorFlow checkpoint{_garden(path)}, {_TENSORFLOW}"
    if name.endswith((".pb", ".pbtxt")):
        return f"is a TensorFlow graph, {_TENSORFLOW}"
    if name.endswith((".mlmodel", ".mlpackage")):
        return f"is a Core ML model, {_EXPORTED}"
    if name.endswith(".weights") and head[4:12] in (
        b"\1\0\0\0\0\0\0\0",
        b"\2\0\0\0\5\0\0\0",
        b"\2\0\0\0\0\0\0\0",
    ):
        return f"holds weights of a Darknet YOLO, which is no Mask R-CNN; {_INSTEAD}"
    if name.endswith((".msgpack", ".flax")):
        return f"is a Flax msgpack file, which does not say what model it is of; {_INSTEAD}"
    if name.endswith((".pdmodel", ".pdiparams")):
        return f"is a model of PaddlePaddle, {_TENSORFLOW}"
    return None


def foreign_archive(path: str | os.PathLike, names: Iterable[str]) -> str | None:
    """As `foreign_file`, for a zip archive that is not torch's and not NumPy's.

    Args:
        path: The file, whose name tells a Keras model where its entries do not.
        names: Of its entries.
    """
    names = list(names)
    own = {Path(name).name for name in names}
    if {"metadata.json", "config.json"} <= own or any(
        name.endswith(".weights.h5") or name.startswith("model.weights.") for name in own
    ):
        return f"is a Keras model, {_KERAS}"
    if any(Path(name).name == "saved_model.pb" for name in names):
        return f"is a zipped SavedModel of TensorFlow, {_TENSORFLOW}"
    if any(name.endswith(".mlmodel") for name in names):
        return f"is a Core ML model, {_EXPORTED}"
    inside = [name for name in names if name.endswith((".pth", ".pt", ".pkl", ".safetensors", ".npz"))]
    if inside:
        return f"is a zip archive with {inside[0]} in it; unpack it and give that file"
    return f"is a Keras model, {_KERAS}" if Path(path).name.lower().endswith(".keras") else None


def foreign_folder(folder: str | os.PathLike) -> str | None:
    """As `foreign_file`, for a folder that is no model directory and no workdir.

    Args:
        folder: The folder.
    """
    names = sorted(entry.name for entry in Path(folder).iterdir())
    if "saved_model.pb" in names:
        return f"is a SavedModel of TensorFlow, {_TENSORFLOW}"
    index = next((name for name in names if name.endswith(".index")), None)
    if "checkpoint" in names and index is not None:
        return f"holds a checkpoint of TensorFlow{_garden(Path(folder) / index)}, {_TENSORFLOW}"
    weights = [name for name in names if name.endswith((".pth", ".pkl", ".safetensors", ".pt"))]
    if weights:
        some = ", ".join(weights[:3]) + (", ..." if len(weights) > 3 else "")
        return f"is a folder with checkpoint files ({some}); give one of these files"
    if "_CHECKPOINT_METADATA" in names or "_METADATA" in names:
        return (
            "is an Orbax checkpoint without a description of its model; give the model directory (the folder "
            "with model.json) or the training workdir"
        )
    return None


def checkpoint_inside(folder: str | os.PathLike) -> str | None:
    """The weights in a folder of accelerate or transformers, which save each model under a name of their own.

    Args:
        folder: Any path.

    Returns:
        The path of the file; None for other folders and for files.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    return None


def foreign_class(name: str) -> str | None:
    """As `foreign_file`, for a pickle that names a class of another kind of model.

    Args:
        name: Of the class, with its module.
    """
    if name.startswith(("ultralytics.", "models.yolo.", "models.common.", "models.experimental.")):
        return _ULTRALYTICS
    if name.startswith(("keras.", "tensorflow.")):
        return f"is a pickle of a Keras model, {_KERAS}"
    return None


def _garden(path: str | os.PathLike) -> str:
    """Which of TensorFlow's own detectors a checkpoint is of, from the names in its index; "" for others."""
    path = Path(path)
    if match := re.fullmatch(r"(.*)\.data-\d{5}-of-\d{5}", path.name):
        path = path.with_name(f"{match[1]}.index")
    if not path.is_file() or path.stat().st_size > _LARGEST_INDEX:
        return ""
    names = path.read_bytes()
    for title, telltales in _TENSORFLOW_DETECTORS.items():
        if any(word in names for word in telltales):
            return f" of {title}"
    return ""


def _hdf5(path: str | os.PathLike) -> str | None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"mrcnn_") >= 0 or content.find(b"rpn_class_raw") >= 0:
            return None  # matterport's Mask R-CNN, or a part of it
        named = Path(path).name.lower().endswith(".keras")
        if named or content.find(b"keras_version") >= 0 or content.find(b"layer_names") >= 0:
            return f"is a Keras model in an HDF5 file, {_KERAS}"
    return f"is an HDF5 file (Keras, TensorFlow or others), {_KERAS}"


def _ends_with(path: str | os.PathLike, end: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(len(end), os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read() == end
