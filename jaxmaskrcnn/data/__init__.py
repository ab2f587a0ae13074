"""Data sets in COCO format: reading, checking, storing, and batches for training and evaluation."""

from jaxmaskrcnn.data.coco_instances import CocoConfig, CocoInstances, prepare
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.pipeline import eval_batches, train_iterator
from jaxmaskrcnn.data.prefetch import prefetch_to_device
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.shapes import write_shapes
from jaxmaskrcnn.data.source import Example, Source

__all__ = [
    "CocoConfig",
    "CocoInstances",
    "Example",
    "Source",
    "decode_image",
    "eval_batches",
    "make_batch",
    "prefetch_to_device",
    "prepare",
    "train_iterator",
    "write_shapes",
]
