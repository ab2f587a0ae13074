"""Model directories: a detector on disk, with all that is needed to use it.

    directory/model.json        ModelConfig, categories, and name, shape and dtype of every array
    directory/arrays-<token>/   the arrays, written by Orbax

``model.json`` names the folder of its arrays, and replacing that one file is what makes a new
model appear; a reader sees the old one or the new one, whenever the writer is stopped.
"""

import dataclasses
import glob
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.files import write_json
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.presets import model_config
from jaxmaskrcnn.structures import Category

FORMAT_VERSION = 1
_MODEL_FILE = "model.json"
_FORMAT_NAME = "jaxmaskrcnn model"


def save_model(model: MaskRCNN, directory: str | os.PathLike) -> None:
    """Write a detector to a self-describing directory.

    The write is atomic: a directory that is not there yet appears complete, and an existing
    model is replaced in one step. In a run of several processes all of them call it; the
    directory is then on a disk they share.

    Args:
        model: The detector.
        directory: Absent, empty, or a model directory, which is overwritten.

    Raises:
        UserError: The directory holds something else, or cannot be written.

    Example:
        >>> save_model(model, "models/balloons")  # doctest: +SKIP
        >>> model = load_model("models/balloons")  # doctest: +SKIP
    """
    directory = Path(directory).absolute()
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; give a directory for the model.")
    occupied = directory.is_dir() and any(directory.iterdir())
    if occupied and not _is_model_directory(directory):
        raise UserError(
            f"{directory} is not empty and holds no model, so it is not overwritten; give another directory."
        )
    arrays = {name: _writable(variable[...]) for name, variable in _variables(model).items()}
    token = _common_token()
    staging = directory.with_name(f".{directory.name}.{token}")
    description = {
        **_describe(model.config),
        "array_folder": f"arrays-{token}",
        "arrays": {name: [list(x.shape), str(x.dtype)] for name, x in arrays.items()},
    }
    first = jax.process_index() == 0
    try:
        if first:
            _remove_leftovers(directory)
            staging.mkdir(parents=True)
        _wait_for_all("model staging")
        ocp.save(staging / description["array_folder"], arrays)
        if first:
            write_json(staging / _MODEL_FILE, description, indent=1)
            _publish(staging, directory, occupied)
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror or error}.") from None
    finally:
        if first:
            shutil.rmtree(staging, ignore_errors=True)
    _wait_for_all("model published")


def load_model(path: str | os.PathLike, model: str | ModelConfig | None = None) -> MaskRCNN:
    """Read a detector.

    Args:
        path: A model directory, or a training workdir: its best model where an evaluation has
            run, else the one of its latest checkpoint.
        model: A preset's name or a ModelConfig to use in place of the stored configuration, for
            example with another score threshold. None takes the stored one.

    Returns:
        The detector, every array bit for bit as it was saved.

    Raises:
        UserError: There is no model at ``path``, or it does not fit.

    Example:
        >>> model = load_model("runs/balloons")  # doctest: +SKIP
        >>> [category.name for category in model.categories]  # doctest: +SKIP
        ['balloon']
    """
    directory = Path(path)
    if not directory.exists():
        raise UserError(f"{path} does not exist; give a model directory or a training workdir.")
    if not directory.is_dir():
        raise UserError(
            f"{path} is a file, and whole detectors are read from model directories and training workdirs "
            "only; load_backbone reads ImageNet weights from .pkl and .npz files."
        )
    for candidate in (directory, directory / "best"):
        if _is_model_directory(candidate):
            return _read_directory(candidate.absolute(), model)
    # Imported late: checkpoints are read through this module.
    from jaxmaskrcnn.training.checkpoints import latest_model

    latest = latest_model(directory)
    if latest is None:
        raise UserError(
            f"{path} is neither a model directory (it has no {_MODEL_FILE}) nor a training workdir with a "
            "best model or a checkpoint."
        )
    return latest if model is None else _with_config(latest, _choose(model, latest.config), str(path))


def config_to_json(config: ModelConfig) -> str:
    """A ModelConfig as json text; `config_from_json` makes an equal one of it.

    Example:
        >>> config = model_config("detectron2/mask_rcnn_R_50_FPN_3x")
        >>> config_from_json(config_to_json(config)) == config
        True
    """
    return json.dumps(_describe(config), indent=1) + "\n"


def config_from_json(text: str, source: str = "the model's json") -> ModelConfig:
    """The ModelConfig in a json text.

    Args:
        text: Made by `config_to_json`, or the content of a ``model.json``.
        source: Names the text in an error.

    Returns:
        The configuration. A field that the text lacks was added after it was written and has
        its default, which is what the code did before.

    Raises:
        UserError: The text is no json, of a newer format, or has fields unknown here.
    """
    return _config(_parse(text, source), source)


def _describe(config: ModelConfig) -> dict[str, Any]:
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    fields["categories"] = [category._asdict() for category in config.categories]
    return {"format": _FORMAT_NAME, "format_version": FORMAT_VERSION, "config": fields}


