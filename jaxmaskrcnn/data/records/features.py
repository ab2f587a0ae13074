"""What one record holds, as TFDS features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxmaskrcnn.data.coco.objects import Object
from jaxmaskrcnn.data.fields.table import COLUMNS


def record_features(semantic: bool = False, extra: bool = False) -> tfds.features.FeaturesDict:
    """The features of a record: the image file's bytes, its id, name and size, and its objects.

    Args:
        semantic: Whether it also has the labels of its pixels.
        extra: Whether it also has extra ground truth.
    """
    labels = {"semantic": tfds.features.Image(encoding_format="png", shape=(None, None, 1))}
    return tfds.features.FeaturesDict(
        {
            # The declared encoding is only used for arrays; files are stored as they are.
            "image": tfds.features.Image(encoding_format="png"),
            "image/id": np.int64,
            "image/filename": tfds.features.Text(),
            "image/height": np.int32,
            "image/width": np.int32,
            **(labels if semantic else {}),
            **({"extra": tfds.features.Text()} if extra else {}),
            "objects": tfds.features.Sequence(
                {
                    "id": np.int64,
                    "label": np.int32,
                    "is_crowd": np.bool_,
                    "area": np.float32,
                    **{name: _feature(column) for name, column in COLUMNS.items()},
                }
            ),
        }
    )


def _feature(column):
    if column is str:
        return tfds.features.Text()
    dtype, length = column
    return tfds.features.Tensor(shape=(length,), dtype=dtype)


def object_columns(objects: Sequence[Object]) -> dict[str, list]:
    """The features of an image's objects, as TFDS encodes a sequence of dictionaries."""
    columns = {name: [getattr(item, name) for item in objects] for name in COLUMNS}
    return {
        "id": [item.id for item in objects],
        "label": [item.label for item in objects],
        "is_crowd": [item.crowd for item in objects],
        "area": [item.area for item in objects],
        **columns,
    }


def read_record(features: tfds.features.FeaturesDict, data: bytes) -> dict[str, Any]:
    """Decode a record; pictures stay the bytes of their files.

    Args:
        features: From `record_features`.
        data: The record.
    """
    # TFDS' decorators hide what its methods take.
    read: Any = features.deserialize_example_np
    skipped = [name for name in ("image", "semantic") if name in features]
    return read(data, decoders={name: tfds.decode.SkipDecoding() for name in skipped})
