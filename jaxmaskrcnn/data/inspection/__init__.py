"""Inspection of a data set: its contents, its problems and its appearance."""

from typing import TYPE_CHECKING

from jaxmaskrcnn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from jaxmaskrcnn.data.inspection.inspect import Inspection, inspect_annotations

__all__ = ["Inspection", "inspect_annotations"]

_HOMES = {
    "Inspection": "inspect",
    "inspect_annotations": "inspect",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
