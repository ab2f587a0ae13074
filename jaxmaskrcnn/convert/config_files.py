"""Other libraries' config files as a ModelConfig: Detectron2's yaml, MMDetection's Python.

Neither kind is run. Whatever in a file changes a detector's numbers is either reproduced or refused,
and one error lists everything that is.
"""

import os
from pathlib import Path

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text, config_from_python
from jaxmaskrcnn.errors import UserError

__all__ = ["config_from_file", "config_from_mmdet_text"]


def config_from_file(path: str | os.PathLike, *, training: bool = True) -> ModelConfig:
    """The configuration that another library's config file describes.

    Args:
        path: A Detectron2 ``.yaml`` (a config of its repository, of your own, or the whole config.yaml of
            an output folder), or an MMDetection ``.py`` of version 2 or 3.
        training: Refuse also settings that change training only. False passes them over with a warning
            in the log: a trained model's detections do not depend on them.

    Returns:
        A ModelConfig with the library's conventions. Its categories are named where the data sets are
        COCO's or Cityscapes'; otherwise they are ().

    Raises:
        UserError: The file cannot be read, or holds settings that cannot be reproduced here; lists all.

    Example:
        >>> config_from_file("mask_rcnn_R_50_FPN_3x.yaml").num_classes  # doctest: +SKIP
        80
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".yaml", ".yml"):
        return config_from_yaml(path, training)
    if suffix == ".py":
        return config_from_python(path, training)
    raise UserError(
        f"{os.fspath(path)} has the ending {suffix!r}; give a Detectron2 config (.yaml, .yml) or an "
        "MMDetection config (.py)."
    )
