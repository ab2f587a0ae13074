"""Score thresholds of a model's classes, kept beside the model that they were measured of.

    directory/model.json         the model
    directory/thresholds.json    its thresholds, and the folder of the arrays that they belong to

A model that is saved over another one has a new folder of arrays, by which thresholds of the old one are
told.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.checkpoints.directory import find_directory
from jaxmaskrcnn.checkpoints.publishing import MODEL_FILE
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import write_json
from jaxmaskrcnn.utils.json_values import is_finite, parse_json

THRESHOLDS_FILE = "thresholds.json"


def own_directory(path: str | os.PathLike) -> Path:
    """The model directory on this machine that a path names, in which thresholds can be kept.

    Args:
        path: A model directory, or a workdir with a best model.

    Raises:
        UserError: It names another kind of model.
    """
    directory = find_directory(Path(path))
    if directory is None:
        raise UserError(
            f"{path} is no model directory, in which thresholds of classes are kept; give one, such as that "
            "which convert makes, or a workdir with a best model."
        )
    return directory


def save_thresholds(thresholds: Mapping[str, Any], directory: Path) -> Path:
    """Writes the thresholds of a model beside it.

    Args:
        thresholds: As ``evaluation.own_rules.best_thresholds`` returns them, with the ids of the model's
            categories.
        directory: The model directory.

    Returns:
        The file.
    """
    path = directory / THRESHOLDS_FILE
    write_json(path, {"arrays": _arrays_of(directory), **thresholds}, indent=1)
    return path


def read_thresholds(path: str | os.PathLike) -> dict[int, float]:
    """Reads the thresholds that are kept beside a model.

    Args:
        path: A model directory, or a workdir with a best model.

    Returns:
        The threshold of each category, by id. One that was not scored, or in which no
        detection was right, has that of all classes.

    Raises:
        UserError: There are none, they belong to another model, or the file is damaged.
    """
    directory = own_directory(path)
    file = directory / THRESHOLDS_FILE
    try:
        content = parse_json(file.read_bytes())
        whole = content["all"]["threshold"]
        chosen = {int(k): row["threshold"] for k, row in content["classes"].items()}
        found = {k: whole if own is None else own for k, own in chosen.items()}
        arrays = content["arrays"]
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no {THRESHOLDS_FILE}; measure the thresholds with evaluate --save_thresholds, "
            "or give a number."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is damaged ({error!r}); measure the thresholds again with evaluate --save_thresholds."
        ) from None
    if arrays != _arrays_of(directory):
        raise UserError(
            f"{file} belongs to a model that was in {directory} before; measure the thresholds again with "
            "evaluate --save_thresholds."
        )
    if not all(is_finite(value) and 0 <= value <= 1 for value in found.values()):
        raise UserError(
            f"{file} has classes without a threshold from 0 to 1, as no detection was right; give a number."
        )
    return found


def _arrays_of(directory: Path) -> Any:
    """The name of the folder of a model's arrays, which is another one whenever a model is saved."""
    return parse_json((directory / MODEL_FILE).read_bytes()).get("array_folder")
