"""Write state dicts to files that other libraries load.

    .safetensors   any dtype; ``safetensors.torch.load_file`` returns the dictionary
    .npz           NumPy's own format
    .pkl           {"model": {name: array}, "__author__": "jaxmaskrcnn"}, which Detectron2 loads directly
    .h5            Keras' weights, which matterport's Mask R-CNN loads; needs h5py
    .pth           written by torch, which has to be installed: a bare dictionary for torchvision,
                   {"model": ...} for Detectron2, {"state_dict": ..., "meta": {}} for MMDetection

Numbers are written bit for bit. A file appears under its name only when it is complete.
"""

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from jaxmaskrcnn.convert.files.keras_files import write_keras
from jaxmaskrcnn.convert.files.safetensors_files import write_safetensors
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.keras_order import place_in_file
from jaxmaskrcnn.utils.files import complete_file

AUTHOR = "jaxmaskrcnn"


def write_state_dict(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], library: str) -> None:
    """Write the parameters of a model.

    Args:
        path: The file. Its suffix determines the format; a missing folder is created.
        arrays: Arrays by the library's names. bfloat16 needs ``.safetensors`` or ``.pth``.
        library: "torchvision", "detectron2", "mmdet" or "matterport"; a ``.pth`` file is made for its
            loader, and only matterport's loads an ``.h5`` file.

    Raises:
        UserError: The suffix or the library is unknown, torch is needed but missing, or a dtype or
            the file cannot be written; an existing file is then left unchanged.

    Example:
        >>> import tempfile, numpy as np
        >>> from jaxmaskrcnn.convert.files.reader import read_checkpoint
        >>> file = tempfile.mkdtemp() + "/model.safetensors"
        >>> write_state_dict(file, {"fc.bias": np.zeros(3, np.float32)}, "torchvision")
        >>> read_checkpoint(file)["fc.bias"].shape
        (3,)
    """
    path = Path(path)
    if library not in _LAYOUTS:
        raise UserError(f"library is {library!r}; choose one of {', '.join(_LAYOUTS)}.")
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UserError(
            f"{path} has {f'the suffix {path.suffix}' if path.suffix else 'no suffix'}; "
            f"give one of {', '.join(_WRITERS)}."
        )
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the name of a file.")
    try:
        with complete_file(path) as file:
            write(file, {name: np.asarray(array) for name, array in arrays.items()}, library)
    except UserError as error:
        raise UserError(f"{path} was not written: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None


def _write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray], library: str) -> None:
    # Loaders of other libraries read the order of axes (torch's) from this entry.
    write_safetensors(file, arrays, {"format": "pt"})


def _write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray], library: str) -> None:
    _check_numpy_dtypes(arrays)
    np.savez(file, **arrays)


def _write_pickle(file: BinaryIO, arrays: Mapping[str, np.ndarray], library: str) -> None:
    """Write the pickle that NumPy 1 would write, instruction by instruction.

    NumPy 2's pickles name a module that the older NumPy of many Detectron2 installations lacks; every
    NumPy knows the names of NumPy 1. Protocol 3 is the oldest that has bytes.
    """
    _check_numpy_dtypes(arrays)
    file.write(b"\x80\x03}" + _text("model") + b"}(")  # a dictionary in a dictionary, up to the "u"
    for name, array in arrays.items():
        order, code = array.dtype.str[0], array.dtype.str[1:]
        file.write(
            # name: _reconstruct(ndarray, (0,), b"b") with the state (1, shape, dtype, False, bytes)
            _text(name)
            + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
            + b"(K\1(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
            # dtype(code, False, True) with the state (3, order, None, None, None, -1, -1, 0)
            + b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R"
            + b"(K\3" + _text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
            + b"\x89B" + struct.pack("<I", array.nbytes)
        )  # fmt: skip
        file.write(array.tobytes())
        file.write(b"tb")
    file.write(b"us" + _text("__author__") + _text(AUTHOR) + b"s.")


def _write_torch(file: BinaryIO, arrays: Mapping[str, np.ndarray], library: str) -> None:
    try:
        import torch
    except ImportError:
        raise UserError(
            "a .pth file needs torch, which is not installed; write .safetensors, .npz or .pkl instead."
        ) from None

    def tensor(array: np.ndarray):
        array = array.astype(array.dtype.newbyteorder("="), order="C")  # a copy: torch needs it writable
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    torch.save(_LAYOUTS[library]({name: tensor(array) for name, array in arrays.items()}), file)


def _write_hdf5(file: BinaryIO, arrays: Mapping[str, np.ndarray], library: str) -> None:
    if library != "matterport":
        raise UserError(
            f"an .h5 file holds Keras' weights, which {library} does not load; write .safetensors, .npz or "
            ".pkl instead."
        )
    write_keras(file, {name: arrays[name] for name in sorted(arrays, key=place_in_file)})


def _check_numpy_dtypes(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UserError(
                f"the array {name!r} has the dtype {array.dtype}, which NumPy's formats do not support; "
                "write .safetensors instead."
            )


def _text(text: str) -> bytes:
    """Return the instruction that pushes a string."""
    content = text.encode()
    return b"X" + struct.pack("<I", len(content)) + content


_WRITERS: dict[str, Callable[[BinaryIO, Mapping[str, np.ndarray], str], None]] = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
    ".pkl": _write_pickle,
    ".pth": _write_torch,
    ".h5": _write_hdf5,
}

# What each library's loader expects from torch.load.
_LAYOUTS: dict[str, Callable[[dict], dict]] = {
    "torchvision": lambda state: state,
    "detectron2": lambda state: {"model": state},
    "mmdet": lambda state: {"state_dict": state, "meta": {}},
    "matterport": lambda state: state,
}
