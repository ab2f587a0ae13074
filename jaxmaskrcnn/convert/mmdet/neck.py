"""The neck of an MMDetection model.

Source: the constructors of ``mmdet/models/necks`` (version 3.3).
"""

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.mmdet import kinds
from jaxmaskrcnn.convert.mmdet.part import USUAL, Flat, PartSettings
from jaxmaskrcnn.names.config_table import MISSING, Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import whole

# Those of every kind, beside the type; the norm is read with those of other parts.
ROWS = (
    Setting("neck.out_channels", MISSING, whole(1), "neck.channels"),
    fixed("neck.start_level", 0, 0),
    fixed("neck.end_level", -1, -1, 3),
    fixed("neck.add_extra_convs", False, False),
    fixed("neck.no_norm_on_lateral", False, False),
    fixed("neck.conv_cfg", None, None),
    fixed("neck.act_cfg", None, None),
    fixed("neck.order", ("conv", "norm", "act"), ("conv", "norm", "act")),
    fixed("neck.upsample_cfg.mode", "nearest", "nearest"),
)
_TYPE = "neck.type"


def _type() -> Setting:
    return Setting(_TYPE, MISSING, kinds.conversion("neck"), "neck")


def _read(settings: Settings, config: Flat) -> None:
    if not settings.has("neck"):
        config["neck"] = False
        return
    config |= settings.fields((_type(), *ROWS))
    kinds.read_own("neck", settings, config)


def _write(config: ModelConfig) -> Flat:
    if config.neck is None:
        return {}
    return {**write((_type(), *ROWS), config, USUAL), **kinds.write_own("neck", config)}


PART = PartSettings(_read, _write, lambda: {_TYPE, *(row.key for row in ROWS), *kinds.own_keys("neck")})
