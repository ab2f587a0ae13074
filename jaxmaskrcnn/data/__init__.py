"""Data sets in COCO format: reading, checking, storing, and batches for training and evaluation."""

from typing import TYPE_CHECKING

from jaxmaskrcnn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from jaxmaskrcnn.data.images import decode_image
    from jaxmaskrcnn.data.iterable import write_iterable
    from jaxmaskrcnn.data.pipeline import eval_batches, train_iterator
    from jaxmaskrcnn.data.prefetch import prefetch_to_device
    from jaxmaskrcnn.data.preprocess import make_batch
    from jaxmaskrcnn.data.records.coco_instances import CocoConfig, CocoInstances
    from jaxmaskrcnn.data.records.prepare import prepare
    from jaxmaskrcnn.data.records.source import Example, Source
    from jaxmaskrcnn.data.shapes import write_shapes

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
    "write_figures",
    "write_iterable",
    "write_landscapes",
    "write_shapes",
]

_HOMES = {
    "CocoConfig": "records.coco_instances",
    "CocoInstances": "records.coco_instances",
    "Example": "records.source",
    "Source": "records.source",
    "decode_image": "images",
    "eval_batches": "pipeline",
    "make_batch": "preprocess",
    "prefetch_to_device": "prefetch",
    "prepare": "records.prepare",
    "train_iterator": "pipeline",
    "write_figures": "figures",
    "write_iterable": "iterable",
    "write_landscapes": "landscapes",
    "write_shapes": "shapes",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
