"""Writes the records of a split one after the other.

TFDS sorts records before it writes them: it keeps the first gigabyte in memory, and for more than that needs
TensorFlow. The images come in the order of their ids already, so nothing has to be kept.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

SHARD_BYTES = 1 << 29  # of a file with records, which may be larger by its last record


def write_shards(
    examples: Iterable[tuple[int, dict[str, Any]]],
    split: str,
    features: tfds.features.FeatureConnector,
    template: tfds.core.ShardedFileTemplate,
    writer: Any,
) -> tfds.core.SplitInfo:
    """Writes records into as many files as they need.

    Args:
        examples: A key and the encoded features of each record, in the order in which they are to be read.
        split: Its name.
        features: What a record holds.
        template: Names the files of the split.
        writer: TFDS' writer of files, with a method ``write(path, examples)``.

    Returns:
        The split, for the data set's description.
    """
    specs: Any = features.get_serialized_info()
    serialize = ExampleSerializer(specs).serialize_example
    records = iter((key, serialize(example)) for key, example in examples)
    lengths: list[int] = []
    sizes: list[int] = []

    def shard(first: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        record: tuple[int, bytes] | None = first
        while record is not None:
            lengths[-1] += 1
            sizes[-1] += len(record[1])
            yield record
            record = next(records, None) if sizes[-1] < SHARD_BYTES else None

    # The names hold the number of files, which is known at the end.
    parts = []
    while (first := next(records, None)) is not None:
        lengths.append(0)
        sizes.append(0)
        parts.append(template.data_dir / f"{len(parts)}.part")
        writer.write(parts[-1], shard(first))
    for number, part in enumerate(parts):
        part.rename(template.sharded_filepath(shard_index=number, num_shards=len(parts)))
    return tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=sum(sizes), filename_template=template
    )
