"""Names of a PAFPN's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config.necks import PAFPNConfig
from jaxmaskrcnn.models.necks import fpn_names
from jaxmaskrcnn.models.necks.fpn_names import BACKBONE, names, structure
from jaxmaskrcnn.names.layers import Shapes

LIBRARIES = ("mmdet",)

__all__ = ["BACKBONE", "describe", "names", "read_structure", "structure"]
MMDET = "PAFPN"


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such neck."""
    return fpn_names.settings_of(shapes) if fpn_names.has_second_path(shapes) else None


def describe(part: PAFPNConfig) -> str:
    """Describe the neck in words."""
    return f"a path aggregation network with {part.channels} channels"
