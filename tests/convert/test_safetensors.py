"""The .safetensors format; a file of the library's own is among the goldens of test_torch_files.py."""

import io
import json
import struct

import ml_dtypes
import numpy as np
import pytest

from jaxmaskrcnn.convert.files.reader import read_checkpoint, read_source
from jaxmaskrcnn.convert.files.safetensors_files import DTYPES, read_safetensors, write_safetensors
from jaxmaskrcnn.errors import UserError


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="U8", shape=(2,), offsets=(0, 2)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def written(arrays, metadata=None):
    file = io.BytesIO()
    write_safetensors(file, arrays, metadata)
    return file.getvalue()


def test_layout_of_a_file_made_by_hand(tmp_path):
    numbers = np.array([1.5, -2.0], "<f4").tobytes()
    header = {
        "b": entry("F32", (2, 1), (2, 10)),
        "a": entry("U8", (2,), (0, 2)),
        "__metadata__": {"epoch": "3"},
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_of(json.dumps(header).encode() + b"   ", bytes([7, 9]) + numbers))
    source = read_source(path)
    assert list(source.arrays) == ["b", "a"] and source.attributes == {"epoch": "3"}
    assert source.arrays["b"].tolist() == [[1.5], [-2.0]] and source.arrays["a"].tolist() == [7, 9]


@pytest.mark.parametrize("code", sorted(DTYPES))
def test_every_dtype_bit_for_bit(tmp_path, code):
    dtype = DTYPES[code]
    bits = np.random.default_rng(0).integers(0, 2 if code == "BOOL" else 256, 24, np.uint8)
    values = np.frombuffer(bits.tobytes(), dtype)[: 24 // dtype.itemsize]
    arrays = {
        "odd": np.zeros(3, np.uint8),  # so that the next one is not aligned by itself
        "a": values,
        "b": values.reshape(-1, 3)[:, ::-1],
        "zero": values[0].reshape(()),
        "empty": values[:0].reshape(0, 5),
    }
    (tmp_path / "a.safetensors").write_bytes(written(arrays))
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


def test_written_files_are_aligned():
    data = written({"x": np.zeros(3, np.uint8), "y": np.arange(2.0), "z": np.zeros(1, np.float16)})
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and data[8:9] == b"{"
    assert {name: item["data_offsets"] for name, item in header.items()} == {
        "x": [18, 21],
        "y": [0, 16],
        "z": [16, 18],
    }
    big_endian = np.arange(3, dtype=">f4")
    assert read_safetensors(written({"a": big_endian}))[0]["a"].tolist() == [0, 1, 2]


def test_what_cannot_be_written():
    for array in (np.zeros(1, complex), np.array(["a"]), np.zeros(1, ml_dtypes.float8_e4m3fn)):
        with pytest.raises(UserError, match="the array 'a' of dtype"):
            written({"a": array})
    with pytest.raises(UserError, match="'__metadata__'"):
        written({"__metadata__": np.zeros(1)})


def huge(length):
    return struct.pack("<Q", length) + b"{" + bytes(20)


DAMAGED = {
    "header_longer_than_the_file": (huge(50), "header of 50 bytes is cut off"),
    "no_json": (file_of(b"{" + b"x" * 20), "JSONDecodeError"),
    "no_object": (file_of({"a": [1]}), "damaged"),
    "deep_json": (file_of(b'{"a":' + b"[" * 100_000), "damaged"),
    "repeated_name": (
        file_of(b'{"a": 1, "a": ' + json.dumps(entry()).encode() + b"}", bytes(2)),
        "has a name twice",
    ),
    "beyond": (file_of({"a": entry(shape=(4,), offsets=(0, 4))}, bytes(2)), "'a' is cut off"),
    "overlap": (file_of({"a": entry(), "b": entry(offsets=(1, 3))}, bytes(3)), "'b' does not begin where"),
    "same_bytes_twice": (file_of({"a": entry(), "b": entry()}, bytes(2)), "does not begin where"),
    "gap": (file_of({"a": entry(offsets=(1, 3))}, bytes(3)), "'a' does not begin where"),
    "bytes_of_nobody": (file_of({"a": entry()}, bytes(3)), "1 bytes at its end"),
    "backwards": (file_of({"a": entry(), "b": entry(offsets=(2, 1))}, bytes(2)), "does not begin"),
    "negative": (file_of({"a": entry(offsets=(-2, 0))}, bytes(2)), "does not begin where"),
    "float_offsets": (file_of({"a": entry(offsets=(0.0, 2.0))}, bytes(2)), "does not begin where"),
    "wrong_size": (file_of({"a": entry(shape=(3,))}, bytes(2)), "of shape \\[3\\] has 2 bytes"),
    "huge_shape": (file_of({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(2)), "has 2 bytes"),
    "wrapping_shape": (file_of({"a": entry(shape=(1 << 63, 2, 1))}, bytes(2)), "has 2 bytes"),
    "huge_empty_shape": (file_of({"a": entry(shape=(0, 1 << 80), offsets=(0, 0))}), "damaged"),
    "negative_shape": (file_of({"a": entry(shape=(-1, -2))}, bytes(2)), "has the shape"),
    "bool_shape": (file_of({"a": entry(shape=(True, 2))}, bytes(2)), "has the shape"),
    "metadata_of_numbers": (file_of({"__metadata__": {"a": 1}}), "metadata are not strings"),
    "other_dtype": (file_of({"a": entry("F8_E4M3")}, bytes(2)), "the entry 'a' has the dtype 'F8_E4M3'"),
    "nothing": (file_of({}), "no arrays"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(DAMAGED))
def test_headers_are_not_trusted(tmp_path, case):
    content, words = DAMAGED[case]
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_checkpoint(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)
