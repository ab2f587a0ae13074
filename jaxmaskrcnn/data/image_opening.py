"""Opening of image files: from bytes, a path or a PIL image, with one sentence where that fails."""

import contextlib
import dataclasses
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data import intensity
from jaxmaskrcnn.data.image_kinds import heic_reader, is_heic, why_not_read
from jaxmaskrcnn.data.image_pages import select_page
from jaxmaskrcnn.errors import UserError

_limit = threading.Lock()  # Pillow's limit is one for all threads
_PILLOWS_LIMIT = 178_956_970  # pixels; beyond, Pillow refuses to open a file unless its limit is changed
_ADVICE = (
    "if you trust it, give --max_pixels (model.input.pixels.max_pixels), and opening it takes about 8 bytes "
    "of memory a pixel; predict --tile reads TIFF files in pieces with the extra 'large' (pip install "
    "'jaxmaskrcnn[large]')"
)
_WEBP_SIDE = 16383  # pixels, by the format's definition


class Reading:
    """Turns whatever Pillow raises into one sentence that names the file.

    Args:
        name: Of the file, for the sentence.
        source: The file's path, its bytes, or a PIL image.

    Raises:
        UserError: On leaving the block, if an exception was raised in it.
    """

    def __init__(self, name: str, source):
        self.name, self.source = name, source

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        if error is None or isinstance(error, UserError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{self.name} does not exist; check the path of the image.") from error
        if isinstance(error, IsADirectoryError):
            raise UserError(f"{self.name} is a folder; give an image file, or a list of files.") from error
        if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
            raise UserError(
                f"{self.name} has more pixels than Pillow opens ({_PILLOWS_LIMIT:,}); {_ADVICE}."
            ) from error
        # Pillow's own message names an object in memory, not the file.
        if isinstance(error, UnidentifiedImageError) and not isinstance(self.source, Image.Image):
            raise UserError(f"{self.name} cannot be decoded: it {why_not_read(self.source)}.") from error
        found = f"{type(error).__name__}: {error}"
        raise UserError(f"{self.name} cannot be decoded ({found}); replace or remove the file.") from error


def display_name(source, name: str | None) -> str:
    """What to call a file: the name given, else its path, else "the image"."""
    if name is not None:
        return name
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return "the image"


def open_image(source, pixels: PixelConfig, name: str) -> tuple[Image.Image, Image.Image | None]:
    """A file opened at its page, and once more where it has colours of 16 bits.

    Args:
        source: Encoded bytes, the path of a file, or a PIL image.
        pixels: Gives the page.
        name: What to call the file in an error message.

    Returns:
        The opened image, and a second one of which nothing is decoded, or None.

    Raises:
        UserError: It is no file, or it does not say which of its pages is the picture.
    """
    if isinstance(source, Image.Image):
        data = undecoded(source)
        if data is None:
            return source, None
        # From a path, Pillow maps a TIFF file into memory and turns it wrongly.
        source, pixels = data, dataclasses.replace(pixels, page=source.tell())
    if isinstance(source, (str, os.PathLike)):
        source = Path(source).read_bytes()
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise UserError(f"an image is bytes, a path or a PIL image, not {type(source).__name__}.")

    def opened() -> Image.Image:
        with _at_most(pixels.max_pixels):
            image = _open_bytes(source)
        _check_size(image, pixels.max_pixels, name)
        _check_webp(image, name)
        select_page(image, pixels.page, name)
        intensity.check_tiff(image, name)
        intensity.mend_tiles(image)
        return image

    image = opened()
    return image, opened() if intensity.has_wide_colours(image) else None


def _check_webp(image: Image.Image, name: str) -> None:
    """Refuses a damaged header, which for an animation can promise millions of pixels a side."""
    if image.format == "WEBP" and max(image.size) > _WEBP_SIDE:
        raise UserError(
            f"{name} is damaged: it says that it has {image.width} x {image.height} pixels, and WebP "
            f"pictures have at most {_WEBP_SIDE} a side; replace the file."
        )


def undecoded(image: Image.Image) -> bytes | None:
    """The file of a PIL image that is read better from its bytes, where it is still open; or None."""
    file = getattr(image, "fp", None)
    better = isinstance(image, TiffImagePlugin.TiffImageFile) or intensity.has_wide_colours(image)
    if not better or not getattr(image, "tile", None) or file is None:
        return None
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return data


def _open_bytes(data) -> Image.Image:
    return _identified(lambda: Image.open(io.BytesIO(data)), bytes(data[:12]))


@contextlib.contextmanager
def _at_most(pixels: int) -> Iterator[None]:
    """Lifts Pillow's limit while a file is opened, where there is another one.

    Args:
        pixels: The other limit, which the caller compares with the size; 0 leaves Pillow's.
    """
    if not pixels:
        yield
        return
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_size(image: Image.Image, most: int, name: str) -> None:
    if most and image.width * image.height > most:
        raise UserError(
            f"{name} has {image.width} x {image.height} pixels, and max_pixels is {most}; {_ADVICE}."
        )


def open_header(path: str | os.PathLike, most: int = 0) -> Image.Image:
    """A file opened for its size alone, to be closed by the caller.

    Args:
        path: The file.
        most: Limit of its pixels; 0 is Pillow's.

    Raises:
        UserError: It has more pixels than ``most``.
    """
    with _at_most(most):
        image = _identified(lambda: Image.open(path), path)
    try:
        _check_size(image, most, os.fspath(path))
    except UserError:
        image.close()
        raise
    return image


def _identified(opened: Callable[[], Image.Image], source: bytes | str | os.PathLike) -> Image.Image:
    """An opened file, or an error for formats that Pillow does not read; ``source`` gives the first bytes."""
    try:
        image = opened()
    except UnidentifiedImageError:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read(12)
        if not is_heic(source) or heic_reader() is not None:
            raise
        image = opened()  # with the reader that has just been found
    if isinstance(image, ImageFile.StubImageFile):  # known by name, and read by other programs alone
        image.close()
        raise UnidentifiedImageError
    return image
