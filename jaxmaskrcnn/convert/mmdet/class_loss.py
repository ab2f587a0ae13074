"""The loss of the box head's classes in an MMDetection model, by its type.

Source: ``mmdet/models/losses`` (version 3.3).
"""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.mmdet import seesaw
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.names.conversions import choice

# Of each type, the kind of scores that it learns, and the rows of its settings.
_TYPES: dict[str, tuple[str, tuple[Setting, ...]]] = {
    "CrossEntropyLoss": ("softmax", ()),
    "SeesawLoss": (seesaw.SCORES, seesaw.ROWS),
}
_ROWS = dict(_TYPES.values())  # by the kind of scores
_TYPE = Setting(
    "roi_head.bbox_head.loss_cls.type",
    "CrossEntropyLoss",
    choice({name: scores for name, (scores, _) in _TYPES.items()}),
    "box.scores",
)


def _read(settings: Settings, config: Flat) -> None:
    config |= settings.fields((_TYPE,))
    config |= settings.fields(_ROWS.get(config["box.scores"], ()))


def _write(config: ModelConfig) -> Flat:
    return write((_TYPE, *_ROWS.get(config.box.scores, ())), config, USUAL)


PART = PartSettings(
    _read, _write, lambda: {_TYPE.key, *(row.key for rows in _ROWS.values() for row in rows)}, (seesaw.EXTRA,)
)
