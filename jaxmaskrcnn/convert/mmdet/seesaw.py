"""Settings of MMDetection's seesaw loss, and of predictors that compute cosines.

Source: ``mmdet/models/losses/seesaw_loss.py``, ``mmdet/models/layers/normed_predictor.py`` (version 3.3).
"""

from typing import Any

from jaxmaskrcnn.config import BoxConfig, MaskConfig, ModelConfig
from jaxmaskrcnn.losses.seesaw import FLOOR
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice, number, whole

_LOSS = "roi_head.bbox_head.loss_cls"
SCORES = Setting(
    f"{_LOSS}.type",
    "CrossEntropyLoss",
    choice({"CrossEntropyLoss": "softmax", "SeesawLoss": "two_softmaxes"}),
    "box.scores",
)
_SEESAW = (
    Setting(f"{_LOSS}.p", 0.8, number(), "box.class_loss.mitigation", training=True),
    Setting(f"{_LOSS}.q", 2.0, number(), "box.class_loss.compensation", training=True),
    Setting(f"{_LOSS}.num_classes", 1203, whole(1), "num_classes"),
    fixed(f"{_LOSS}.eps", FLOOR, FLOOR, training=True),
    fixed(f"{_LOSS}.return_dict", True, True, False),
)


def _cosines(predictor: str, plain: str, normed: str, path: str) -> tuple[Setting, tuple[Setting, ...]]:
    """Return the setting of whether a predictor computes cosines, and the settings of cosines."""
    return Setting(f"{predictor}.type", plain, choice({plain: False, normed: True})), (
        Setting(f"{predictor}.tempearture", 20.0, number(1e-6), path),  # spelt like this there
        fixed(f"{predictor}.power", 1.0, 1.0),
        fixed(f"{predictor}.eps", 1e-6, 1e-6),
    )


_CLASSES = _cosines("roi_head.bbox_head.cls_predictor_cfg", "Linear", "NormedLinear", "box.cosine_scale")
_MASKS = _cosines("roi_head.mask_head.predictor_cfg", "Conv", "NormedConv2d", "mask.cosine_scale")
# Of one cell, as all these are, a kernel's length is that over its inputs.
_OVER_KERNEL = fixed("roi_head.mask_head.predictor_cfg.norm_over_kernel", False, False, True)
KNOWN = {
    row.key for row in (SCORES, *_SEESAW, _CLASSES[0], *_CLASSES[1], _MASKS[0], *_MASKS[1], _OVER_KERNEL)
}


def read_seesaw(settings: Settings, config: dict[str, Any], masks: bool) -> None:
    """Read the loss of the classes, and whether predictors compute cosines.

    Args:
        settings: The settings.
        config: Values by dotted path.
        masks: Whether there is a mask head whose predictor has this setting.
    """
    config |= settings.fields((SCORES,))
    if config["box.scores"] == "two_softmaxes":
        config |= settings.fields(_SEESAW)
    for kind, cosines in (_CLASSES, *((_MASKS,) if masks else ())):
        if settings.get(kind):
            config |= settings.fields(cosines)


def write_seesaw(config: ModelConfig, usual: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_seesaw`."""
    values = write((SCORES,), config, usual)
    if config.box.scores == "two_softmaxes":
        values |= write(_SEESAW, config, usual)
    for part, (kind, cosines) in ((config.box, _CLASSES), (config.mask, _MASKS)):
        if isinstance(part, BoxConfig | MaskConfig) and part.cosine_scale:
            values |= {kind.key: kind.conversion.write(True), **write(cosines, config, usual)}
    return values
