"""Checks that each image file of an annotation file can be read and has the annotated size."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.readable import Part, read_part
from jaxmaskrcnn.utils.processes import Mapper, map_ahead

_AHEAD = 64  # images that are decoded ahead of those that are yielded
# Where only headers are read, which takes as long as handing out the work.
_TOGETHER, _PARTS_AHEAD = 64, 16


def readable_images(
    images: Sequence[AnnotatedImage],
    annotations: str | os.PathLike,
    folder: Path,
    problems: Problems,
    *,
    decode: bool = True,
    pixels: PixelConfig = DEFAULT_PIXELS,
    mapped: Mapper | None = None,
) -> Iterator[tuple[AnnotatedImage, bytes]]:
    """Yields the images that decode to the size given in the json, with their bytes.

    Args:
        images: The images to check.
        annotations: The json, for messages.
        folder: Folder that the images' file names are relative to.
        problems: Records the problems; raises the first one at once if it is set to stop.
        decode: Whether pixels are decoded. Otherwise only the files' headers are read, for the size, and
            no bytes are returned; a truncated file goes unnoticed.
        pixels: Which page of a file is read, and how its values become uint8.
        mapped: Does what `map` does in several processes, for headers; None reads them here.

    Yields:
        An image and its file's content, in the order of ``images``.

    Raises:
        UserError: A file cannot be used and ``problems`` is set to stop.
    """
    waiting: deque[Sequence[AnnotatedImage]] = deque()
    together = 1 if decode else _TOGETHER

    def parts() -> Iterator[Part]:
        for start in range(0, len(images), together):
            some = images[start : start + together]
            waiting.append(some)
            yield Part(
                [os.path.join(folder, image.file_name) for image in some],
                [image.id for image in some],
                [(image.height, image.width) for image in some],
                os.fspath(annotations),
                decode,
                pixels,
            )

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        if mapped is None or decode:
            found = map_ahead(pool, _AHEAD if decode else _PARTS_AHEAD, read_part, parts())
        else:
            found = mapped(read_part, parts())
        for contents in found:
            for number, (image, data) in enumerate(zip(waiting.popleft(), contents.data, strict=True)):
                fault = contents.faults.get(number)
                if fault is None:
                    yield image, data
                    continue
                problems.add(*fault, image_id=image.id)
                problems.stop_if_any()
