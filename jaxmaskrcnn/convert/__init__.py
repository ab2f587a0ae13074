"""Weights of other libraries: reading their files and giving them this library's names."""

from jaxmaskrcnn.convert.backbone import BackboneReport, load_backbone
from jaxmaskrcnn.convert.reader import SourceFile, read_checkpoint, read_source

__all__ = ["BackboneReport", "SourceFile", "load_backbone", "read_checkpoint", "read_source"]
