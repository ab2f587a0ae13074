"""Read checkpoint files of other libraries as plain NumPy arrays.

The format is inferred from a file's bytes, not from its name:

    zip archive      ``.npz`` (NumPy), or ``.pth .pt .bin .ckpt .pyth`` (torch since 1.6)
    stream           the same suffixes, from older torch
    pickle           ``.pkl``: Detectron2's and Caffe2's dictionaries of NumPy arrays, Python 2 or 3
    safetensors      ``.safetensors``
    HDF5             ``.h5``: Keras' weights, of matterport's Mask R-CNN

A file is read into memory once, and the arrays are views of those bytes. (Files are not memory-mapped,
because saving to the same file would invalidate the arrays.) Nothing in a file is ever run: a pickle
may only name what ``allowed_names`` lists, and even that is only described.

**Where the parameters are.** Training frameworks store them in a dictionary under one of the keys
``PLAIN`` or, averaged over time, ``AVERAGED``, nested up to three levels. A key counts if it leads to
a dictionary with arrays. Of several, the first plain one in the order of ``PLAIN`` is taken, or an
averaged one if there is no plain one or it is requested. A file without such keys is a dictionary of
parameters itself. Names are not changed. (MMEngine's files have the averages under "state_dict" and
the trained weights under "ema_state_dict", so the default is what MMDetection would load, too.)
"""

import os
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxmaskrcnn.convert.files import keras_files
from jaxmaskrcnn.convert.files.archive import Archive, read_npz
from jaxmaskrcnn.convert.files.foreign import Foreign, foreign_archive, foreign_file, foreign_folder
from jaxmaskrcnn.convert.files.safetensors_files import is_safetensors, read_safetensors
from jaxmaskrcnn.convert.files.torch_files import (
    STREAM_MAGIC,
    read_pickle,
    read_torch_stream,
    read_torch_zip,
    torch_folder,
)
from jaxmaskrcnn.convert.files.whole_models import is_module, module_arrays, unwrapped
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Inert, Refused, Unreadable
from jaxmaskrcnn.weights.locate import locate, suggestion

FORMATS = (".pth", ".pt", ".bin", ".ckpt", ".pyth", ".pkl", ".safetensors", ".npz", ".h5")

PLAIN = (
    "model", "state_dict", "model_state_dict", "model_state", "module", "blobs", "net", "network", "weights",
    "params", "parameters", "whole model",
)  # fmt: skip
WHOLE = "whole model"  # what the only entry of a pickled model is called, and the attribute that has it
AVERAGED = ("ema", "ema_state_dict", "model_ema", "state_dict_ema", "ema_model", "ema_state")

# What to run where the library is installed if a file is refused.
_TORCH_REMEDY = (
    'import torch; c = torch.load("{path}", map_location="cpu", weights_only=False); '
    'torch.save(c.get("model", c.get("state_dict", c)), "weights.pth")'
)
_PICKLE_REMEDY = (
    'import numpy, pickle; c = pickle.load(open("{path}", "rb"), encoding="latin1"); '
    'numpy.savez("weights.npz", **c.get("model", c))'
)

