"""Predictors of an MMDetection model that compute cosines.

Source: ``mmdet/models/layers/normed_predictor.py`` (version 3.3).
"""

from jaxmaskrcnn.config import BoxConfig, MaskConfig, ModelConfig
from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.convert.mmdet.mask_heads import is_fcn
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice, number


def _rows(predictor: str, plain: str, normed: str, path: str) -> tuple[Setting, tuple[Setting, ...]]:
    """Return the setting of whether a predictor computes cosines, and the settings of cosines."""
    return Setting(f"{predictor}.type", plain, choice({plain: False, normed: True})), (
        Setting(f"{predictor}.tempearture", 20.0, number(1e-6), path),  # spelt like this there
        fixed(f"{predictor}.power", 1.0, 1.0),
        fixed(f"{predictor}.eps", 1e-6, 1e-6),
    )


_CLASSES = _rows("roi_head.bbox_head.cls_predictor_cfg", "Linear", "NormedLinear", "box.cosine_scale")
_MASKS = _rows("roi_head.mask_head.predictor_cfg", "Conv", "NormedConv2d", "mask.cosine_scale")
# Of one cell, as all these are, a kernel's length is that over its inputs.
_OVER_KERNEL = fixed("roi_head.mask_head.predictor_cfg.norm_over_kernel", False, False, True)


def _read(settings: Settings, config: Flat) -> None:
    for kind, cosines in (_CLASSES, *((_MASKS,) if is_fcn(config["mask"]) else ())):
        if settings.get(kind):
            config |= settings.fields(cosines)


def _write(config: ModelConfig) -> Flat:
    values: Flat = {}
    for part, (kind, cosines) in ((config.box, _CLASSES), (config.mask, _MASKS)):
        if isinstance(part, BoxConfig | MaskConfig) and part.cosine_scale:
            values |= {kind.key: kind.conversion.write(True), **write(cosines, config, USUAL)}
    return values


PART = PartSettings(
    _read,
    _write,
    lambda: {_OVER_KERNEL.key, *(row.key for kind, rows in (_CLASSES, _MASKS) for row in (kind, *rows))},
    (
        Extra(
            lambda c: c.box.cosine_scale > 0 or getattr(c.mask, "cosine_scale", 0) > 0,
            "a head computes cosines (cosine_scale)",
        ),
    ),
)
