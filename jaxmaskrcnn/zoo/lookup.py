"""Look up named model configurations and ImageNet backbones.

The data is in the other modules of this package: the libraries' conventions in ``zoo/conventions.py``, the
models in one file per library.
"""

import difflib
import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ConfigError, ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo import BACKBONES, PRESETS
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8, COCO_80, COCO_90, LVIS_V05_1230, LVIS_V1_1203
from jaxmaskrcnn.zoo.conventions import DETECTRON2, MMDET, TORCHVISION
from jaxmaskrcnn.zoo.entry import Preset, PublishedFile

__all__ = [
    "BACKBONES",
    "CITYSCAPES_8",
    "COCO_80",
    "COCO_90",
    "DETECTRON2",
    "LVIS_V1_1203",
    "LVIS_V05_1230",
    "MMDET",
    "PRESETS",
    "TORCHVISION",
    "BackboneInfo",
    "ModelInfo",
    "Preset",
    "PublishedFile",
    "backbone_info",
    "close_names",
    "list_backbones",
    "list_models",
    "model_config",
    "model_info",
]


class ModelInfo(NamedTuple):
    """Results and weights that the authors of a model published.

    Attributes:
        name: Name of the preset.
        box_ap: Box AP in percent on the validation set of the data it was trained for, or None.
        mask_ap: Mask AP, likewise.
        file: Name of the weights file, or None if none was published.
        licence: Licence of the weights, or None without a file.
        source: The library's config file or weights entry that the preset follows.
        model_id: The number under which Detectron2's model zoo lists the weights, or None.
        weights: The weights file with its address, and its size and hash where they are published; or None.
        keypoint_ap: Keypoint AP, as the others.
        pq: Panoptic quality (PQ), as the others.
    """

    name: str
    box_ap: float | None
    mask_ap: float | None
    file: str | None
    licence: str | None
    source: str
    model_id: str | None
    weights: PublishedFile | None
    keypoint_ap: float | None
    pq: float | None


class BackboneInfo(NamedTuple):
    """ImageNet weights that a detector can start from.

    Attributes:
        name: One of `list_backbones()`.
        fields: The settings that these weights need, by dotted path: depth, groups and width, the place
            of the stride, the norm layers' epsilon, and the input.
        files: Names of the weights files (torchvision: V1 before V2).
        licence: Licence of the weights.
        source: Where the library describes them.
        weights: The files with their addresses, in the order of ``files``. The first is taken where the
            backbone's name alone is given.
    """

    name: str
    fields: Mapping[str, Any]
    files: tuple[str, ...]
    licence: str
    source: str
    weights: tuple[PublishedFile, ...]


def list_models() -> list[str]:
    """List the names that `model_config` knows.

    Returns:
        "library/model" strings, grouped by library; "library/folder/model" for Detectron2's
        Cityscapes and LVIS models.

    Example:
        >>> "detectron2/mask_rcnn_R_50_FPN_3x" in list_models()
        True
    """
    return list(PRESETS)


def model_info(name: str) -> ModelInfo:
    """Return the published results and weights of a named model.

    Args:
        name: One of `list_models()`.

    Returns:
        ModelInfo.

    Raises:
        UserError: No preset has this name.

    Example:
        >>> info = model_info("detectron2/mask_rcnn_R_50_FPN_3x")
        >>> info.box_ap, info.mask_ap, info.file
        (41.0, 37.2, 'model_final_f10217.pkl')
    """
    preset = _preset(name)
    weights = preset.weights
    return ModelInfo(
        name,
        preset.box_ap,
        preset.mask_ap,
        weights.name if weights else None,
        weights.licence if weights else None,
        preset.source,
        preset.model_id,
        weights,
        preset.keypoint_ap,
        preset.pq,
    )


def list_backbones() -> list[str]:
    """List the names that `backbone_info` knows.

    Returns:
        "library/backbone" strings, grouped by library.

    Example:
        >>> "torchvision/resnext50_32x4d" in list_backbones()
        True
    """
    return list(BACKBONES)


