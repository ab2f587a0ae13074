"""COCO-format instance segmentation as a TFDS data set, without TensorFlow.

``prepare`` turns a json and its image folder into ArrayRecord files once and opens them again
afterwards. The directory is named after the content, so an edited json, a replaced image or
another setting never finds outdated records.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.crowd import check_learnable, count_classes, most_frequent
from jaxmaskrcnn.data.coco.image_files import readable_images
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.packing import freed
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.fields.table import RECORD_FORMAT
from jaxmaskrcnn.data.records.features import object_columns, record_features
from jaxmaskrcnn.data.records.fingerprint import content_hash
from jaxmaskrcnn.data.records.manifest import DamagedRecords
from jaxmaskrcnn.data.records.shards import write_shards
from jaxmaskrcnn.data.records.source import SPLIT, Source, quiet, write_index
from jaxmaskrcnn.data.stored import local_data
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import local_path
from jaxmaskrcnn.utils.files import check_image_folder, write_problem

log = logging.getLogger(__name__)

_VERSION = "1.0.0"


@dataclasses.dataclass(eq=False, kw_only=True)
class CocoConfig(tfds.core.BuilderConfig):
    """One annotation file with its images.

    Attributes:
        annotations: COCO-format json.
        images: Folder that the json's file names are relative to.
        on_error: "stop" at the first problem, or "skip" unusable images and annotations.
        masks: Whether every object needs a segmentation.
        reading: What crowd regions are, and whether all objects get one class.
        allow_empty: Whether a data set without any object is accepted.
        pixels: Which page of a file is read, and how its values become uint8.
    """

    annotations: str = ""
    images: str = ""
    on_error: str = "stop"
    masks: bool = True
    keypoints: bool = False
    reading: Reading = Reading()
    allow_empty: bool = False
    pixels: PixelConfig = DEFAULT_PIXELS


class _LocalInfo(tfds.core.DatasetInfo):
    """Does not look the data set up in TFDS' public bucket, which would leave a temporary folder behind."""

    def initialize_from_bucket(self) -> None:
        pass


class CocoInstances(tfds.core.GeneratorBasedBuilder):
    """TFDS builder for any COCO-format json and image folder.

    Image files are stored byte by byte; masks as compressed RLE, with the polygons they were made
    of as json text beside them. Labels run from 0 without holes, in ascending order of category id.

    Example:
        >>> config = CocoConfig(name="mine", annotations="train.json", images="train")
        >>> builder = CocoInstances(  # doctest: +SKIP
        ...     config=config, data_dir="cache", file_format="array_record"
        ... )
        >>> builder.download_and_prepare()  # doctest: +SKIP
        >>> decoders = {"image": tfds.decode.SkipDecoding()}
        >>> source = builder.as_data_source("data", decoders=decoders)  # doctest: +SKIP
    """

    VERSION = tfds.core.Version(_VERSION)
    BUILDER_CONFIGS: list = []
    # TFDS would find this path through a package that it needs and does not declare.
    code_path = tfds.core.Path(__file__)

    def __init__(self, **kwargs):
        self._parsed = None
        super().__init__(**kwargs)

    @property
    def _config(self) -> CocoConfig:
        assert isinstance(self.builder_config, CocoConfig)
        return self.builder_config

    def parse(self):
        """The checked annotations; read once, and only when records are written."""
        if self._parsed is None:
            config = self._config
            path, images_dir = Path(config.annotations), Path(config.images)
            problems = Problems(config.on_error)
            content = load_json(path)
            annotations = parse_annotations(
                content, path, images_dir, problems, masks=config.masks, keypoints=config.keypoints,
                reading=config.reading, consume=freed,
            )  # fmt: skip
            if annotations.images and not config.allow_empty:
                counts = count_classes(annotations.categories, annotations.images)
                check_learnable(
                    counts, annotations.images, os.fspath(path), annotations.left_out, masks=config.masks
                )
            self._parsed = annotations, problems
        return self._parsed

    def _info(self) -> tfds.core.DatasetInfo:
        annotations, _ = self.parse()
        return _LocalInfo(
            builder=self,
            description="Instance segmentation in COCO format.",
            # Keys would be hashed and the records shuffled; in the order of image ids they stay
            # aligned with the arrays written beside them.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                category_ids=[category.id for category in annotations.categories],
                category_names=[category.name for category in annotations.categories],
            ),
            features=record_features(),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {SPLIT: self._generate_examples()}

    def _generate_splits(self, dl_manager, download_config):
        """Takes the place of TFDS' own method, which needs TensorFlow for more than a gigabyte."""
        del dl_manager, download_config
        template, features = self._get_filename_template(split_name=SPLIT), self.info.features
        assert features is not None
        return [write_shards(self._generate_examples(), SPLIT, features, template, self._example_writer())]

    def _generate_examples(self):
        annotations, problems = self.parse()
        self.written: list[AnnotatedImage] = []
        config = self._config
        images = annotations.images
        for image, data in readable_images(
            images, config.annotations, Path(config.images), problems, pixels=config.pixels
        ):
            self.written.append(image)
            yield (
                image.id,
                {
                    "image": data,
                    "image/id": image.id,
                    "image/filename": image.file_name,
                    "image/height": image.height,
                    "image/width": image.width,
                    "objects": object_columns([*image.objects, *image.ignored]),
                },
            )
        problems.tell_rest()
        left_out = {**annotations.left_out, **problems.skipped}
        if not self.written:
            why = f" ({most_frequent(left_out)})" if left_out else ""
            raise UserError(
                f"{config.annotations} leaves no usable image{why}; correct the file or the "
                f"image folder ({config.images})."
            )
        if not config.allow_empty:
            counts = count_classes(annotations.categories, self.written)
            check_learnable(counts, self.written, config.annotations, left_out, masks=config.masks)


