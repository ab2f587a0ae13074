"""State dicts to files and back, bit for bit."""

import os
import pickle
import pickletools
import sys
import types

import ml_dtypes
import numpy as np
import pytest

from jaxmaskrcnn.convert.files.reader import read_source
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.errors import UserError


def some_arrays():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "a.num_batches_tracked": np.array(12, np.int64),
        "half": rng.standard_normal(5).astype(np.float16),
        "double": rng.standard_normal((2, 3)),
        "mask": np.array([True, False]),
        "bytes": np.arange(3, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4)).astype(np.float32)),
        "strided": rng.standard_normal((6, 4)).astype(np.float32)[::2, ::-1],
        "special": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "ä": np.zeros(1, np.float32),
    }


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pkl", ".PKL"])
@pytest.mark.parametrize("library", ["torchvision", "detectron2", "mmdet"])
def test_there_and_back(tmp_path, suffix, library):
    path = tmp_path / "new" / f"model{suffix}"
    write_state_dict(path, some_arrays(), library)
    assert_same_bits(read_source(path).arrays, some_arrays())
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o444 == 0o444 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_bfloat16(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(2, 3)}
    write_state_dict(tmp_path / "a.safetensors", arrays, "torchvision")
    assert_same_bits(read_source(tmp_path / "a.safetensors").arrays, arrays)
    for suffix in (".npz", ".pkl"):
        with pytest.raises(UserError, match="'a' has the dtype bfloat16.*write .safetensors"):
            write_state_dict(tmp_path / f"a{suffix}", arrays, "torchvision")
        assert not (tmp_path / f"a{suffix}").exists()


def test_pickle_is_what_detectron2_loads(tmp_path):
    """Detectron2 reads it by pickle.load, with whatever NumPy is there."""
    write_state_dict(tmp_path / "a.pkl", some_arrays(), "detectron2")
    data = (tmp_path / "a.pkl").read_bytes()
    content = pickle.loads(data, encoding="latin1")
    assert content["__author__"] == "jaxmaskrcnn" and list(content) == ["model", "__author__"]
    assert_same_bits(content["model"], some_arrays())
    operations = list(pickletools.genops(data))
    names = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert max(operation.proto for operation, _, _ in operations) == 3


def test_torch_is_asked_for_only_by_pth(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(UserError, match="needs torch, which is not installed; write .safetensors") as error:
        write_state_dict(tmp_path / "a.pth", some_arrays(), "torchvision")
    assert str(tmp_path / "a.pth") in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("library", ["torchvision", "detectron2", "mmdet"])
def test_what_is_handed_to_torch(tmp_path, monkeypatch, library):
    saved = {}
    fake = types.SimpleNamespace(
        from_numpy=lambda array: array,
        save=lambda content, file: (saved.update(content=content), file.write(b"x")),
    )
    monkeypatch.setitem(sys.modules, "torch", fake)  # stands for a library that may not be installed
    write_state_dict(tmp_path / "a.pth", some_arrays(), library)
    content = saved["content"]
    state = {"torchvision": content, "detectron2": content.get("model"), "mmdet": content.get("state_dict")}
    assert_same_bits(state[library], some_arrays())
    assert all(array.flags.writeable and array.flags.c_contiguous for array in state[library].values())
    assert library != "mmdet" or content["meta"] == {}


@pytest.mark.parametrize("library", ["torchvision", "detectron2", "mmdet"])
def test_there_and_back_by_torch(tmp_path, library):
    pytest.importorskip("torch", reason="torch writes .pth files")
    arrays = {**some_arrays(), "brain": np.arange(3, dtype=np.float32).astype(ml_dtypes.bfloat16)}
    write_state_dict(tmp_path / "a.pth", arrays, library)
    source = read_source(tmp_path / "a.pth")
    assert source.taken == {"torchvision": "", "detectron2": "model", "mmdet": "state_dict"}[library]
    assert_same_bits(source.arrays, arrays)


def test_nothing_is_half_written(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(b"before")

    def fail(*args, **kwargs):
        args[0].write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)  # stands for a full disk
    with pytest.raises(UserError, match="a.npz cannot be written: No space left on device"):
        write_state_dict(path, some_arrays(), "torchvision")
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.npz"]


def test_wrong_targets(tmp_path):
    arrays = some_arrays()
    with pytest.raises(UserError, match="a.onnx has the suffix .onnx; give one of .safetensors"):
        write_state_dict(tmp_path / "a.onnx", arrays, "torchvision")
    with pytest.raises(UserError, match="model has no suffix"):
        write_state_dict(tmp_path / "model", arrays, "torchvision")
    with pytest.raises(UserError, match="library is 'keras'; choose one of torchvision, detectron2, mmdet"):
        write_state_dict(tmp_path / "a.npz", arrays, "keras")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match="is a directory"):
        write_state_dict(tmp_path / "folder.npz", arrays, "torchvision")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        write_state_dict(tmp_path / "file" / "a.npz", arrays, "torchvision")
