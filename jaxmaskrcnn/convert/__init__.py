"""Read weights of other libraries, rename them for this library, and write them back."""

from typing import TYPE_CHECKING

from jaxmaskrcnn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from jaxmaskrcnn.convert.backbone import BackboneReport, load_backbone
    from jaxmaskrcnn.convert.detector import ConversionReport, load_detector
    from jaxmaskrcnn.convert.export import ExportReport, export_detector
    from jaxmaskrcnn.convert.files.reader import SourceFile, read_checkpoint, read_source
    from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict

__all__ = [
    "BackboneReport",
    "ConversionReport",
    "ExportReport",
    "SourceFile",
    "export_detector",
    "from_state_dict",
    "load_backbone",
    "load_detector",
    "read_checkpoint",
    "read_source",
    "to_state_dict",
]

_HOMES = {
    "BackboneReport": "backbone",
    "ConversionReport": "detector",
    "ExportReport": "export",
    "SourceFile": "files.reader",
    "export_detector": "export",
    "from_state_dict": "state_dict",
    "load_backbone": "backbone",
    "load_detector": "detector",
    "read_checkpoint": "files.reader",
    "read_source": "files.reader",
    "to_state_dict": "state_dict",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
