"""Names of an HRFPN's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import HRFPNConfig, ModelConfig
from jaxmaskrcnn.models.necks.fpn_names import BACKBONE
from jaxmaskrcnn.names.config_table import Settings, fixed
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Names, weight_and_bias

LIBRARIES = ("mmdet",)

__all__ = ["BACKBONE", "describe", "names", "read_structure", "structure"]
MMDET, MMDET_OUTPUTS = "HRFPN", 5
_FIRST = "backbone.fpn.reduction.conv.kernel"
_MMDET = (fixed("neck.pooling_type", "AVG", "AVG"), fixed("neck.stride", 1, 1))
MMDET_KEYS = {row.key for row in _MMDET}


def names(library: str, part: HRFPNConfig) -> Names:
    """Return the rows of a library; only MMDetection has this neck."""
    if library != "mmdet":
        return Names([], {})
    rows = [
        *weight_and_bias("neck.reduction_conv.conv", "backbone.fpn.reduction.conv"),
        *weight_and_bias("neck.fpn_convs.{i}.conv", "backbone.fpn.layer_blocks.{i}.conv"),
    ]
    return Names(rows, {})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such neck."""
    return {"neck.channels": shapes[_FIRST][-1]} if _FIRST in shapes else None


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    assert isinstance(config.neck, HRFPNConfig)
    return {"neck.channels": config.neck.channels}


def describe(part: HRFPNConfig) -> str:
    """Describe the neck in words."""
    return f"an HRNet's pyramid with {part.channels} channels"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Check MMDetection's settings of an HRFPN."""
    settings.fields(_MMDET)