def prepare(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    cache_dir: str | os.PathLike,
    on_error: str = "stop",
    *,
    masks: bool = True,
    keypoints: bool = False,
    reading: Reading | None = None,
    allow_empty: bool = False,
    pixels: PixelConfig = DEFAULT_PIXELS,
) -> Source:
    """Opens a COCO-format data set, writing its records first when they are not there yet.

    The records' directory carries a hash of the json's bytes, of the name, size and modification
    time of every image it refers to, of the settings and of the format. Records are built in a
    temporary directory that is renamed when complete, so an interrupted build leaves nothing that
    could be taken for whole, and a second process that prepares the same data waits for the first. Records
    that are damaged are made anew.

    Args:
        annotations: COCO-format json, also in a store (``gs://``, ``s3://``), from which it is copied.
        images: Folder that the json's file names are relative to; of one in a store, the files that the
            json names are copied.
        cache_dir: Where records are kept; created when missing.
        on_error: "stop" raises at a problem; "skip" logs it, counts it in ``Source.skipped`` and
            leaves the annotation or image out.
        masks: Whether every object needs a segmentation; False for boxes only.
        keypoints: Whether keypoints are read, which not every object needs.
        reading: What crowd regions are, and whether all objects get one class (``data.crowd`` and
            ``data.class_name``).
        allow_empty: Whether a data set without any object is accepted, of which nothing can be learned.
        pixels: Which page of a file is read, and how its values become uint8 (``config.input.pixels`` of
            the model): images that cannot be read so are a problem.

    Returns:
        The data set, by index. What was read although it is not written as COCO writes it, and classes
        that are mostly crowd regions, are logged as warnings each time.

    Raises:
        UserError: The json or an image has a problem and ``on_error`` is "stop", or nothing
            usable remains, or no object.

    Example:
        >>> from jaxmaskrcnn.data import write_shapes
        >>> source = prepare(*write_shapes("data", 10, 64, seed=0), "cache")
        >>> len(source), source.categories[0].name
        (10, 'circle')
    """
    cache_dir = local_path(cache_dir, "the folder of the prepared records")
    Problems(on_error)  # a wrong setting is reported before anything is read
    reading = (reading or Reading()).check()
    path, folder = local_data(annotations, images)
    check_image_folder(folder)
    root = cache_dir / "coco_instances"
    root.mkdir(parents=True, exist_ok=True)
    settings = [
        RECORD_FORMAT,
        on_error,
        masks,
        keypoints,
        *reading,
        allow_empty,
        *dataclasses.astuple(pixels),
    ]
    name = f"{path.stem}-{content_hash(path, folder, root, settings)}"
    final = root / name / _VERSION
    with contextlib.suppress(DamagedRecords):  # made below, under the lock
        return _told(Source(final))
    with _lock(root / f".{name}.lock"):
        if (source := _intact(final)) is None:
            shutil.rmtree(root / name, ignore_errors=True)
            config = CocoConfig(
                name=name,
                annotations=os.fspath(path),
                images=os.fspath(folder),
                on_error=on_error,
                masks=masks,
                keypoints=keypoints,
                reading=reading,
                allow_empty=allow_empty,
                pixels=pixels,
            )
            _build(config, root, lambda: content_hash(path, folder, root, settings))
            source = Source(final)
    return _told(source)


def _intact(directory: Path) -> Source | None:
    """The records in a directory, or None where they have to be made."""
    if not directory.is_dir():
        return None
    try:
        return Source(directory)
    except DamagedRecords as error:
        log.warning("%s They are made anew.", error)
        return None


def _told(source: Source) -> Source:
    """Logs what has to be known about a data set before it is used."""
    for sentence in source.statements():
        log.warning("%s.", sentence)
    return source


def _build(config: CocoConfig, root: Path, hashed: Callable[[], str]) -> None:
    """Makes the records, whose name holds a hash of the data, which ``hashed`` computes once more."""
    start = time.monotonic()
    temporary = Path(tempfile.mkdtemp(prefix=f".{config.name}.building-", dir=root))
    try:
        # TFDS prints the temporary path as if it were the final one.
        with quiet(), contextlib.redirect_stdout(None):
            builder = CocoInstances(config=config, data_dir=temporary, file_format="array_record")
            builder.download_and_prepare()
        annotations, problems = builder.parse()
        built = temporary / "coco_instances" / config.name
        write_index(
            built / _VERSION,
            builder.written,
            annotations.categories,
            dict(problems.skipped),
            annotations=config.annotations,
            images_dir=config.images,
            has_masks=config.masks,
            reading=config.reading,
            notes=annotations.notes,
            skeleton=annotations.skeleton,
        )
        if not config.name.endswith(hashed()):
            raise UserError(
                f"{config.annotations} or an image in {config.images} has changed while it was read; run the "
                "command again when nothing writes to them."
            )
        try:
            built.rename(root / config.name)
        except OSError:
            # Where locks have no effect (some network file systems), another host may have been first.
            if not (root / config.name / _VERSION).is_dir():
                raise
    except Exception as error:  # ArrayRecord raises RuntimeError
        if isinstance(error, UserError) or (problem := write_problem(error)) is None:
            raise
        raise UserError(
            f"The prepared records cannot be written to {root} ({problem}); make room there, or give another "
            "folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info(
        "prepared %d images with %d annotations of %s in %.1f s%s",
        len(builder.written),
        sum(len(image.objects) for image in builder.written),
        config.annotations,
        time.monotonic() - start,
        "".join(f"; left out, {reason}: {count}" for reason, count in problems.skipped.items()),
    )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
