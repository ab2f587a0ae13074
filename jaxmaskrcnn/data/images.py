"""Decoding of image files into uint8 RGB.

Shape legend: H, W height and width of the decoded image.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxmaskrcnn.errors import UserError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .ppm .pgm .pbm .jp2 .tga".split()
)
_ORIENTATION_TAG = 0x0112
# The transposition that turns an image with this EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_AXES = (5, 6, 7, 8)
_TRANSPOSING = tuple(_UPRIGHT[orientation] for orientation in _SWAPS_AXES)


class ImageSizeError(UserError):
    """The image does not have the size that its annotations were made for."""


def decode_image(
    source,
    *,
    size: tuple[int, int] | None = None,
    name: str | None = None,
    at_least: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decodes any image Pillow reads into uint8 RGB.

    Greyscale and palette images become RGB, CMYK is converted, an alpha channel is dropped, and
    16-bit greyscale is scaled from 0..65535 to 0..255 (Pillow's own conversion clips at 255).

    The EXIF orientation is applied, as Detectron2 and OpenCV do, with one exception: annotations
    may have been drawn on the image as it is stored. When ``size`` (from the annotation file)
    equals the stored size and not the upright one, the image is left as stored. Where both sizes
    are the same (square images, mirrored or upside-down ones) the orientation is applied.

    Args:
        source: Encoded bytes, the path of a file, or a ``PIL.Image.Image``.
        size: ``(height, width)`` in pixels that the image must have; None accepts any.
        name: What to call the image in an error message; the path where there is one.
        at_least: ``(height, width)`` that suffices. A JPEG file is then decoded at 1/8, 1/4 or 1/2 of its
            size where the result is still at least this large, in a fraction of the time. Its pixels are
            then averages, so an image resized from them differs a little.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: The file is missing or cannot be decoded.
        ImageSizeError: Neither the upright nor the stored image has the given size.

    Example:
        >>> decode_image("photo.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    name = _name(source, name)
    with _Reading(name):
        image = _open(source)
        turn = _turn(image, size, name)
        if at_least is not None:
            height, width = at_least[::-1] if turn in _TRANSPOSING else at_least
            image.draft(image.mode, (width, height))
        image.load()
        pixels = _to_rgb(image if turn is None else image.transpose(turn), name)
    return pixels


def check_image(source: bytes, size: tuple[int, int], *, name: str) -> None:
    """Checks that an image can be decoded and has the size that its annotations expect.

    Args:
        source: Encoded bytes.
        size: ``(height, width)`` in pixels from the annotation file.
        name: What to call the image in an error message.

    Raises:
        UserError: The bytes are truncated or are not an image.
        ImageSizeError: Neither the upright nor the stored image has the given size.
    """
    with _Reading(name):
        image = _open(source)
        _turn(image, size, name)
        _reject_mode(image, name)
        # A JPEG's whole stream is still read, for a fraction of the arithmetic.
        image.draft(image.mode, (1, 1))
        image.load()


def check_header(source: str | os.PathLike, size: tuple[int, int], *, name: str) -> None:
    """Checks that an image file has the size that its annotations expect; decodes no pixels.

    Args:
        source: Path of the file.
        size: ``(height, width)`` in pixels from the annotation file.
        name: What to call the image in an error message.

    Raises:
        UserError: The file is missing or is not an image.
        ImageSizeError: Neither the upright nor the stored image has the given size.
    """
    with _Reading(name), Image.open(source) as image:
        _turn(image, size, name)
        _reject_mode(image, name)


def upright_size(source: str | os.PathLike) -> tuple[int, int]:
    """The size of an image as `decode_image` returns it when no size is given.

    Args:
        source: Path of the file.

    Returns:
        Height and width in pixels, the EXIF orientation applied.

    Raises:
        UserError: The file is missing or is not an image.
    """
    with _Reading(_name(source, None)), Image.open(source) as image:
        stored = (image.height, image.width)
        return stored[::-1] if _orientation(image) in _SWAPS_AXES else stored


class _Reading:
    """Turns whatever Pillow raises into one sentence that names the file."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        if error is None or isinstance(error, UserError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{self.name} does not exist; check the path of the image.") from error
        if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
            raise UserError(
                f"{self.name} has more pixels than Pillow opens; cut it into tiles, or raise "
                "PIL.Image.MAX_IMAGE_PIXELS."
            ) from error
        # Pillow's own message names an object in memory, not the file.
        unknown = isinstance(error, UnidentifiedImageError)
        found = "no known image format" if unknown else f"{type(error).__name__}: {error}"
        raise UserError(f"{self.name} cannot be decoded ({found}); replace or remove the file.") from error


def _name(source, name: str | None) -> str:
    if name is not None:
        return name
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return "the image"


def _open(source) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Image.open(io.BytesIO(source))
    if isinstance(source, (str, os.PathLike)):
        return Image.open(io.BytesIO(Path(source).read_bytes()))
    raise UserError(f"an image is bytes, a path or a PIL image, not {type(source).__name__}.")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the pixels may be intact even though the EXIF block is damaged
        return 1


def _turn(image: Image.Image, size: tuple[int, int] | None, name: str) -> Image.Transpose | None:
    """The transposition to apply; the rule is in ``decode_image``'s docstring."""
    orientation = _orientation(image)
    stored = (image.height, image.width)
    upright = stored[::-1] if orientation in _SWAPS_AXES else stored
    if size is None or tuple(size) == upright:
        return _UPRIGHT.get(orientation)
    if tuple(size) == stored:
        return None
    raise ImageSizeError(
        f"{name} is {upright[1]} x {upright[0]} pixels (width x height) but its annotations are for "
        f"{size[1]} x {size[0]}; give the image they were made on, or correct the size in the json."
    )


def _reject_mode(image: Image.Image, name: str) -> None:
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point pixels; save it with 8 or 16 bits per channel.")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    _reject_mode(image, name)
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise UserError(f"{name} has pixel values beyond 16 bits; save it with 8 or 16 bits per channel.")
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "P" and "transparency" in image.info:
        # Straight to RGB, Pillow warns about the transparency it drops.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
