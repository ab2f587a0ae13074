"""What every part of an MMDetection model has in this folder: a `PartSettings`, which `table.py` lists."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.zoo.conventions import MMDET

Flat = dict[str, Any]  # values by dotted key of MMDetection's, or by dotted path of a configuration

USUAL = ModelConfig().replace(MMDET)


class PartSettings(NamedTuple):
    """The settings of one part of a model.

    Attributes:
        read: Checks them and completes those of a configuration, by dotted path, which has those of the parts
            before it in the table.
        write: The counterpart of ``read``: returns them by dotted key.
        keys: Returns their keys.
        has: What these models can have and those of other libraries cannot.
    """

    read: Callable[[Settings, Flat], None]
    write: Callable[[ModelConfig], Flat]
    keys: Callable[[], Collection[str]] = tuple
    has: tuple[Extra, ...] = ()


def of_rows(rows: Sequence[Setting], section: str = "") -> PartSettings:
    """Return the settings of a part that every model has and that is a table.

    Args:
        rows: The table.
        section: Where its keys are; a file without any of them has the usual values. "" for no such rule.
    """

    def read(settings: Settings, config: Flat) -> None:
        if not section or settings.has(section):
            config |= settings.fields(rows)

    return PartSettings(read, lambda config: write(rows, config, USUAL), lambda: {row.key for row in rows})
