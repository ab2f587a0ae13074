"""The loss of the box head's classes in an MMDetection model, by its type.

Those of other scores than a softmax are in the names files of the kinds of scores, as ``MMDET`` and
``MMDET_ROWS``.

Source: ``mmdet/models/losses`` (version 3.3).
"""

from jaxmaskrcnn.config import SCORES, ModelConfig
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.names.conversions import choice

_KEY, _SOFTMAX = "roi_head.bbox_head.loss_cls.type", "CrossEntropyLoss"
_FILES = {kind: names_file(scores) for kind, scores in SCORES.items() if scores.names}
_ROWS: dict[str, tuple[Setting, ...]] = {
    kind: file.MMDET_ROWS for kind, file in _FILES.items() if hasattr(file, "MMDET")
}
_TYPES = {_SOFTMAX: "softmax", **{_FILES[kind].MMDET: kind for kind in _ROWS}}
_TYPE = Setting(_KEY, _SOFTMAX, choice(_TYPES), "box.scores")


def _read(settings: Settings, config: Flat) -> None:
    config |= settings.fields((_TYPE,))
    config |= settings.fields(_ROWS.get(config["box.scores"], ()))


def _write(config: ModelConfig) -> Flat:
    return write((_TYPE, *_ROWS.get(config.box.scores, ())), config, USUAL)


PART = PartSettings(_read, _write, lambda: {_KEY, *(row.key for rows in _ROWS.values() for row in rows)})
