"""How detections of an MMDetection model that overlap are treated, by the type of its ``nms``.

Source: ``mmcv/ops/nms.py`` (version 2.1).
"""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.mmdet import soft_nms
from jaxmaskrcnn.convert.mmdet.part import Flat, PartSettings
from jaxmaskrcnn.names.config_table import Setting, Settings, write
from jaxmaskrcnn.names.conversions import only

# Of each type, what it is here (`detections.nms_method`), and the rows of its settings.
_TYPES: dict[str, tuple[tuple[str, ...], tuple[Setting, ...]]] = {
    "nms": (("greedy",), ()),
    "soft_nms": (soft_nms.METHODS, soft_nms.ROWS),
}
_TYPE = Setting("test_cfg.rcnn.nms.type", "nms", only(*_TYPES))


def _read(settings: Settings, config: Flat) -> None:
    methods, rows = _TYPES[settings.get(_TYPE) or "nms"]
    config |= {"detections.nms_method": methods[0]} | settings.fields(rows)


def _write(config: ModelConfig) -> Flat:
    method = config.detections.nms_method
    name, rows = next((name, rows) for name, (methods, rows) in _TYPES.items() if method in methods)
    return {_TYPE.key: name, **write(rows, config, config)}


PART = PartSettings(
    _read, _write, lambda: {_TYPE.key, *(row.key for _, rows in _TYPES.values() for row in rows)}
)
