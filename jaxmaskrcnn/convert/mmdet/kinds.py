"""The kinds of a part by MMDetection's types, and the settings that only one kind has.

Both are in the part's names file: the type is ``MMDET`` (of several, the first one is written), and
``MMDET_KEYS``, ``read_mmdet`` and ``write_mmdet`` are its own settings; see `names/layers.py`.
"""

from types import ModuleType

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.mmdet.part import Flat
from jaxmaskrcnn.models.names_files import names_file, names_files
from jaxmaskrcnn.names.config_table import Settings
from jaxmaskrcnn.names.conversions import Conversion, choice


def files(place: str) -> dict[str, ModuleType]:
    """Return the names files of the kinds that MMDetection has, by kind."""
    return {kind: file for kind, file in names_files(place).items() if hasattr(file, "MMDET")}


def types(place: str) -> dict[str, str]:
    """Return the kinds by MMDetection's types.

    Example:
        >>> types("extractor")
        {'GenericRoIExtractor': 'groie'}
    """
    return {name: kind for kind, file in files(place).items() for name in names_of(file)}


def names_of(file: ModuleType) -> tuple[str, ...]:
    """Return MMDetection's types of the part of a names file; the first one is written."""
    return (file.MMDET,) if isinstance(file.MMDET, str) else file.MMDET


def conversion(place: str, absent: str | None = None) -> Conversion:
    """Return the conversion of a part's type, written from the part.

    Args:
        place: The part's path.
        absent: The type of a model without the part, which is False here; None if there is none.
    """
    known = choice(({} if absent is None else {absent: False}) | types(place))
    return known._replace(write=lambda part: known.write(part.kind if part is not None else False))


def own_keys(place: str) -> set[str]:
    """Return the keys of the settings that only some kinds have."""
    return {key for file in files(place).values() for key in getattr(file, "MMDET_KEYS", ())}


def read_own(place: str, settings: Settings, config: Flat) -> None:
    """Read the settings of a kind of its own, and refuse those of others."""
    file = files(place).get(config[place])
    if file is None:  # no such part, or a type that was refused
        return
    if hasattr(file, "read_mmdet"):
        file.read_mmdet(settings, config)
    own = set(getattr(file, "MMDET_KEYS", ()))
    others = own_keys(place) - own
    settings.unknown(own, [key for key in settings.values if key in others])


def write_own(place: str, config: ModelConfig) -> Flat:
    """The counterpart of `read_own`."""
    part = config.get(place)
    file = None if part is None else names_file(part)
    return file.write_mmdet(config) if hasattr(file, "write_mmdet") else {}
