"""Makes the records of a COCO-format data set once, and opens them again afterwards.

The directory of the records is named after the content, so an edited json, a replaced image or another
setting never finds outdated records.
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

from jaxmaskrcnn.config import DEFAULT_PIXELS, ExtraConfig, PixelConfig
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.fields.table import RECORD_FORMAT
from jaxmaskrcnn.data.records.coco_instances import VERSION, CocoConfig, CocoInstances
from jaxmaskrcnn.data.records.fingerprint import content_hash
from jaxmaskrcnn.data.records.manifest import DamagedRecords
from jaxmaskrcnn.data.records.source import Source, quiet, write_index
from jaxmaskrcnn.data.stored import local_data
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import local_path
from jaxmaskrcnn.utils.files import check_image_folder, write_problem

log = logging.getLogger(__name__)


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
    extra: tuple[ExtraConfig, ...] = (),
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
        reading: What crowd regions are, whether all objects get one class, and where stuff is kept apart
            (``data.crowd``, ``data.class_name`` and ``data.train_stuff``).
        allow_empty: Whether a data set without any object is accepted, of which nothing can be learned.
        pixels: Which page of a file is read, and how its values become uint8 (``config.input.pixels`` of
            the model): images that cannot be read so are a problem.
        extra: Extra ground truth that is read of the json (``config.extra`` of the model). A value that is
            missing or wrong is refused, whatever ``on_error`` is.

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
    stuff = Path(reading.stuff).absolute() if reading.stuff else None
    reading = reading._replace(stuff=os.fspath(stuff or ""))
    settings = [RECORD_FORMAT, on_error, masks, keypoints, *reading, allow_empty]
    settings += dataclasses.astuple(pixels)
    if extra:  # the hashes of other data stay as they are
        settings += map(dataclasses.astuple, extra)
    name = f"{path.stem}-{content_hash(path, folder, root, settings, stuff)}"
    final = root / name / VERSION
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
                extra=extra,
            )
            _build(config, root, lambda: content_hash(path, folder, root, settings, stuff))
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
            built / VERSION,
            builder.written,
            annotations.categories,
            dict(problems.skipped),
            annotations=config.annotations,
            images_dir=config.images,
            has_masks=config.masks,
            reading=config.reading,
            notes=annotations.notes,
            skeleton=annotations.skeleton,
            stuff=None if annotations.panoptic is None else annotations.panoptic.stuff,
            extra=config.extra,
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
            if not (root / config.name / VERSION).is_dir():
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
