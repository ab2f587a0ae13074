"""NumPy arrays as a pickle describes them, by shape, dtype and bytes, and their conversion to arrays.

Every array is a view of the file's bytes if its byte order is the machine's.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxmaskrcnn.utils.pickles.stand_ins import Budget, LongText, Name, Refused, StandIn, Unreadable


class Dtype(StandIn):
    """A NumPy dtype as a pickle describes it."""

    __slots__ = ("code", "state")

    def __init__(self, code: Any, align=False, copy=False):
        code = code.name if isinstance(code, Name) else code
        self.code, self.state = code if isinstance(code, str) else "", (3, "=", None, None, None)

    def set_state(self, state: Any) -> None:
        self.state = state

    def plain_numbers(self) -> np.dtype | None:
        """Return the dtype if it is bool, integer or float; None for any other (objects, strings, ...)."""
        _, order, *others = self.state[:5]  # version, byte order, subarray, names, fields
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", self.code) or order not in ("<", ">", "=", "|"):
            return None
        return None if others != [None] * 3 else np.dtype(self.code).newbyteorder(order)

    def resolve(self, budget: Budget) -> str:
        return self.code


class Array(StandIn):
    """A NumPy array as a pickle describes it: shape, dtype and bytes."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self, dtype=None, shape=(), fortran=False, data=None):
        self.dtype, self.shape, self.fortran, self.data = dtype, shape, fortran, data

    def set_state(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def resolve(self, budget: Budget) -> np.ndarray | Unreadable:
        dtype = self.dtype.plain_numbers()
        if dtype is None:
            return Unreadable(f"has the dtype {self.dtype.code!r}")
        data = self.data
        if isinstance(data, LongText) and data.encoding == "latin1":
            data = data.data
        elif isinstance(data, (str, LongText)):
            budget.spend(len(data) if isinstance(data, str) else len(data.data))
            data = str(data).encode("latin1")
        array = np.frombuffer(data, dtype) if len(data) else np.zeros(0, dtype)
        return native(array.reshape(self.shape, order="F" if self.fortran else "C"), budget)


def native(array: np.ndarray, budget: Budget) -> np.ndarray:
    """Return the array in the machine's byte order."""
    if array.dtype.isnative:
        return array
    budget.spend(array.nbytes)
    return array.astype(array.dtype.newbyteorder("="))


def encode_latin1(budget: Budget) -> Callable[..., bytes]:
    """The function that stands for ``_codecs.encode``, by which older pickles write bytes."""

    def encode(text: str | LongText, encoding: str = "latin1") -> bytes:
        if not isinstance(text, (str, LongText)) or encoding not in ("latin1", "latin-1"):
            raise Refused("its bytes are not encoded as latin1")
        budget.spend(len(text.data if isinstance(text, LongText) else text))
        return str(text).encode("latin1")

    return encode


def numpy_calls(budget: Budget) -> dict[str, Callable]:
    """What NumPy's pickles call, by name: the functions here make stand-ins and run nothing else.

    Args:
        budget: The file's budget.
    """
    return {
        "_codecs.encode": encode_latin1(budget),
        "builtins.bytes": lambda: b"",  # how the older protocols write an empty array's bytes
        "builtins.bytearray": lambda data=b"": data,
        "numpy.dtype": Dtype,
        "numpy.core.multiarray._reconstruct": lambda kind, shape, code: Array(),
        "numpy.core.multiarray.scalar": lambda dtype, data=b"": Array(dtype, (), False, data),
        "numpy.core.numeric._frombuffer": lambda data, dtype, shape, order="C": Array(
            dtype, shape, order == "F", data
        ),
    }
