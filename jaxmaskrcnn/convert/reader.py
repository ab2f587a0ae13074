"""Checkpoint files of other libraries to plain NumPy arrays.

Read so far: ``.pkl`` (Detectron2: a pickle of NumPy arrays, from Python 2 or 3) and ``.npz``.
Each format is one function in ``FORMATS``; another one plugs in there.

A pickle can name any function for the reader to call, so it is a program. The unpickler here
knows a handful of names, all of NumPy's array reconstruction, and maps each of them to a
stand-in of this module: the file decides neither what runs nor how NumPy reads its memory.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError


class SourceFile(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
        path: Where it was read from.
        arrays: Parameters by the source library's names.
        attributes: What stands beside them, such as Detectron2's ``__author__`` and
            ``matching_heuristics``.
    """

    path: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint file.

    Args:
        path: A ``.pkl`` or ``.npz`` file.

    Returns:
        Arrays by the names the file has for them, in the file's order, shape and dtype. They may
        share the file's memory and be read-only.

    Raises:
        UserError: The file is missing, damaged, of another format, or a pickle that names
            anything but NumPy arrays (nothing of it is run).

    Example:
        >>> read_checkpoint("R-50.pkl")["stem.conv1.weight"].shape  # doctest: +SKIP
        (64, 3, 7, 7)
    """
    return read_source(path).arrays


def read_source(path: str | os.PathLike) -> SourceFile:
    """As `read_checkpoint`, with the attributes that stand beside the arrays."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; give a checkpoint file ({_known_formats()}).")
    if os.path.isdir(path):
        raise UserError(f"{path} is a directory; give a checkpoint file ({_known_formats()}).")
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(
            f"{path} is {f'a {suffix} file' if suffix else 'a file without an extension'}; "
            f"the formats read are {_known_formats()}."
        )
    try:
        content = FORMATS[suffix](path)
    except UserError:
        raise
    except _Refused as error:
        raise UserError(f"{path} was refused: {error}; convert it to .npz where it comes from.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    # Damaged bytes surface as almost any exception, from struct.error to MemoryError.
    except Exception as error:
        raise UserError(
            f"{path} is damaged or not a {suffix} checkpoint ({type(error).__name__}: {error}); "
            "compare its size and checksum with the source's."
        ) from None
    arrays, attributes = _split_nested(content)
    arrays = {name: _to_array(path, name, value) for name, value in arrays.items()}
    if not arrays:
        raise UserError(f"{path} holds no arrays; give a checkpoint with parameters in it.")
    return SourceFile(path, arrays, attributes)


def _known_formats() -> str:
    return ", ".join(sorted(FORMATS))


def _split_nested(content: dict) -> tuple[dict, dict]:
    """Separate parameters from what stands beside them: ``{"model": {...}, "__author__": ...}``."""
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            return content[key], {name: value for name, value in content.items() if name != key}
    attributes = {
        name: value for name, value in content.items() if isinstance(value, (str, bool, type(None)))
    }
    return {name: value for name, value in content.items() if name not in attributes}, attributes


def _to_array(path: str, name: Any, value: Any) -> np.ndarray:
    if isinstance(value, (int, float)):
        value = np.asarray(value)
    if not isinstance(name, str) or not isinstance(value, np.ndarray):
        raise UserError(
            f"{path}: the entry {name!r} is a {type(value).__name__}, not a named array; "
            "give a file of parameters by name."
        )
    if value.dtype.kind not in "biuf":
        raise UserError(f"{path}: the array {name!r} has the dtype {value.dtype}; parameters are numbers.")
    return value.astype(value.dtype.newbyteorder("="), copy=False)


# -- .npz


def _read_npz(path: str) -> dict:
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is damaged or no .npz file; compare its size and checksum with the source's."
        )
    # Opened here, because np.load leaves it open where it raises.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
        return {name: members[name] for name in members.files}


# -- .pkl


def _read_pickle(path: str) -> dict:
    with open(path, "rb") as file:
        content = _Unpickler(file, encoding="latin1").load()  # as Python 2 wrote bytes
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary of parameters.")
    return _resolve(content)


