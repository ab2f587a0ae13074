"""Damaged checkpoint files of every format: one sentence, whatever was cut off or changed."""

import io
import pickle

import numpy as np
import pytest
from folders import GOLDENS

from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.errors import UserError

TORCH_FILES = GOLDENS / "torch_files"
ARRAYS = {"a.weight": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2)), "empty": np.zeros((0, 3))}
KINDS = [
    "npz", "compressed npz", "pickle 0", "pickle 2", "pickle 4", "state.zip.pth", "state.stream.pth",
    "training.zip.pth", "mmdetection.stream.pth", "tensors.pkl", "state.safetensors",
]  # fmt: skip


def whole_file(kind: str) -> bytes:
    if "." in kind:
        return (TORCH_FILES / kind).read_bytes()
    if kind.startswith("pickle"):
        return pickle.dumps({"model": ARRAYS}, protocol=int(kind[-1]))
    file = io.BytesIO()
    (np.savez if kind == "npz" else np.savez_compressed)(file, **ARRAYS)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(tmp_path, kind):
    whole, path = whole_file(kind), tmp_path / "model"
    rng = np.random.default_rng(0)
    for length in {*range(12), len(whole) - 1, *rng.integers(len(whole), size=150)}:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged") as error:
            read_checkpoint(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_never_raise_anything_else(tmp_path, kind):
    whole, path = whole_file(kind), tmp_path / "model"
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            arrays = read_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
