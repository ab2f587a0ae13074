"""Tensors as a pickle describes them, and their conversion to NumPy arrays.

A torch tensor is a view of a storage, a flat run of numbers of one dtype, with an offset and strides
(both counted in numbers). Several tensors may share a storage.

Every array is a view of the file's bytes if its byte order is the machine's. Sizes from the file are
checked against the bytes that exist before an array is made.
"""

import math
from typing import Any

import ml_dtypes
import numpy as np

from jaxmaskrcnn.utils.pickles.numpy_arrays import native
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Inert, Refused, StandIn, Unreadable

# torch's dtypes by name, each with the prefix of its old, typed storage class.
TORCH_DTYPES = {
    "float64": (np.float64, "Double"),
    "float32": (np.float32, "Float"),
    "float16": (np.float16, "Half"),
    "bfloat16": (ml_dtypes.bfloat16, "BFloat16"),
    "int64": (np.int64, "Long"),
    "int32": (np.int32, "Int"),
    "int16": (np.int16, "Short"),
    "int8": (np.int8, "Char"),
    "uint8": (np.uint8, "Byte"),
    "bool": (np.bool_, "Bool"),
    "uint16": (np.uint16, None),
    "uint32": (np.uint32, None),
    "uint64": (np.uint64, None),
}
OTHER_DTYPES = {
    "complex32": "ComplexHalf", "complex64": "ComplexFloat", "complex128": "ComplexDouble",
    "qint8": "QInt8", "quint8": "QUInt8", "qint32": "QInt32", "quint4x2": "QUInt4x2",
    "quint2x4": "QUInt2x4", "float8_e4m3fn": None, "float8_e5m2": None, "float8_e4m3fnuz": None,
    "float8_e5m2fnuz": None, "float8_e8m0fnu": None, "float4_e2m1fn_x2": None,
}  # fmt: skip


def view_array(
    data: memoryview,
    dtype: np.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    budget: Budget,
) -> np.ndarray:
    """Return a strided array over ``data``.

    Args:
        data: Bytes.
        dtype: Dtype of one number.
        shape: The array's shape.
        strides: Steps along each axis, counted in numbers.
        offset: Position of the first number, counted in numbers.
        budget: The file's budget.

    Returns:
        The array; a view if the byte order is the machine's.

    Raises:
        ValueError: The array reaches beyond ``data``, or a size is invalid.
        Refused: The array is far larger than the file.
    """
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor has an invalid shape, strides or offset")
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if (last + 1) * dtype.itemsize > len(data):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its {len(data)} bytes")
    if count * dtype.itemsize > budget.limit:  # strides of 0 repeat numbers
        raise Refused(f"a tensor of shape {shape} repeats a few numbers too often")
    steps = tuple(stride * dtype.itemsize for stride in strides)
    return native(np.ndarray(shape, dtype, data, offset * dtype.itemsize, steps), budget)


class Storage(StandIn):
    """A run of numbers that tensors are views of.

    Attributes:
        dtype: Name of its torch dtype; None for plain bytes.
        data: Its bytes; None until they are found.
        start: Start of this storage in ``root``, in numbers.
        root: The storage that has the bytes, if that is another one.
    """

    __slots__ = ("data", "dtype", "root", "start")

    def __init__(self, dtype: str | None, data: memoryview | None = None, root=None, start: int = 0):
        self.dtype, self.data, self.root, self.start = dtype, data, root, start

    def resolve(self, budget: Budget) -> Inert:
        return Inert("torch.storage.TypedStorage", (), None)


class Tensor(StandIn):
    """A tensor as a pickle describes it: a strided view of a storage."""

    __slots__ = ("big_endian", "dtype", "offset", "shape", "storage", "strides")

    def __init__(self, storage, offset, shape, strides, dtype=None, big_endian=False):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.dtype, self.big_endian = dtype or storage.dtype, big_endian

    def set_state(self, state: Any) -> None:
        pass

    def resolve(self, budget: Budget) -> np.ndarray | Unreadable:
        if self.dtype not in TORCH_DTYPES:
            return Unreadable(f"has the dtype {self.dtype}")
        dtype = np.dtype(TORCH_DTYPES[self.dtype][0])
        data = (self.storage.root or self.storage).data
        if data is None:
            raise ValueError("a tensor's numbers are not in the file")
        if self.big_endian:
            dtype = dtype.newbyteorder(">")
        offset = self.storage.start + self.offset
        return view_array(data, dtype, tuple(self.shape), tuple(self.strides), offset, budget)


def item_size(dtype: str | None) -> int:
    """Return the bytes per number of a torch dtype (None: plain bytes)."""
    if dtype in TORCH_DTYPES:
        return np.dtype(TORCH_DTYPES[dtype][0]).itemsize
    sizes = {"complex64": 8, "complex128": 16, "complex32": 4, "qint32": 4}
    return sizes.get(dtype, 1)


def storage_dtype(name: Any) -> str | None:
    """Return the torch dtype of a storage class such as torch.FloatStorage; None for plain bytes."""
    return STORAGES[name.name]


STORAGES = {
    **{f"torch.{old}Storage": dtype for dtype, (_, old) in TORCH_DTYPES.items() if old},
    **{f"torch.{old}Storage": dtype for dtype, old in OTHER_DTYPES.items() if old},
    "torch.storage.UntypedStorage": None,
    "torch.UntypedStorage": None,
}
