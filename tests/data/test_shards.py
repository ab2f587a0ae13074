"""Records of any number and size are written one after the other, without TensorFlow."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from jaxmaskrcnn.data import prepare, write_shapes
from jaxmaskrcnn.data.records import coco_instances, shards


def arrays(source):
    return [
        (
            e.index, e.image, e.image_id, e.file_name, e.size, e.labels.tolist(), e.crowd.tolist(),
            e.areas.tolist(), e.annotation_ids.tolist(), e.boxes.tolist(), e.rles, e.polygons,
        )
        for e in (source[i] for i in range(len(source)))
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 3000, 10**9])
def test_many_files_hold_the_records_of_one(limit, tmp_path, monkeypatch):
    assert "tensorflow" not in sys.modules
    annotations, images = write_shapes(tmp_path / "set", 12, 64, seed=0)
    # TFDS' own way, which keeps all records in memory.
    with monkeypatch.context() as patch:
        patch.delattr(coco_instances.CocoInstances, "_generate_splits")
        expected = prepare(annotations, images, tmp_path / "tfds")
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)  # with which that would ask for TensorFlow
    monkeypatch.setattr(shards, "SHARD_BYTES", limit)
    source = prepare(annotations, images, tmp_path / "cache")
    assert arrays(source) == arrays(expected)
    files = sorted(path.name for path in source.directory.glob("*.array_record*"))
    assert len(files) == {1: 12, 10**9: 1}.get(limit, len(files)) and (limit != 3000 or 1 < len(files) < 12)
    assert files[-1].endswith(f"-{len(files) - 1:05d}-of-{len(files):05d}")
    assert not list(source.directory.glob("*.part"))
    splits = [tfds.builder_from_directory(str(s.directory)).info.splits["data"] for s in (source, expected)]
    assert splits[0].num_examples == 12 and splits[0].num_bytes == splits[1].num_bytes
    assert sum(splits[0].shard_lengths) == 12 and len(splits[0].shard_lengths) == len(files)
    np.testing.assert_array_equal(source.image_ids, expected.image_ids)
