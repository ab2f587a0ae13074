"""Read and write the ``.safetensors`` format.

    8 bytes     N, the length of the header, little-endian
    N bytes     json: {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...},
                and optionally "__metadata__": {string: string}; spaces may follow
    the rest    the arrays' bytes, little-endian, row-major; offsets count from here

The arrays fill the rest without gaps or overlaps, in any order; otherwise the file is damaged.
(Format: the README of huggingface/safetensors.)
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles.stand_ins import Unreadable

DTYPES = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U64": np.dtype("<u8"), "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip

_LONGEST_HEADER = 100_000_000


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (9 bytes or more) has this format."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= _LONGEST_HEADER


def read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray | Unreadable], dict[str, str]]:
    """Read the arrays of a file, as views of its bytes, and its metadata.

    Args:
        data: The file's bytes.

    Returns:
        The arrays in the order of the header, and the strings of ``__metadata__``.

    Raises:
        ValueError: The header is damaged or does not fit the bytes.

    Example:
        >>> header = b'{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}'
        >>> read_safetensors(len(header).to_bytes(8, "little") + header + bytes([7, 8]))[0]["a"]
        array([7, 8], dtype=uint8)
    """
    (length,) = struct.unpack_from("<Q", data)
    begin = 8 + length
    if length > _LONGEST_HEADER or begin > len(data):
        raise ValueError(f"its header of {length} bytes is cut off")
    header = json.loads(data[8:begin], object_pairs_hook=_without_repetition)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not strings")
    reached, arrays = 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if type(first) is not int or type(last) is not int or first != reached or last < first:
            raise ValueError(f"the array {name!r} does not begin where the one before it ends")
        if begin + last > len(data):
            raise ValueError(f"the array {name!r} is cut off")
        arrays[name] = _read_array(memoryview(data)[begin + first : begin + last], name, entry)
        reached = last
    if begin + reached != len(data):
        raise ValueError(f"{len(data) - begin - reached} bytes at its end belong to no array")
    return {name: arrays[name] for name in header}, metadata


def write_safetensors(
    file: BinaryIO, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays bit for bit.

    Args:
        file: Open for writing.
        arrays: Arrays by name, with the dtypes in ``DTYPES``; the header keeps their order.
        metadata: Strings to store with them.

    Raises:
        UserError: An array has another dtype, or the reserved name.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # The largest item sizes first, so that each array begins at a multiple of its own.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    offsets, end = {}, 0
    for name in order:
        offsets[name], end = [end, end + arrays[name].nbytes], end + arrays[name].nbytes
    for name, array in arrays.items():
        code = codes.get(array.dtype.newbyteorder("<"))
        if code is None or name == "__metadata__":
            raise UserError(
                f"the array {name!r} of dtype {array.dtype} cannot be written to a .safetensors file; "
                f"give one of the dtypes {', '.join(str(dtype) for dtype in codes)}."
            )
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": offsets[name]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        array = arrays[name]
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _read_array(content: memoryview, name: str, entry: dict) -> np.ndarray | Unreadable:
    dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the array {name!r} has the shape {shape}")
    if dtype is None:
        return Unreadable(f"has the dtype {entry['dtype']!r}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"the array {name!r} of shape {shape} has {len(content)} bytes")
    array = np.frombuffer(content, dtype) if len(content) else np.zeros(0, dtype)
    return array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("its header has a name twice")
    return result
