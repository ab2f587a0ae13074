"""Names of a CarafeFPN's arrays in MMDetection, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import CarafeFPNConfig, ModelConfig
from jaxmaskrcnn.models.necks import fpn_names
from jaxmaskrcnn.models.necks.fpn_names import BACKBONE
from jaxmaskrcnn.names.carafe import carafe_rows, carafe_structure, settings_of
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Names

LIBRARIES = ("mmdet",)

__all__ = ["BACKBONE", "describe", "names", "read_structure", "structure"]


def names(library: str, part: CarafeFPNConfig) -> Names:
    """Return the rows of a library; only MMDetection has this neck."""
    if library != "mmdet":
        return Names([], {})
    pyramid = fpn_names.names(library, part)
    rows = carafe_rows("neck.upsample_modules.{i}", "backbone.fpn.upsamples.{i}")
    return Names([*pyramid.rows, *rows], pyramid.vocabulary)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such neck."""
    upsample = carafe_structure(shapes, "backbone.fpn.upsamples.0", "neck.upsample")
    return {**fpn_names.settings_of(shapes), **upsample} if upsample else None


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    assert isinstance(config.neck, CarafeFPNConfig)
    return {**fpn_names.structure(config), **settings_of(config.neck.upsample, "neck.upsample")}


def describe(part: CarafeFPNConfig) -> str:
    """Describe the neck in words."""
    return f"a pyramid with CARAFE and {part.channels} channels"
