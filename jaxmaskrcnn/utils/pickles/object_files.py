"""NumPy's files of one Python object, read without running anything in them.

``numpy.save`` stores what is not an array of numbers as a pickle. Here, only NumPy's own arrays and
numbers, Python's containers and plain values, and paths (as texts) are read from it; see `unpickler`.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles.numpy_arrays import Array, numpy_calls
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Name, Refused, plain
from jaxmaskrcnn.utils.pickles.unpickler import unpickle

_MENTIONED = [f"numpy.{kind}" for kind in ("ndarray", "bool", "bool_", "float32", "float64", "int64")]
_PATHS = [
    f"{module}.{kind}"
    for module in ("pathlib", "pathlib._local")
    for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
]


def read_object_file(path: Path) -> Any:
    """The object in an ``.npy`` file.

    Args:
        path: As ``numpy.save(path, object)`` wrote it.

    Returns:
        The object, of Python's containers and plain values and of NumPy arrays. Arrays that do not hold
        plain numbers are `Unreadable`.

    Raises:
        UserError: The file cannot be read, is no such file, or names anything else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    try:
        return _read(data)
    except Refused as error:
        raise UserError(
            f"{path} was refused: {_readable(error)}; save its masks as pictures instead if you trust it."
        ) from None
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    # Damaged bytes surface as almost any exception, from struct.error to MemoryError.
    except Exception as error:
        raise UserError(
            f"{path} is damaged or no .npy file ({type(error).__name__}: {_readable(error)}); save it again."
        ) from None


def _read(data: bytes) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    # The header is a literal; it is not evaluated.
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    if dtype != np.dtype(object):
        raise UserError(f"holds an array of {dtype} {list(shape)} and not an object; give another file.")
    budget = Budget(len(data))
    value, _ = unpickle(data, _allowed(budget), start=file.tell())
    if isinstance(value, Array) and isinstance(value.data, list) and len(value.data) == 1:
        return plain(value.data[0], budget)
    raise UserError("holds several objects; give a file of one.")


def _allowed(budget: Budget) -> Callable[[str], Name]:
    names = {name: Name(name, call) for name, call in numpy_calls(budget).items()}
    names |= {name: Name(name) for name in _MENTIONED} | {name: Name(name, _path) for name in _PATHS}

    def find(name: str) -> Name:
        if name not in names:
            raise Refused(f"its pickle names {name}, which is no part of an array, and nothing in it was run")
        return names[name]

    return find


def _path(*parts: str) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise Refused("a path in it is not of texts")
    return "/".join(parts)


def _readable(error: Exception) -> str:
    """An error's message, which may contain names from the file, printable and short."""
    return "".join(character if character.isprintable() else "?" for character in str(error)[:200])
