"""Random access to prepared records.

Shape legend: N images of the data set, G objects of an image, H, W its height and width.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.crowd import ClassCount, count_classes, crowd_statements
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.fields.table import COLUMNS, FIELDS
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.records.features import read_record, record_features
from jaxmaskrcnn.data.records.manifest import damaged_record, read_manifest, write_manifest
from jaxmaskrcnn.data.rle import decode_masks
from jaxmaskrcnn.structures import Category, Skeleton

SPLIT = "data"
_opening = threading.Lock()  # the worker thread that comes first opens TFDS
_ARRAYS, _DESCRIPTION = "index.npz", "source.json"


class Example(NamedTuple):
    """One record.

    Attributes:
        index: Position in the source.
        image: The image file's bytes.
        image_id: Id in the annotation file.
        file_name: Name in the annotation file.
        size: ``(height, width)`` in pixels that the annotations refer to.
        labels: int32 [G], 0 to the number of categories - 1.
        crowd: bool [G].
        areas: float32 [G], square pixels.
        annotation_ids: int64 [G].
        columns: The record's columns of the objects, from which `data/fields` reads their boxes, masks,
            polygons and keypoints.
        semantic: The labels of its pixels as the PNG that `SemanticMap.decode` reads; empty without any.
        extra: Extra ground truth as the text that `Extra.decode` reads; empty without any.
    """

    index: int
    image: bytes
    image_id: int
    file_name: str
    size: tuple[int, int]
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray
    columns: Mapping[str, Any]
    semantic: bytes = b""
    extra: bytes = b""

    @property
    def boxes(self) -> np.ndarray:
        """float32 [G, 4], XYXY in pixels."""
        return np.asarray(self.columns["bbox"], np.float32).reshape(-1, 4)

    @property
    def rles(self) -> tuple[bytes, ...]:
        """G compressed COCO RLE counts over the whole image; empty bytes where there is no mask."""
        return tuple(self.columns["rle"])

    @property
    def polygons(self) -> tuple[str, ...]:
        """G json texts of the original polygons; empty where the mask came as RLE."""
        return tuple(text.decode() for text in self.columns["polygons"])

    def pixels(self, config: PixelConfig = DEFAULT_PIXELS) -> np.ndarray:
        """The decoded image, uint8 RGB [H, W, 3].

        Args:
            config: Which page of a file is read, and how its values become uint8.
        """
        name = f"image {self.image_id} ({self.file_name})"
        return decode_image(self.image, size=self.size, name=name, pixels=config)

    def masks(self) -> np.ndarray:
        """The decoded masks, bool [G, H, W]."""
        return decode_masks(self.rles, *self.size)


class Source:
    """A prepared data set, by index; made by ``prepare``.

    Cheap to open and to send to worker processes: record files are opened by the first access in
    each process.

    Attributes:
        directory: Where the records are.
        annotations: Path of the json they were made from.
        images: Path of its image folder.
        categories: In ascending order of id; a label is an index into it.
        image_ids: int64 [N], ascending.
        file_names: N names.
        sizes: int32 [N, 2], height and width in pixels.
        object_counts: int32 [N], objects without crowd regions.
        crowd_counts: int32 [N], crowd regions, and regions of objects that were left out.
        counts: Figures of the objects' fields by name, int32 [N] each: "vertex_counts", the most vertices
            that an object's closed polygons have, and "bitmap_counts", the number of objects that have no
            polygons, and "keypoint_counts", the number of annotated keypoints. None counts crowd regions.
        image_labels: int32 [P, 2], the distinct pairs of a position and a label that occurs there,
            crowd regions included.
        learned_labels: int32 [P, 2], the same without crowd regions.
        skipped: Number of images and annotations left out, by reason.
        has_masks: Whether every object has a mask.
        reading: What crowd regions are, and whether all objects got one class.
        notes: What was read although it is not written as COCO writes it: sentences without a full stop.
        skeleton: The keypoints that objects have, or None.
        stuff: Categories of stuff, in the order of the labels of pixels, which the records have then; None if
            the json has no segments.
        extra: Extra ground truth that the records have: name, what has it, and shape of each.
        class_counts: Number of objects and of crowd regions of each category, without what was left out.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        self._files = read_manifest(self.directory)
        description = json.loads((self.directory / _DESCRIPTION).read_text())
        self.annotations: str = description["annotations"]
        self.images: str = description["images"]
        self.has_masks: bool = description["has_masks"]
        self.skipped: dict[str, int] = description["skipped"]
        reading = Reading(**description["reading"])  # json has lists in the place of tuples
        self.reading = reading._replace(stuff_names=tuple(reading.stuff_names))
        self.notes: tuple[str, ...] = tuple(description["notes"])
        self.file_names: tuple[str, ...] = tuple(description["file_names"])
        self.categories = tuple(Category(*entry) for entry in description["categories"])
        skeleton = description["skeleton"]
        self.skeleton = skeleton and Skeleton(tuple(skeleton[0]), tuple(map(tuple, skeleton[1])))
        stuff = description.get("stuff")  # earlier versions did not write it
        self.stuff = None if stuff is None else tuple(Category(*entry) for entry in stuff)
        self.extra = tuple((name, of, tuple(shape)) for name, of, shape in description.get("extra", ()))
        self.class_counts = [
            ClassCount(category, *counts)
            for category, counts in zip(self.categories, description["class_counts"], strict=True)
        ]
        with np.load(self.directory / _ARRAYS) as arrays:
            self.image_ids = arrays["image_ids"]
            self.sizes = arrays["sizes"]
            self.object_counts = arrays["object_counts"]
            self.crowd_counts = arrays["crowd_counts"]
            self.counts = {name: arrays[name] for field in FIELDS for name in field.COUNTS}
            self.image_labels = arrays["image_labels"]
            self.learned_labels = arrays["learned_labels"]
        self._opened = None

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        return f"Source({len(self)} images of {self.annotations})"

    def statements(self) -> list[str]:
        """What has to be known before the data are used: sentences without a full stop.

        Classes that are mostly crowd regions come first, then what was read in another spelling.
        """
        return [f"{self.annotations}: {text}" for text in crowd_statements(self.class_counts)] + list(
            self.notes
        )

    def largest_counts(self) -> dict[str, int]:
        """The largest value of each figure in ``counts``; 0 for an empty data set."""
        return {name: int(values.max(initial=0)) for name, values in self.counts.items()}

    def __getitem__(self, index: int) -> Example:
        """Reads one record.

        Args:
            index: 0 to ``len(self) - 1``.

        Raises:
            IndexError: There is no such record.
            UserError: It is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        record = self._read(int(index))
        objects = record["objects"]
        return Example(
            index=int(index),
            image=record["image"],
            image_id=int(record["image/id"]),
            file_name=self.file_names[index],
            size=(int(record["image/height"]), int(record["image/width"])),
            labels=np.asarray(objects["label"], np.int32).reshape(-1),
            crowd=np.asarray(objects["is_crowd"], bool).reshape(-1),
            areas=np.asarray(objects["area"], np.float32).reshape(-1),
            annotation_ids=np.asarray(objects["id"], np.int64).reshape(-1),
            columns={name: objects[name] for name in ("is_crowd", *COLUMNS)},
            semantic=record.get("semantic", b""),
            extra=record.get("extra", b""),
        )

    def _read(self, index: int) -> dict[str, Any]:
        """The record as its features have it."""
        try:
            records, features = self._open()
            record = read_record(features, records[index])
            if record["image/id"] != self.image_ids[index]:
                raise ValueError(f"it is that of image {record['image/id']}")
        # ArrayRecord and TFDS raise many types of exceptions for damaged files.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
            raise damaged_record(self.directory, index, reason) from error
        return record

    def _open(self) -> tuple[ArrayRecordDataSource, tfds.features.FeaturesDict]:
        """The serialized records and what they hold."""
        if self._opened is None:
            with _opening, quiet():
                if self._opened is None:
                    records = ArrayRecordDataSource(self._files)
                    # A file of which only a part can be used has fewer records; to ask for another one would
                    # end the process.
                    if len(records) != len(self):
                        raise ValueError(f"the files hold {len(records)} records in place of {len(self)}")
                    # Not as the folder describes them, which would name Python modules to import.
                    self._opened = records, record_features(self.stuff is not None, bool(self.extra))
        return self._opened


def write_index(
    directory: Path, images, categories, skipped, *, annotations, images_dir, has_masks, reading, notes,
    skeleton=None, stuff=None, extra=(),
) -> None:  # fmt: skip
    """Writes the index and the manifest that ``Source`` needs beside the records.

    Args:
        directory: The records' directory.
        images: The written images, in the order of the records.
        categories: All categories.
        skipped: Number of images and annotations left out, by reason.
        annotations: Path of the json.
        images_dir: Path of the image folder.
        has_masks: Whether every object has a mask.
        reading: What crowd regions are, and whether all objects got one class.
        notes: Sentences about what was read in another spelling.
        skeleton: The keypoints that objects have, or None.
        stuff: Categories of stuff, or None.
        extra: Extra ground truth that the records have.
    """
    crowds = [sum(item.crowd for item in image.objects) + len(image.ignored) for image in images]
    totals = [len(image.objects) + len(image.ignored) for image in images]
    counts = [
        {name: count for field in FIELDS for name, count in field.count(image.objects).items()}
        for image in images
    ]
    pairs = {(i, item.label, item.crowd) for i, image in enumerate(images) for item in image.objects}
    arrays: dict[str, Any] = dict(
        image_ids=np.asarray([image.id for image in images], np.int64),
        sizes=np.asarray([(image.height, image.width) for image in images], np.int32).reshape(-1, 2),
        object_counts=np.asarray(totals, np.int32) - np.asarray(crowds, np.int32),
        crowd_counts=np.asarray(crowds, np.int32),
        **{name: np.asarray([count[name] for count in counts], np.int32) for name in counts[0]},
        image_labels=np.asarray(sorted({pair[:2] for pair in pairs}), np.int32).reshape(-1, 2),
        learned_labels=np.asarray(sorted({(i, k) for i, k, crowd in pairs if not crowd}), np.int32).reshape(
            -1, 2
        ),
    )
    np.savez(directory / _ARRAYS, **arrays)
    description = {
        "annotations": os.path.abspath(annotations),
        "images": os.path.abspath(images_dir),
        "has_masks": has_masks,
        "categories": [list(category) for category in categories],
        "class_counts": [[c.objects, c.crowds] for c in count_classes(categories, images)],
        "reading": reading._asdict(),
        "notes": list(notes),
        "skeleton": skeleton,
        "stuff": stuff and [list(category) for category in stuff],
        **({"extra": [[x.name, x.of, x.shape] for x in extra]} if extra else {}),
        "skipped": skipped,
        "file_names": [image.file_name for image in images],
    }
    (directory / _DESCRIPTION).write_text(json.dumps(description))
    records = sorted(directory.glob("*.array_record*"))
    write_manifest(directory, [directory / _ARRAYS, directory / _DESCRIPTION], records)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS' own progress bars and log lines. Not thread-safe."""
    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
