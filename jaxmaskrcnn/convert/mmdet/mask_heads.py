"""The kind of an MMDetection model's mask head, and the settings of kinds that their names files know.

A names file has the head's type there as ``MMDET``, those of the region heads and of the detector with it as
``MMDET_HEADS`` and ``MMDET_DETECTOR``, the functions ``read_mmdet`` and ``write_mmdet``, and the keys that
these read in ``MMDET_KEYS``. Of two kinds with one type, the one with a further part has that part's key in
``MMDET_PART``.
"""

from types import ModuleType
from typing import Any

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import cascade, rows
from jaxmaskrcnn.convert.structure import classes_with_names, names_file
from jaxmaskrcnn.names.config_table import Settings
from jaxmaskrcnn.names.conversions import choice, only

Flat = dict[str, Any]


def mask_head(settings: Settings, shared: bool) -> str | bool:
    """Return the kind of the mask head, or True for Mask R-CNN's.

    Args:
        settings: The settings, whose type of the region heads is checked.
        shared: Whether there is a shared head, with which there is only Mask R-CNN's.
    """
    others = {} if shared else {file.MMDET: kind for kind, file in _others().items()}
    kind = settings.get(rows.MASK_TYPE._replace(conversion=choice({**others, rows.FCN: True})))
    if kind is not True or shared:
        return True if kind is None else kind
    parts = {kind: getattr(file, "MMDET_PART", None) for kind, file in _others().items()}
    given = {key.rpartition(".")[0] for key in settings.values}
    return next((kind for kind, part in parts.items() if part in given), True)


def is_fcn(kind: str | bool | None) -> bool:
    """Return whether a kind of mask head, as it was read, has the settings of Mask R-CNN's."""
    kinds = classes_with_names("mask")
    return kind is True or isinstance(kind, str) and issubclass(kinds[kind], MaskConfig)


def read_mask_head(settings: Settings, config: Flat, usual: ModelConfig, trained: bool) -> None:
    """Read a mask head that is not Mask R-CNN's, and check the type of the region heads.

    Args:
        settings: The settings.
        config: Values by dotted path, with those of the backbone and the neck.
        usual: The library's default configuration.
        trained: Whether there is a ``train_cfg``.
    """
    if config["mask"] in (True, False):
        settings.get(cascade.TYPE)
        return
    file = _others()[config["mask"]]
    settings.get(cascade.TYPE._replace(conversion=only(file.MMDET_HEADS)))
    file.read_mmdet(settings, config, usual, trained)


def write_mask_head(config: ModelConfig) -> Flat:
    """The counterpart of `read_mask_head`."""
    if config.mask is None or config.mask.kind == MaskConfig.kind:
        return {}
    file = names_file(config.mask)
    # A Panoptic FPN has a detector's type of its own, whatever its region heads are.
    detector = {} if config.semantic is not None else {"type": file.MMDET_DETECTOR}
    return {**detector, cascade.TYPE.key: file.MMDET_HEADS, **file.write_mmdet(config)}


def known() -> set[str]:
    """Return the keys that names files read."""
    return {key for file in _others().values() for key in file.MMDET_KEYS}


def _others() -> dict[str, ModuleType]:
    """Return the names files of the other kinds of mask head that MMDetection has."""
    files = {kind: names_file(part) for kind, part in classes_with_names("mask").items()}
    return {kind: file for kind, file in files.items() if hasattr(file, "MMDET")}
