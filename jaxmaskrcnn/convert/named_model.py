"""The configuration that a user names: a preset, a directory, or another library's config file."""

import os
from pathlib import Path

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.json import config_from_json
from jaxmaskrcnn.config.values import shown
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import list_models, model_config

# The suffixes of other libraries' config files, with the libraries' names.
CONFIG_FILES = {suffix: library.name for library in LIBRARIES.values() for suffix in library.config_suffixes}

# Where a directory has its model's configuration: a model directory, and a training workdir with a best
# model or without one.
_DESCRIPTIONS = ("model.json", "best/model.json", "config.json")


def resolve_model(model: str | os.PathLike | ModelConfig, num_classes: int | None = None) -> ModelConfig:
    """Return the configuration that a user chose.

    Args:
        model: A preset's name, a ModelConfig, a model directory, a training workdir, or the path of a
            Detectron2 yaml or MMDetection config.
        num_classes: Replaces its number of classes; a different number drops its categories.

    Raises:
        UserError: There is no such preset, directory or file, or ``model`` is something else.

    Example:
        >>> resolve_model("detectron2/mask_rcnn_R_50_FPN_3x", num_classes=2).num_classes
        2
    """
    if isinstance(model, ModelConfig):
        config = model
    elif not isinstance(model, str | os.PathLike):
        raise UserError(
            f"model is {shown(model)}; give a preset's name, a ModelConfig, a model directory, or the path "
            "of a Detectron2 yaml or MMDetection config."
        )
    elif os.fspath(model) in list_models():
        return model_config(os.fspath(model), num_classes)
    elif os.fspath(model) and Path(model).is_dir():
        config = directory_config(model)
    elif Path(model).suffix.lower() in CONFIG_FILES or Path(model).is_file():
        # Settings that only affect training do not matter for trained weights.
        config = config_from_file(model, training=False)
    else:
        return model_config(os.fspath(model), num_classes)  # which says what is near
    if num_classes in (None, config.num_classes):
        return config
    return config.replace(num_classes=num_classes, categories=())


def directory_config(directory: str | os.PathLike) -> ModelConfig:
    """Return the configuration of the model in a directory, without reading its arrays.

    Args:
        directory: A model directory, or a training workdir.

    Raises:
        UserError: There is no model's configuration in it, or it is damaged.

    Example:
        >>> jmr.save_model(model, "models/named")
        >>> directory_config("models/named") == model.config
        True
    """
    for name in _DESCRIPTIONS:
        file = Path(directory) / name
        if file.is_file():
            return config_from_json(file.read_bytes(), str(file))
    raise UserError(
        f"{os.fspath(directory)} is a directory without a model: it has none of {', '.join(_DESCRIPTIONS)}; "
        "give a model directory, a training workdir or a preset's name."
    )
