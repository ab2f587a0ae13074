"""Names of a CarafeFPN's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import CarafeFPNConfig, ModelConfig
from jaxmaskrcnn.models import carafe_names
from jaxmaskrcnn.models.necks import fpn_names
from jaxmaskrcnn.models.necks.fpn_names import BACKBONE
from jaxmaskrcnn.names.config_table import Settings, fixed, write
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Names

LIBRARIES = ("mmdet",)

__all__ = ["BACKBONE", "describe", "names", "read_structure", "structure"]
MMDET = "FPN_CARAFE"
_MMDET = (
    fixed("neck.upsample_cfg.type", "carafe", "carafe", always=True),
    *carafe_names.mmdet_rows("neck.upsample_cfg", "neck.upsample"),
)
MMDET_KEYS = {row.key for row in _MMDET}


def names(library: str, part: CarafeFPNConfig) -> Names:
    """Return the rows of a library; only MMDetection has this neck."""
    if library != "mmdet":
        return Names([], {})
    pyramid = fpn_names.names(library, part)
    rows = carafe_names.names("mmdet", "neck.upsample_modules.{i}", "backbone.fpn.upsamples.{i}")
    return Names([*pyramid.rows, *rows], pyramid.vocabulary)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such neck."""
    upsample = carafe_names.read_structure(shapes, "backbone.fpn.upsamples.0", "neck.upsample")
    return {**fpn_names.settings_of(shapes), **upsample} if upsample else None


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    assert isinstance(config.neck, CarafeFPNConfig)
    return {**fpn_names.structure(config), **carafe_names.structure(config.neck.upsample, "neck.upsample")}


def describe(part: CarafeFPNConfig) -> str:
    """Describe the neck in words."""
    return f"a pyramid with CARAFE and {part.channels} channels"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings of the upsampling."""
    config |= settings.fields(_MMDET)


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    return write(_MMDET, config, config)
