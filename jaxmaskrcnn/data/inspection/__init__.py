"""What is in a data set, what is wrong with it, and what it looks like."""

from jaxmaskrcnn.data.inspection.inspect import Inspection, inspect_annotations

__all__ = ["Inspection", "inspect_annotations"]
