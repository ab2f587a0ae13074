"""Checks that each image file of an annotation file can be read and has the annotated size."""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.images import ImageSizeError, check_header, check_image
from jaxmaskrcnn.errors import UserError

_CHUNK = 64  # images that are checked at a time, ahead of those that are yielded
_TOGETHER = 16  # of them by one thread where only headers are read, which takes as long as handing them over


def readable_images(
    images: Sequence[AnnotatedImage],
    annotations: str | os.PathLike,
    folder: Path,
    problems: Problems,
    *,
    decode: bool = True,
    pixels: PixelConfig = DEFAULT_PIXELS,
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

    Yields:
        An image and its file's content, in the order of ``images``.

    Raises:
        UserError: A file cannot be used and ``problems`` is set to stop.
    """

    def read(image: AnnotatedImage):
        path = folder / image.file_name
        name = f"{annotations}: image {image.id} ({path})"
        size = image.height, image.width
        try:
            if decode:
                data = path.read_bytes()
                check_image(data, size, name=name, pixels=pixels)
            else:
                data = b""
                check_header(path, size, name=name, pixels=pixels)
        except OSError as error:
            return image, b"", UserError(f"{name} cannot be read ({error.strerror}); restore the file.")
        except UserError as error:
            return image, b"", error
        return image, data, None

    def read_all(part: Sequence[AnnotatedImage]):
        return list(map(read, part))

    together = 1 if decode else _TOGETHER
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            parts = [chunk[i : i + together] for i in range(0, len(chunk), together)]
            for image, data, error in itertools.chain.from_iterable(pool.map(read_all, parts)):
                if error is None:
                    yield image, data
                    continue
                reason = "image size" if isinstance(error, ImageSizeError) else "corrupt image"
                problems.add(reason, str(error).rstrip("."), image_id=image.id)
                problems.stop_if_any()
