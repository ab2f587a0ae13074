"""Convert config files (Detectron2's yaml, MMDetection's and matterport's Python) to a ModelConfig.

Files are parsed, never run. Every setting that affects a detector's results is either reproduced or
rejected, and one error lists all rejected settings.
"""

import os
from pathlib import Path

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml
from jaxmaskrcnn.convert.matterport.settings import config_from_class, is_config_class
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text, config_from_python
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import local_copy

__all__ = ["config_from_file", "config_from_mmdet_text", "library_of_config_file"]


def config_from_file(path: str | os.PathLike, *, training: bool = True) -> ModelConfig:
    """Convert another library's config file to a ModelConfig.

    Args:
        path: A Detectron2 ``.yaml`` (from its repository, your own, or the complete config.yaml of an
            output folder), an MMDetection ``.py`` of version 2 or 3, or a ``.py`` with a subclass of
            matterport's ``Config``.
        training: Whether to also reject unsupported settings that only affect training. If False, they
            are logged as a warning, since a trained model's detections do not depend on them.

    Returns:
        A ModelConfig with the library's conventions. Its categories are set for COCO, Cityscapes and LVIS
        data sets, and otherwise ().

    Raises:
        UserError: The file cannot be read, or has unsupported settings; lists all of them.

    Example:
        >>> config_from_file("mask_rcnn_R_50_FPN_3x.yaml").num_classes  # doctest: +SKIP
        80
    """
    path = local_copy(path, "the config file")
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return config_from_yaml(path, training)
    if suffix == ".py":
        read = config_from_class if library_of_config_file(path) == "matterport" else config_from_python
        return read(path, training)
    raise UserError(
        f"{os.fspath(path)} has the suffix {suffix!r}; give a Detectron2 config (.yaml, .yml), an "
        "MMDetection config (.py) or a file with a class of matterport's (.py)."
    )


def library_of_config_file(path: str | os.PathLike) -> str | None:
    """Return the library of a config file, by its suffix, and of Python by its text; None for others."""
    suffix = Path(path).suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "detectron2"
    if suffix != ".py":
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "mmdet"  # whose reader says what is wrong
    return "matterport" if is_config_class(text) else "mmdet"
