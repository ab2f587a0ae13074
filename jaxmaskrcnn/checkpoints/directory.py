"""Model directories: a detector on disk, with everything that is needed to use it.

    directory/model.json        ModelConfig, categories, and name, shape, dtype and checksum of every array
    directory/arrays-<token>/   the arrays, written by Orbax

``model.json`` names the folder of its arrays, so replacing that single file replaces the model. A reader
sees the old model or the new one, whenever the writer is stopped.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Never

import jax
import numpy as np

from jaxmaskrcnn.checkpoints.arrays import read_arrays, warn_of_nonfinite, write_arrays
from jaxmaskrcnn.checkpoints.damage import drop_unfinished, quiet_writers, remove_folder
from jaxmaskrcnn.checkpoints.fit import (
    LoadSettings,
    check_fits_config,
    fill_model,
    new_arrays,
    requested_config,
)
from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.checkpoints.publishing import (
    MODEL_FILE,
    common_token,
    publish,
    remove_leftovers,
    wait_for_all,
)
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.json import config_from_json, config_to_json, describe, parse, to_config
from jaxmaskrcnn.config.values import Count, checked
from jaxmaskrcnn.convert.detector import load_detector, log_report
from jaxmaskrcnn.convert.files.foreign import checkpoint_inside, foreign_folder
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.convert.structure import structure_differences
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.stores import sending
from jaxmaskrcnn.stores.filesystem import Place, list_files, local_or_stored
from jaxmaskrcnn.utils.checksums import with_checksum
from jaxmaskrcnn.utils.files import check_storable, write_json, write_problem
from jaxmaskrcnn.weights.locate import locate, suggestion

__all__ = ["check_free", "config_from_json", "config_to_json", "load_model", "save_model"]


def save_model(model: MaskRCNN, directory: str | os.PathLike) -> None:
    """Write a detector to a self-describing directory.

    The write is atomic: a new directory appears complete, and an existing model is replaced in one
    step. In a run of several processes all of them must call it, with a directory on a disk they share.

    Args:
        model: The detector.
        directory: A path that does not exist, an empty folder, or a model directory, which is overwritten;
            or the address of such a folder in a store (``gs://``, ``s3://``).

    Raises:
        UserError: The directory holds something else, or cannot be written; or the model could not be read
            back, because its arrays are not those that its config builds (for example, a module was
            replaced).

    Example:
        >>> save_model(model, "models/shapes")
        >>> load_model("models/shapes").config == model.config
        True
    """
    place = local_or_stored(directory, "the model's directory")
    if not isinstance(place, Path):
        _save_stored(model, place)
        return
    check_fits_config(model)
    check_storable(place)
    directory = place.absolute()
    occupied = check_free(directory)
    arrays = {name: variable[...] for name, variable in variables_by_path(model).items()}
    token = common_token()
    staging = directory.with_name(f".{directory.name}.{token}")
    description = {
        **describe(model.config),
        "array_folder": f"arrays-{token}",
        "arrays": {name: [list(x.shape), str(x.dtype)] for name, x in arrays.items()},
    }
    first = jax.process_index() == 0
    quiet_writers()
    try:
        if first:
            remove_leftovers(directory)
            staging.mkdir(parents=True)
        wait_for_all("model staging")
        description["checksums"] = write_arrays(staging / description["array_folder"], arrays)
        if first:
            write_json(staging / MODEL_FILE, with_checksum(description), indent=1, durable=True)
            publish(staging, directory, occupied)
            shutil.rmtree(staging, ignore_errors=True)  # what of an older model was not moved
    except BaseException as error:  # Orbax raises ValueError where a disk is full
        if first:
            remove_folder(staging)
        if not isinstance(error, Exception) or isinstance(error, UserError):
            raise
        if not (problem := write_problem(error) or _of_system(error)):
            raise
        drop_unfinished()
        raise UserError(
            f"{directory} cannot be written ({problem}); make room there, or give another one."
        ) from None
    wait_for_all("model published")


def check_free(directory: str | os.PathLike) -> bool:
    """Check that `save_model` may write a directory.

    Args:
        directory: Directory to save the model in.

    Returns:
        Whether it holds a model, which would be replaced.

    Raises:
        UserError: It holds something else.
    """
    place = local_or_stored(directory, "the model's directory")
    if not isinstance(place, Path):
        return sending.check_free(place, MODEL_FILE)
    directory = place
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; give a directory for the model.")
    occupied = directory.is_dir() and any(directory.iterdir())
    if occupied and not _is_model_directory(directory):
        raise UserError(
            f"{directory} is not empty and holds no model, so it is not overwritten; give another directory."
        )
    return occupied


def load_model(
    path: str | os.PathLike,
    model: str | os.PathLike | ModelConfig | None = None,
    *,
    num_classes: int | None = None,
    allow_new_heads: bool = False,
    bn_eps: float | None = None,
    **other: Never,
) -> MaskRCNN:
    """Read a detector.

    Args:
        path: A model directory; a training workdir, which gives its best model if an evaluation has run and
            otherwise the model of its latest checkpoint; a checkpoint file of torchvision, Detectron2 or
            MMDetection (``.pth``, ``.pt``, ``.pkl``, ``.safetensors``, ``.npz``); or the name of a model of
            the registry, or an address, whose published weights are fetched if they are not on this machine.
        model: A preset's name, a ModelConfig, a model directory, or the path of a Detectron2 yaml or
            MMDetection config. For a directory it replaces the stored configuration, for example with
            another score threshold; None uses the stored one. For a file it gives the settings that cannot
            be inferred from names and shapes of arrays; torchvision's files and names need none. The number
            of classes is the one in ``path``, whatever ``model`` has, unless that is a ModelConfig.
        num_classes: The number of classes without the background, if it has to be a certain one.
        allow_new_heads: Whether layers whose shape depends on the number of classes get initial values if
            ``num_classes``, or else ``model``, has another number than the file; otherwise that is an error.
        bn_eps: Epsilon of the backbone's norm layers, which replaces the configuration's.
        **other: Refused, with the name of the argument that may be meant.

    Returns:
        The detector. Arrays of a directory are bit for bit as they were saved; those of a file are float32.
        The choices made for a file are logged; ``convert.load_detector`` returns them.

    Raises:
        UserError: There is no model at ``path``, it does not fit, it cannot be fetched, or it has a part of a
            kind whose module was not imported.
        TypeError: An argument has another name.

    Example:
        >>> save_model(model, "models/shapes")
        >>> len(load_model("models/shapes").categories)
        3
        >>> model = load_model("detectron2/mask_rcnn_R_50_FPN_3x")  # doctest: +SKIP
    """
    if other:
        name = next(iter(other))
        hint = "a ModelConfig, like a preset's name, is given as model" if "config" in name else (
            "its arguments are path, model, num_classes, allow_new_heads and bn_eps"
        )  # fmt: skip
        raise TypeError(f"load_model has no argument {name!r}; {hint}.")
    checked(num_classes, Count | None, "num_classes")
    located = locate(path, detector=True)
    directory = Path(checkpoint_inside(located.path) or located.path)
    if not directory.exists():
        raise UserError(
            f"{path} does not exist; give a model directory, a training workdir, a checkpoint file, or the "
            f"name of published weights{suggestion(located.path)}."
        )
    if not directory.is_dir():
        model = located.preset if model is None else model
        detector, report = load_detector(
            directory, model, num_classes=num_classes, allow_new_heads=allow_new_heads, bn_eps=bn_eps
        )
        log_report(report)
        return detector
    settings = LoadSettings(model, allow_new_heads, bn_eps, num_classes)
    if found := find_directory(directory):
        return _read_directory(found.absolute(), settings)
    latest = latest_model(directory)
    if latest is None:
        if problem := foreign_folder(directory):
            raise UserError(f"{path} {problem}.")
        raise UserError(
            f"{path} is neither a model directory (it has no {MODEL_FILE}) nor a training workdir with a "
            "best model or a checkpoint."
        )
    config = requested_config(settings, latest.config, str(path))
    arrays = {name: variable[...] for name, variable in variables_by_path(latest).items()}
    warn_of_nonfinite(arrays, path)
    if config == latest.config:
        return latest
    abstract = abstract_model(config)
    different = structure_differences(latest.config, config)
    new = new_arrays(arrays, variables_by_path(abstract), settings, str(path), different)
    return fill_model(abstract, arrays, new)


def find_directory(path: Path) -> Path | None:
    """The model directory that a path names: itself, or the best model of a workdir; None for neither."""
    return next((c for c in (path, path / "best") if _is_model_directory(c)), None)


def _save_stored(model: MaskRCNN, place: Place) -> None:
    """Write a detector to a store: a model that is there is replaced when all arrays of the new one are."""
    if jax.process_count() > 1:
        raise UserError(
            f"{place.address} is in a store, to which only a run of one process saves a model; give a path."
        )
    occupied = sending.check_free(place, MODEL_FILE)
    with tempfile.TemporaryDirectory(prefix="jaxmaskrcnn-") as temporary:
        folder = Path(temporary, "model")
        save_model(model, folder)
        sending.send(folder, place, is_last=lambda name: name == MODEL_FILE)
        own = {path.name for path in folder.iterdir()}
        others = [name for name in (list_files(place) if occupied else ()) if name.split("/")[0] not in own]
        sending.remove(place, [name for name in others if name.startswith("arrays-")])


def _is_model_directory(directory: Path) -> bool:
    return (directory / MODEL_FILE).is_file()


def _of_system(error: Exception) -> str | None:
    return (error.strerror or str(error)) if isinstance(error, OSError) else None


def _read_directory(directory: Path, settings: LoadSettings) -> MaskRCNN:
    file = directory / MODEL_FILE
    content = parse(file.read_bytes(), str(file))
    stored = to_config(content, str(file))
    config = requested_config(settings, stored, str(directory))
    try:
        listed = {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in content["arrays"].items()
        }
        folder = directory / content["array_folder"]
        checksums = dict(content.get("checksums", {}))  # version 0.1.0 wrote none
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged: its list of arrays cannot be used ({error!r}).") from None
    if folder.parent != directory or folder.name == "..":  # a file may come from anybody
        raise UserError(f"{file} is damaged: its arrays are not in {directory}.")
    abstract = abstract_model(config)
    different = structure_differences(stored, config)
    new = new_arrays(listed, variables_by_path(abstract), settings, str(file), different)
    if not folder.is_dir():
        raise UserError(
            f"{directory} is incomplete: its folder {folder.name} is missing; save the model again."
        )
    arrays = read_arrays(folder, listed, checksums)
    warn_of_nonfinite(arrays, directory)
    return fill_model(abstract, arrays, new)