def _parse(text: str | bytes, source: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:  # bad json, or bytes that are no UTF-8
        raise UserError(f"{source} is damaged: it is no json ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT_NAME:
        raise UserError(f"{source} does not describe a model (its format is not {_FORMAT_NAME!r}).")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(
            f"{source} has the format version {version!r}, and this release reads versions up to "
            f"{FORMAT_VERSION}; update jaxmaskrcnn."
        )
    return content


def _config(content: dict[str, Any], source: str) -> ModelConfig:
    values = content.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{source} is damaged: it has no config.")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(
            f"{source} has fields that this release's ModelConfig does not know: {', '.join(unknown)}; "
            "update jaxmaskrcnn."
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        categories = tuple(Category(c["id"], c["name"]) for c in values.pop("categories", ()))
        return ModelConfig(**values, categories=categories)
    except (TypeError, KeyError) as error:
        raise UserError(f"{source} is damaged: its config cannot be used ({error!r}).") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _is_model_directory(directory: Path) -> bool:
    return (directory / _MODEL_FILE).is_file()


def _variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(model))}


def _writable(x: jax.Array) -> jax.Array | np.ndarray:
    # Of several processes, Orbax refuses an array that lives in one alone; they hold the same
    # values, and as NumPy arrays the first process writes them.
    return x if jax.process_count() > 1 and not x.is_fully_addressable else np.asarray(x)


def _common_token() -> str:
    """A random word that all processes agree on."""
    number = np.int32(secrets.randbits(31))
    if jax.process_count() > 1:
        number = multihost_utils.broadcast_one_to_all(number)
    return f"{int(number):08x}"


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _remove_leftovers(directory: Path) -> None:
    """Delete the staging folders of writers that were killed."""
    for folder in directory.parent.glob(f".{glob.escape(directory.name)}.{'[0-9a-f]' * 8}"):
        shutil.rmtree(folder, ignore_errors=True)


def _publish(staging: Path, directory: Path, occupied: bool) -> None:
    """Make a complete model directory visible under its name."""
    if not occupied:
        os.rename(staging, directory)
        return
    for folder in staging.glob("arrays-*"):
        os.rename(folder, directory / folder.name)
    new = json.loads((staging / _MODEL_FILE).read_text(encoding="utf-8"))["array_folder"]
    os.replace(staging / _MODEL_FILE, directory / _MODEL_FILE)
    for folder in directory.glob("arrays-*"):
        if folder.name != new:
            shutil.rmtree(folder, ignore_errors=True)


def _choose(model: str | ModelConfig, stored: ModelConfig) -> ModelConfig:
    """The configuration a caller asks for, with the stored categories where it names none."""
    config = model_config(model, num_classes=stored.num_classes) if isinstance(model, str) else model
    if config.categories != stored.categories and config.num_classes == stored.num_classes:
        if isinstance(model, str) or not config.categories:
            config = dataclasses.replace(config, categories=stored.categories)
    return config


def _read_directory(directory: Path, model: str | ModelConfig | None) -> MaskRCNN:
    file = directory / _MODEL_FILE
    content = _parse(file.read_bytes(), str(file))
    config = _config(content, str(file))
    if model is not None:
        config = _choose(model, config)
    try:
        listed = {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in content["arrays"].items()
        }
        folder = directory / content["array_folder"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged: its list of arrays cannot be used ({error!r}).") from None
    abstract = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    _compare(listed, _variables(abstract), str(file))
    if not folder.is_dir():
        raise UserError(
            f"{directory} is incomplete: its folder {folder.name} is missing; save the model again."
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    targets = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device) for name, x in listed.items()}
    try:
        arrays = ocp.load(folder, targets)
    # Orbax and its storage report damaged files with many kinds of exceptions.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder} is damaged and cannot be read ({reason}); save the model again.") from None
    return _fill(abstract, arrays)


def _with_config(model: MaskRCNN, config: ModelConfig, source: str) -> MaskRCNN:
    """The same arrays under another configuration."""
    abstract = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    arrays = {name: variable[...] for name, variable in _variables(model).items()}
    _compare(arrays, _variables(abstract), source)
    return _fill(abstract, arrays)


def _compare(have: dict[str, Any], want: dict[str, Any], source: str) -> None:
    """Raise a UserError that lists every array that is missing, too many or of another shape."""
    problems = [
        ("missing", [name for name in want if name not in have]),
        ("not in the model", [name for name in have if name not in want]),
        (
            "of another shape",
            [
                f"{name} {tuple(have[name].shape)}, the model has {tuple(want[name].shape)}"
                for name in want
                if name in have and tuple(have[name].shape) != tuple(want[name].shape)
            ],
        ),
    ]
    if any(names for _, names in problems):
        lists = "".join(
            f"\n{len(names)} {label}:\n  " + "\n  ".join(names) for label, names in problems if names
        )
        raise UserError(f"The arrays of {source} do not fit its model configuration.{lists}")


def _fill(abstract: MaskRCNN, arrays: dict[str, jax.Array]) -> MaskRCNN:
    graphdef, state = nnx.split(abstract)
    values = [
        (path, variable.replace(arrays[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(values))