# Files that a failed download leaves instead of a checkpoint, by their first bytes in lower case.
_OTHER_FILES = (
    ((b"<!doctype", b"<html", b"<?xml", b"<head"), "is a web page, not a checkpoint; download it again"),
    ((b"version https://git-lfs",), "is a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    ((b"\x1f\x8b", b"bzh", b"\xfd7zxz", b"7z\xbc\xaf"), "is compressed; expand it first"),
)


class SourceFile(NamedTuple):
    """The contents of a checkpoint file.

    Attributes:
        path: The file.
        arrays: Parameters by the source library's names.
        attributes: Other entries, such as Detectron2's ``__author__`` and ``matching_heuristics``,
            MMDetection's ``meta``, a run's ``args``, safetensors' metadata: Python's own types,
            arrays, and `Inert` for objects that are only described.
        taken: The keys that lead to the parameters, such as "state_dict" or "ema.state_dict"; "" if
            the file is a dictionary of parameters itself.
        others: The keys of parameters that were not taken, such as ("ema",).
    """

    path: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]
    taken: str = ""
    others: tuple[str, ...] = ()


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of a checkpoint file.

    Args:
        path: A file written by torch, Detectron2, NumPy or safetensors (see this module's docstring), or a
            name or an address of published weights, as `weights.locate.locate` takes them.

    Returns:
        Arrays by their names in the file, in the file's order, shape and dtype (bfloat16 is
        ``ml_dtypes.bfloat16``). They may share memory and be read-only.

    Raises:
        UserError: The file is missing, damaged or unsupported, or a pickle that names something that
            is not part of a checkpoint (nothing in it is run).

    Example:
        >>> read_checkpoint("R-50.pkl")["stem.conv1.weight"].shape  # doctest: +SKIP
        (64, 3, 7, 7)
    """
    return read_source(path).arrays


def read_source(path: str | os.PathLike, weights: str = "auto") -> SourceFile:
    """Like `read_checkpoint`, with the other entries beside the arrays.

    Args:
        path: As for `read_checkpoint`.
        weights: "model" for the plain parameters, "ema" for their averages, "auto" for the plain ones
            if there are any.

    Returns:
        The file's contents.

    Raises:
        UserError: As for `read_checkpoint`, or there are no such weights in the file.
    """
    if weights not in ("auto", "model", "ema"):
        raise UserError(f'weights is {weights!r}; choose "auto", "model" or "ema".')
    path = locate(path).path
    content = _read_content(path)
    if is_module(content):
        content = {WHOLE: content}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"{path} holds a {kind}, not a dictionary of parameters; give a checkpoint.")
    content, modules = _with_parameters(content)
    choices = _find_parameters(content)
    # A dictionary without known keys is taken as the parameters, and its entries are checked.
    fitting = [c for c in choices if weights in ("auto", "ema" if c.averaged else "model")]
    if choices and not fitting:
        names = ", ".join(c.name or "the parameters themselves" for c in choices)
        raise UserError(f"{path} has no weights={weights!r}, only {names}; choose another value.")
    taken = min(fitting, key=lambda c: c.averaged, default=_Parameters())
    attributes, parameters = modules, content
    for key in taken.keys:
        attributes = {k: v for k, v in parameters.items() if k != key} | attributes
        parameters = parameters[key]
    arrays, beside = _split(parameters, caffe2=taken.keys[-1:] == ("blobs",))
    arrays = {name: _as_array(path, name, value) for name, value in arrays.items()}
    if not arrays:
        raise UserError(f"{path} holds no arrays; give a checkpoint with parameters.")
    others = tuple(c.name for c in choices if c.name != taken.name)
    return SourceFile(path, arrays, beside | attributes, taken.name, others)


def _read_content(path: str) -> Any:
    """Read the content of a file, with NumPy arrays."""
    known = ", ".join(FORMATS)
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; give a checkpoint file ({known}){suggestion(path)}.")
    if os.path.isdir(path):
        problem = foreign_folder(path) or f"is a directory; give a checkpoint file ({known})"
        raise UserError(f"{path} {problem}.")
    try:
        # Without a buffer, which would briefly hold the file in memory twice.
        with open(path, "rb", buffering=0) as file:
            head = file.read(512)
            problem = foreign_file(path, head) or _not_a_checkpoint(head)
            if problem:
                raise UserError(f"{path} {problem.replace('{known}', known)}.")
            file.seek(0)
            data = file.read()
        return _parse(path, data)
    except UserError:
        raise
    except Foreign as error:
        raise UserError(f"{path} {error}.") from None
    except Refused as error:
        remedy = (error.remedy or _TORCH_REMEDY).replace("{path}", path)
        raise UserError(
            f"{path} was refused: {_readable(error)}; if you trust the file, extract its parameters "
            f"where its library is installed: {remedy}"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    # Damaged bytes surface as almost any exception, from struct.error to MemoryError.
    except Exception as error:
        raise UserError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}: {_readable(error)}); "
            "compare its size and checksum with the source's."
        ) from None


def _readable(error: Exception) -> str:
    """Make an error message, which may contain names from the file, printable and short."""
    text = "".join(character if character.isprintable() else "?" for character in str(error)[:300])
    return f"{text}..." if len(str(error)) > 300 else text


def _not_a_checkpoint(head: bytes) -> str | None:
    """Describe what is wrong with a file that begins with these bytes, or return None."""
    if not head:
        return "is damaged: it is empty; download it again"
    for beginnings, problem in _OTHER_FILES:
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(beginnings):
            return problem
    if head[257:262] == b"ustar":
        return "is a tar archive, as torch wrote before 0.1.10; load and save it with a later torch"
    if (
        not head.startswith((b"PK", b"\x80", keras_files.MAGIC))
        and head[0] not in b"(})]c"
        and not is_safetensors(head)
    ):
        return "is damaged or not a checkpoint; give a file of a supported format ({known})"
    return None


def _parse(path: str, data: bytes) -> Any:
    budget = Budget(len(data))
    if data.startswith(b"PK"):
        archive = Archive(data, budget)
        folder = torch_folder(archive)
        if folder is not None:
            return read_torch_zip(archive, folder, budget)
        if not all(name.endswith(".npy") for name in archive.names):
            if problem := foreign_archive(path, archive.names):
                raise UserError(f"{path} {problem}.")
            raise UserError(
                f"{path} is a zip archive, but neither torch's nor a .npz file; give the checkpoint itself."
            )
        return read_npz(archive, budget)
    if data.startswith(keras_files.MAGIC):
        return keras_files.read_keras(path, data, budget)
    if is_safetensors(data[:512]):
        arrays, metadata = read_safetensors(data)
        # An array takes precedence over metadata of the same name.
        return {**metadata, **arrays}
    if STREAM_MAGIC in data[:64]:
        return read_torch_stream(data, budget)
    try:
        return read_pickle(data, budget)
    except Refused as error:
        raise Refused(str(error), error.remedy or _PICKLE_REMEDY) from None


def _with_parameters(content: dict) -> tuple[dict, dict[str, Any]]:
    """Replace whole models by their parameters, and return the first of them as an attribute."""
    modules = {key: unwrapped(value) for key, value in content.items() if is_module(value)}
    arrays = {key: module_arrays(module) for key, module in modules.items()}
    return {**content, **arrays}, dict(zip([WHOLE], modules.values(), strict=False))


class _Parameters(NamedTuple):
    """The keys that lead to a dictionary with arrays, and whether they name averages."""

    keys: tuple[str, ...] = ()
    averaged: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.keys)


def _find_parameters(content: dict, keys: tuple[str, ...] = (), averaged: bool = False) -> list[_Parameters]:
    """List all dictionaries of parameters in order of preference."""
    found = []
    for key in (*PLAIN, *AVERAGED) if len(keys) < 3 else ():
        if isinstance(content.get(key), dict):
            found += _find_parameters(content[key], (*keys, key), averaged or key in AVERAGED)
    if not found and any(isinstance(value, (np.ndarray, Unreadable)) for value in content.values()):
        found = [_Parameters(keys, averaged)]
    return found


def _split(parameters: dict, caffe2: bool) -> tuple[dict, dict]:
    """Separate arrays from other entries."""
    # Caffe2's names have no dots; its files keep the optimizer's state among the parameters.
    caffe2 = caffe2 or not any("." in name for name in parameters if isinstance(name, str))

    def stands_beside(name: Any, value: Any) -> bool:
        if value is None or isinstance(value, (str, bool)):
            return True
        if not isinstance(name, str) or name.endswith("_extra_state"):
            return isinstance(name, str)
        momentum = name.endswith("_momentum") and name.removesuffix("_momentum") in parameters
        return caffe2 and (momentum or name in ("lr", "weight_order"))

    beside = {name: value for name, value in parameters.items() if stands_beside(name, value)}
    return {name: value for name, value in parameters.items() if name not in beside}, beside


def _as_array(path: str, name: Any, value: Any) -> np.ndarray:
    if isinstance(value, Unreadable):
        raise UserError(
            f"{path}: the entry {name!r:.100} {value.reason}; parameters must be plain real numbers."
        )
    if isinstance(value, (int, float)):
        value = np.asarray(value)
    if not isinstance(name, str) or not isinstance(value, np.ndarray):
        kind = value.name if isinstance(value, Inert) else type(value).__name__
        raise UserError(
            f"{path}: the entry {name!r:.100} is a {kind}, not a named array; give a file of named arrays."
        )
    if value.dtype.kind not in "biuf" and value.dtype != ml_dtypes.bfloat16:
        raise UserError(
            f"{path}: the array {name!r:.100} has the dtype {value.dtype}; parameters must be real numbers."
        )
    return value
