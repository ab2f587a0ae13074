"""What doubles the regions of the mask head of an MMDetection model.

Source: ``mmdet/models/roi_heads/mask_heads/fcn_mask_head.py`` (version 3.3).
"""

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import kinds
from jaxmaskrcnn.convert.mmdet.mask_heads import is_fcn
from jaxmaskrcnn.convert.mmdet.part import Flat, PartSettings
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice

_PREFIX, _PLACE = "roi_head.mask_head.upsample_cfg", "mask.upsample"
_TYPE = f"{_PREFIX}.type"
_SCALE = fixed(f"{_PREFIX}.scale_factor", 2, 2, always=True)


def _read(settings: Settings, config: Flat) -> None:
    if not is_fcn(config["mask"]):
        return
    kind = settings.get(Setting(_TYPE, "deconv", choice({"deconv": None, **kinds.types(_PLACE)})))
    settings.fields((_SCALE,))
    if kind is not None:
        config[_PLACE] = kind
        config |= settings.fields(kinds.files(_PLACE)[kind].mmdet_rows(_PREFIX, _PLACE))


def _write(config: ModelConfig) -> Flat:
    if not isinstance(config.mask, MaskConfig) or config.mask.upsample is None:
        return {}  # a transposed convolution has no settings
    file = names_file(config.mask.upsample)
    table = (_SCALE, *file.mmdet_rows(_PREFIX, _PLACE))
    return {_TYPE: kinds.names_of(file)[0], **write(table, config, config)}


def _keys() -> set[str]:
    rows = [row for file in kinds.files(_PLACE).values() for row in file.mmdet_rows(_PREFIX, _PLACE)]
    return {_TYPE, _SCALE.key, *(row.key for row in rows)}


PART = PartSettings(_read, _write, _keys)