def backbone_info(name: str) -> BackboneInfo:
    """Return the settings that a detector needs to start from named ImageNet weights.

    Args:
        name: One of `list_backbones()`.

    Returns:
        BackboneInfo.

    Raises:
        UserError: There is no backbone of this name.

    Example:
        >>> fields = backbone_info("torchvision/resnext50_32x4d").fields
        >>> config = model_config("detectron2/mask_rcnn_R_50_FPN_3x", **fields)
        >>> config.backbone.groups, config.backbone.stride_in_1x1, config.input.channel_order
        (32, False, 'rgb')
    """
    if name not in BACKBONES:
        raise UserError(
            f"There is no backbone named {name!r}{_suggest(name, BACKBONES)} `jaxmaskrcnn models` and "
            "list_backbones() list them all."
        )
    row = BACKBONES[name]
    files = tuple(file.name for file in row.weights)
    return BackboneInfo(name, row.fields, files, row.licence, row.source, row.weights)


def model_config(name: str, num_classes: int | None = None, **overrides: Any) -> ModelConfig:
    """Return the configuration of a named model.

    Args:
        name: One of `list_models()`.
        num_classes: Number of object classes without the background; None keeps the preset's.
            A number other than the preset's drops the preset's categories.
        **overrides: Any other settings by dotted path, ``**{"rpn.post_nms_test": 500}``. Lists are
            accepted as tuples.

    Returns:
        A frozen, hashable ModelConfig.

    Raises:
        UserError: No preset has this name.
        ConfigError: There is no such setting, or a value is not allowed.

    Example:
        >>> name = "torchvision/maskrcnn_resnet50_fpn"
        >>> config = model_config(name, num_classes=2, **{"detections.score_threshold": 0.5})
        >>> config.num_classes, config.categories, config.detections.score_threshold
        (2, (), 0.5)
    """
    config = _config_of(name, _preset(name))
    if num_classes is not None:
        if not isinstance(num_classes, numbers.Integral) or isinstance(num_classes, bool):
            raise ConfigError(f"num_classes is {num_classes!r}; give a whole number of object classes.")
        overrides = {"num_classes": num_classes, **overrides}
        if num_classes != config.num_classes:
            overrides = {"categories": (), **overrides}
    return config.replace(overrides)


# A file that does not tell its model is compared with all presets, which take some milliseconds each to make.
_CONFIGS: dict[str, tuple[Preset, ModelConfig]] = {}


def _config_of(name: str, preset: Preset) -> ModelConfig:
    if name not in _CONFIGS or _CONFIGS[name][0] is not preset:
        _CONFIGS[name] = preset, preset.config()
    return _CONFIGS[name][1]


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UserError(
            f"There is no model named {name!r}{_suggest(name, PRESETS)} `jaxmaskrcnn models` and "
            "list_models() list them all."
        )
    return PRESETS[name]


def _suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: similar known names, or a few of all."""
    known = list(known)
    if close := close_names(word, known):
        return f"; did you mean {' or '.join(map(repr, close))}?"
    first = {name.split("/")[0]: name for name in reversed(known)}  # of each library
    return f"; there are {len(known)}, such as {' and '.join(map(repr, sorted(first.values())))}."


def close_names(word: str, known: Iterable[str]) -> list[str]:
    """Up to three names that may be meant by a word.

    Args:
        word: What was typed.
        known: The names that there are.

    Example:
        >>> close_names("maskrcnn_resnet50", list_models())[0]
        'torchvision/maskrcnn_resnet50_fpn'
    """
    folded = {_folded(name): name for name in known}
    typed, word = word.lower(), _folded(word)
    # A name without its library is not similar enough to "library/model", so names that contain it are also
    # suggested: those that are spelt like it, then the shortest.
    close = [folded[name] for name in folded if len(word) > 2 and word in name]
    close.sort(key=lambda name: (typed not in name.lower(), len(name)))
    close += [folded[name] for name in difflib.get_close_matches(word, folded, n=3, cutoff=0.6)]
    return list(dict.fromkeys(close))[:3]


def _folded(name: str) -> str:
    """Return a name without the differences in spelling that are often mistaken."""
    return re.sub(r"[^a-z0-9/]", "", name.lower())
