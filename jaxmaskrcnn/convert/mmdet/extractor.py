"""What pools the regions of an MMDetection model: RoIAlign from one level, or layers for those of all levels.

Source: ``mmdet/models/roi_heads/roi_extractors`` (version 3.3).
"""

from jaxmaskrcnn.config import MaskConfig, ModelConfig
from jaxmaskrcnn.convert.mmdet import kinds
from jaxmaskrcnn.convert.mmdet.mask_heads import is_fcn
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.convert.mmdet.shared_head import SHARED_HEAD
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, write

_KEYS = {head: f"roi_head.{head}_roi_extractor.type" for head in ("bbox", "mask")}


def _types(masks: bool) -> list[Setting]:
    conversion = kinds.conversion("extractor", absent="SingleRoIExtractor")
    return [Setting(_KEYS[head], MISSING, conversion, "extractor") for head in list(_KEYS)[: 1 + masks]]


def _read(settings: Settings, config: Flat) -> None:
    masks = is_fcn(config["mask"]) and not settings.has(SHARED_HEAD)
    config |= settings.fields(_types(masks))
    kinds.read_own("extractor", settings, config)


def _write(config: ModelConfig) -> Flat:
    masks = isinstance(config.mask, MaskConfig) and config.trunk is None
    return {**write(_types(masks), config, USUAL), **kinds.write_own("extractor", config)}


PART = PartSettings(_read, _write, lambda: {*_KEYS.values(), *kinds.own_keys("extractor")})