class _Refused(Exception):
    """Something that no checkpoint does; the message goes on from "was refused: "."""


class _Unpickler(pickle.Unpickler):
    """Knows the names in ``_ALLOWED`` and refuses a file that has any other."""

    def find_class(self, module: str, name: str):
        # NumPy 2 moved numpy.core to numpy._core; files have either.
        known = _ALLOWED.get(f"{module.replace('numpy._core.', 'numpy.core.')}.{name}")
        if known is None:
            raise _Refused(
                f"its pickle names {module}.{name}, which is no part of a plain NumPy checkpoint, "
                "and nothing of it was run"
            )
        return known

    def persistent_load(self, pid):
        raise _Refused("its pickle refers to data outside of it")


class _Name:
    """A name that a pickle may mention: callable, and without anything that the file could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable | None = None):
        self._call = call

    def __call__(self, *args):
        if self._call is None:
            raise _Refused("a class is called that a checkpoint only mentions")
        return self._call(*args)

    def __setstate__(self, state):
        raise _Refused("a state is set on a function")


class _Dict(dict):
    """A dictionary whose attributes (such as a torch state dict's metadata) are dropped."""

    def __setstate__(self, state):
        pass


class _Dtype:
    """A dtype as a pickle describes it; plain numbers only."""

    __slots__ = ("_code", "_state")

    def __init__(self, code: str, align=False, copy=False):
        self._code, self._state = code, (3, "=", None, None, None)

    def __setstate__(self, state):
        self._state = state

    def resolve(self) -> np.dtype:
        # bool, int, unsigned, float; nothing with fields, pointers or variable size.
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", self._code):
            raise _Refused(f"an array has the dtype {self._code!r}, and parameters are numbers")
        _, order, *others = self._state[:5]  # version, byte order, subarray, names, fields
        if order not in ("<", ">", "=", "|") or others != [None] * 3:
            raise _Refused("an array has a dtype that is no plain number")
        return np.dtype(self._code).newbyteorder(order)


class _Array:
    """An array as a pickle describes it: shape, dtype and bytes, put together at the end."""

    __slots__ = ("_data", "_dtype", "_fortran", "_shape")

    def __setstate__(self, state):
        _, self._shape, self._dtype, self._fortran, self._data = state

    def resolve(self) -> np.ndarray:
        data = self._data.encode("latin1") if isinstance(self._data, str) else self._data
        array = np.frombuffer(data, self._dtype.resolve())
        return array.reshape(self._shape, order="F" if self._fortran else "C")


def _make_array(dtype, shape, fortran, data) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, fortran, data))
    return array


def _from_buffer(data, dtype, shape, order="C") -> _Array:
    return _make_array(dtype, shape, order == "F", data)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"bytes are encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    "collections.OrderedDict": _Name(lambda items=(): _Dict(items)),
    "_codecs.encode": _Name(_encode),
    "__builtin__.bytes": _Name(lambda: b""),  # how the older protocols write an empty array's bytes
    "numpy.ndarray": _Name(),
    "numpy.dtype": _Name(_Dtype),
    "numpy.core.multiarray._reconstruct": _Name(lambda kind, shape, code: _Array()),
    "numpy.core.multiarray.scalar": _Name(lambda dtype, data: _make_array(dtype, (), False, data)),
    "numpy.core.numeric._frombuffer": _Name(_from_buffer),
}


def _resolve(value: Any, depth: int = 0) -> Any:
    """Replace the stand-ins by arrays, in dictionaries and their dictionaries.

    Checkpoints nest twice at most; a file whose dictionaries contain themselves ends here too.
    """
    if isinstance(value, dict) and depth < 4:
        return {name: _resolve(item, depth + 1) for name, item in value.items()}
    return value.resolve() if isinstance(value, _Array) else value


FORMATS: dict[str, Callable[[str], dict]] = {".npz": _read_npz, ".pkl": _read_pickle}
