"""The mask head of an MMDetection model: that of Mask R-CNN, or one of a kind that its names file knows.

Such a names file has, beside what `kinds.py` says, the types of the region heads and of the detector with the
head as ``MMDET_HEADS`` and ``MMDET_DETECTOR``. Of two kinds with one type, the one with a further part has
that part's key in ``MMDET_PART``.
"""

from types import ModuleType

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import cascade, kinds, rows
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.convert.mmdet.shared_head import SHARED_HEAD
from jaxmaskrcnn.models.names_files import classes_with_names, names_file
from jaxmaskrcnn.names.config_table import Settings, write
from jaxmaskrcnn.names.conversions import choice, only


def _kind(settings: Settings) -> str | bool:
    """Return the kind of the mask head, True for Mask R-CNN's and False if there is none.

    With a shared head there is only Mask R-CNN's.
    """
    if not settings.has("roi_head.mask_head"):
        return False
    shared = settings.has(SHARED_HEAD)
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


def detectors() -> tuple[str, ...]:
    """Return the types of detectors that have a mask head of their own kind."""
    return tuple(file.MMDET_DETECTOR for file in _others().values())


def _read(settings: Settings, config: Flat) -> None:
    """Read a mask head, and check the type of the region heads."""
    config["mask"] = kind = _kind(settings)
    if kind is not False:
        config |= settings.fields(rows.MASKS)
    if is_fcn(kind):
        config |= settings.fields(rows.MASK if settings.has(SHARED_HEAD) else (*rows.MASK, *rows.MASK_POOL))
    if kind in (True, False):
        settings.get(cascade.TYPE)
        return
    file = _others()[kind]
    settings.get(cascade.TYPE._replace(conversion=only(file.MMDET_HEADS)))
    file.read_mmdet(settings, config)


def _write(config: ModelConfig) -> Flat:
    if config.mask is None:
        return {}
    table = rows.MASKS
    if isinstance(config.mask, MaskConfig):
        table += (rows.MASK_TYPE, *rows.MASK, *(rows.MASK_POOL if config.trunk is None else ()))
    values = write(table, config, USUAL)
    if config.mask.kind == MaskConfig.kind:
        return values
    file = names_file(config.mask)
    own = {"type": file.MMDET_DETECTOR, cascade.TYPE.key: file.MMDET_HEADS, **file.write_mmdet(config)}
    return values | own


def _others() -> dict[str, ModuleType]:
    """Return the names files of the other kinds of mask head that MMDetection has."""
    return kinds.files("mask")


PART = PartSettings(_read, _write, lambda: kinds.own_keys("mask"))
