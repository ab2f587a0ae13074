"""Decoding of image files into uint8, RGB or another number of channels.

Shape legend: H, W height and width of the decoded image, C its channels.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data import intensity
from jaxmaskrcnn.data.image_opening import Reading, display_name, open_header, open_image, undecoded
from jaxmaskrcnn.data.image_pages import count_pages, select_page
from jaxmaskrcnn.data.jpeg_header import plain_jpeg_size
from jaxmaskrcnn.errors import UserError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .avif .heic .heif .ppm .pgm .pbm .jp2 .tga".split()
)
_ORIENTATION_TAG = 0x0112
_COPIED = 2**24  # pixels that are copied at a time from a large picture
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
# Each undone by itself, but for the quarter turns.
_AS_STORED = _UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_SWAPS_AXES = (5, 6, 7, 8)
# Pillow's channels of pictures whose last one is not a colour.
_WITH_ANOTHER = {2: ("L", "A"), 4: ("R", "G", "B", "A")}


class ImageSizeError(UserError):
    """The image does not have the size that its annotations were made for."""


def decode_image(
    source,
    *,
    size: tuple[int, int] | None = None,
    name: str | None = None,
    at_least: tuple[int, int] | None = None,
    pixels: PixelConfig = DEFAULT_PIXELS,
) -> np.ndarray:
    """Decodes any image Pillow reads into uint8 RGB, or into the channels that ``pixels`` asks for.

    Greyscale and palette images become RGB, CMYK is converted, an alpha channel is dropped. For one channel
    the RGB becomes grey by Pillow's weights (ITU-R 601-2), which leaves grey values as they are. For two and
    four, the file has to have grey or RGB with an alpha channel, which is taken as it is, whatever it means.
    With ``pixels.pages`` "channels", each page of a TIFF, which has to be grey, is a channel.

    Values of more than 8 bits (16 bits, floats) become 0 to 255 as ``pixels.intensity`` says: "dtype" scales
    0..65535, so that 12 bits in 16 are nearly black; "percentile" scales from the 0.1th to the 99.9th
    percentile of each picture, all channels together, but each page that is a channel by itself; "range"
    scales from ``pixels.intensity_range``. Pictures of 8 bits are the same with all of them, and so are
    colours of more bits in other formats than PNG and TIFF.

    The EXIF orientation is applied, as Detectron2 and OpenCV do, with one exception: annotations
    may have been drawn on the image as it is stored. When ``size`` (from the annotation file)
    equals the stored size and not the upright one, the image is left as stored. Where both sizes
    are the same (square images, mirrored or upside-down ones) the orientation is applied.

    A TIFF of several pages is refused unless ``pixels.page`` says which of them is the picture; of an
    animation it is the first. A ``PIL.Image.Image`` is taken at the page that it stands at.

    Args:
        source: Encoded bytes, the path of a file, or a ``PIL.Image.Image``.
        size: ``(height, width)`` in pixels that the image must have; None accepts any.
        name: What to call the image in an error message; the path where there is one.
        at_least: ``(height, width)`` that suffices. A JPEG file is then decoded at 1/8, 1/4 or 1/2 of its
            size where the result is still at least this large, in a fraction of the time. Its pixels are
            then averages, so an image resized from them differs a little.
        pixels: How values become uint8, and which page is read; ``model.config.input.pixels``.

    Returns:
        uint8 [H, W, C].

    Raises:
        UserError: The file is missing, cannot be decoded, does not say what its picture is, or has too few
            channels.
        ImageSizeError: Neither the upright nor the stored image has the given size.

    Example:
        >>> decode_image("photo.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    name = display_name(source, name)
    if pixels.pages == "channels":
        data, pages = _channel_pages(source, pixels, name)
        return np.concatenate([decode_image(data, size=size, name=name, pixels=p) for p in pages], axis=2)
    with Reading(name, source):
        image, again = open_image(source, pixels, name)
        stays = _stays_as_stored(image, size, name)
        orientation = _orientation(image)
        if at_least is not None:
            swapped = orientation in _SWAPS_AXES and not stays
            height, width = at_least[::-1] if swapped else at_least
            image.draft(image.mode, (width, height))
        rgb = _to_channels(image, again, pixels, name)
        # Pillow has turned a TIFF file by now, and says that its orientation is 1.
        turned = orientation != 1 and _orientation(image) == 1
        if stays:
            turn = _AS_STORED.get(orientation) if turned else None
        else:
            turn = None if turned else _UPRIGHT.get(orientation)
        return _as_array(rgb if turn is None else rgb.transpose(turn))


def check_image(
    source: bytes, size: tuple[int, int], *, name: str, pixels: PixelConfig = DEFAULT_PIXELS
) -> None:
    """Checks that an image can be decoded and has the size that its annotations expect.

    Args:
        source: Encoded bytes.
        size: ``(height, width)`` in pixels from the annotation file.
        name: What to call the image in an error message.
        pixels: As `decode_image` will be given it.

    Raises:
        UserError: The bytes are truncated, or are not one image.
        ImageSizeError: Neither the upright nor the stored image has the given size.
    """
    if pixels.pages == "channels":
        data, pages = _channel_pages(source, pixels, name)
        for page in pages:
            check_image(data, size, name=name, pixels=page)
        return
    with Reading(name, source):
        image, again = open_image(source, pixels, name)
        _stays_as_stored(image, size, name)
        _check_channels(again or image, pixels, name)
        if pixels.intensity != "dtype" and again is not None:
            intensity.wide_colours(image, again, name)
            return
        intensity.check_values(image, pixels, name, decoded=False)
        # A JPEG's whole stream is still read, for a fraction of the arithmetic.
        image.draft(image.mode, (1, 1))
        image.load()
        intensity.check_values(image, pixels, name)


def check_header(
    source: str | os.PathLike, size: tuple[int, int], *, name: str, pixels: PixelConfig | None = None
) -> None:
    """Checks that an image file has the size that its annotations expect; decodes no pixels.

    Args:
        source: Path of the file.
        size: ``(height, width)`` in pixels from the annotation file.
        name: What to call the image in an error message.
        pixels: As `decode_image` will be given it; None checks the size of the first page and nothing else.

    Raises:
        UserError: The file is missing or is not one image.
        ImageSizeError: Neither the upright nor the stored image has the given size.
    """
    most = 0 if pixels is None else pixels.max_pixels
    if pixels is not None and pixels.pages == "channels":
        with Reading(name, source):
            _, pages = _channel_pages(Path(source).read_bytes(), pixels, name)
        for page in pages:
            check_header(source, size, name=name, pixels=page)
        return
    if pixels is None or (pixels.page <= 0 and pixels.channels in (1, 3)):
        found = plain_jpeg_size(source)
        if found == tuple(size) and (not most or found[0] * found[1] <= most):
            return  # as most are; everything else is for Pillow
    with Reading(name, source), open_header(source, most) as image:
        if pixels is not None:
            select_page(image, pixels.page, name)
            _check_channels(image, pixels, name)
            intensity.check_tiff(image, name)
            intensity.check_values(image, pixels, name, decoded=False)
        # For its orientation, a PNG file is decoded to its end.
        if _stored_size(image) != tuple(size):
            _stays_as_stored(image, size, name)


def upright_size(source: str | os.PathLike) -> tuple[int, int]:
    """The size of an image as `decode_image` returns it when no size is given.

    Args:
        source: Path of the file.

    Returns:
        Height and width of the first page in pixels, the EXIF orientation applied.

    Raises:
        UserError: The file is missing or is not an image.
    """
    with Reading(display_name(source, None), source), open_header(source) as image:
        return _upright_size(image)


def used_range(source: bytes, *, name: str, pixels: PixelConfig = DEFAULT_PIXELS) -> float | None:
    """How much of the range of 16 bits a picture uses.

    Args:
        source: Encoded bytes that `check_image` has accepted.
        name: What to call the image in an error message.
        pixels: As `decode_image` will be given it.

    Returns:
        The 99.9th percentile of its values as a share of 65535; None for pictures of other types.

    Raises:
        UserError: The bytes cannot be decoded.
    """
    if pixels.pages == "channels":
        data, pages = _channel_pages(source, pixels, name)
        shares = [used_range(data, name=name, pixels=page) for page in pages]
        return max((share for share in shares if share is not None), default=None)
    with Reading(name, source):
        image, again = open_image(source, pixels, name)
        if image.mode.startswith("I;16"):
            values = np.asarray(image)
        elif again is not None:
            try:
                values = intensity.wide_colours(image, again, name)
            except UserError:  # an arrangement whose lower bytes are not read
                return None
        else:
            return None
        return float(np.percentile(values, intensity.PERCENTILES[1])) / 65535


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the pixels may be intact even though the EXIF block is damaged
        return 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width without the orientation, which Pillow counts in for TIFF files, and turns them by."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _ORIENTATION_TAG in image.tag_v2:
        return image.tag_v2[TiffImagePlugin.IMAGELENGTH], image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
    return image.height, image.width


def _upright_size(image: Image.Image) -> tuple[int, int]:
    stored = _stored_size(image)
    return stored[::-1] if _orientation(image) in _SWAPS_AXES else stored


def _stays_as_stored(image: Image.Image, size: tuple[int, int] | None, name: str) -> bool:
    """Whether the orientation is not applied; the rule is in ``decode_image``'s docstring."""
    upright = _upright_size(image)
    if size is None or tuple(size) == upright:
        return False
    if tuple(size) == _stored_size(image):
        return True
    raise ImageSizeError(
        f"{name} is {upright[1]} x {upright[0]} pixels (width x height) but its annotations are for "
        f"{size[1]} x {size[0]}; give the image they were made on, or correct the size in the json."
    )


def _channel_pages(source, pixels: PixelConfig, name: str) -> tuple[bytes, list[PixelConfig]]:
    """The bytes of a file whose pages are channels, and how each of them is read."""
    with Reading(name, source):
        if isinstance(source, Image.Image):
            data = undecoded(source)
            if data is None:
                raise UserError(
                    f"{name} is decoded already, but pictures have {pixels.channels} channels, one a page "
                    "(input.pixels.pages); give the path or the bytes of a TIFF, or an array."
                )
            source = data
        data = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else bytes(source)
        first, _ = open_image(data, dataclasses.replace(pixels, pages="one", channels=1, page=0), name)
        if (count := count_pages(first, name)) != pixels.channels:
            raise UserError(
                f"{name} has {count} page{'s' * (count != 1)}, but pictures have {pixels.channels} channels, "
                "one a page (input.pixels.pages); give a TIFF with as many pages."
            )
        pages = [dataclasses.replace(pixels, pages="one", channels=1, page=i) for i in range(count)]
        for page in pages:
            image, again = open_image(data, page, name)
            found = intensity.channels_of(again or image)
            if len(found) > 1:
                raise UserError(
                    f"{name} has the channels {', '.join(found)} in its page {page.page}, but each page is "
                    "one channel (input.pixels.pages); save it with grey pages."
                )
        return data, pages


def _check_channels(image: Image.Image, pixels: PixelConfig, name: str) -> None:
    """Refuses a file without the alpha channel that is the second or fourth channel of a picture."""
    found, wanted = intensity.channels_of(image), _WITH_ANOTHER.get(pixels.channels)
    if wanted is not None and found != wanted:
        raise UserError(
            f"{name} has the channels {', '.join(found)}, but pictures have {pixels.channels} "
            f"(input.pixels.channels); save it as PNG with {', '.join(wanted)}, the other channel in place "
            "of alpha (A)."
        )


def _to_channels(
    image: Image.Image, again: Image.Image | None, pixels: PixelConfig, name: str
) -> Image.Image:
    if pixels.channels not in _WITH_ANOTHER:
        rgb = _to_rgb(image, again, pixels, name)
        return rgb.convert("L") if pixels.channels == 1 else rgb
    _check_channels(again or image, pixels, name)
    if again is not None:
        return Image.fromarray(intensity.to_uint8(intensity.wide_colours(image, again, name), pixels))
    image.load()  # as in `_to_rgb`
    return image


def _to_rgb(image: Image.Image, again: Image.Image | None, pixels: PixelConfig, name: str) -> Image.Image:
    if pixels.intensity != "dtype" and again is not None:
        values = intensity.wide_colours(image, again, name)
        values = intensity.to_uint8(values[..., : 3 if values.shape[2] > 2 else 1], pixels)
        return Image.fromarray(np.broadcast_to(values, (*values.shape[:2], 3)))
    intensity.check_values(image, pixels, name)
    if image.mode == "F" or image.mode.startswith("I"):
        values = intensity.unsigned(np.asarray(image), image)
        return Image.fromarray(intensity.to_uint8(values, pixels)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        # Straight to RGB, Pillow warns about the transparency it drops.
        return image.convert("RGBA").convert("RGB")
    image.load()  # turns a TIFF file, which its orientation tells afterwards
    return image if image.mode == "RGB" else image.convert("RGB")


def _as_array(image: Image.Image) -> np.ndarray:
    """The pixels of a picture, [H, W, C]; NumPy's own way makes two copies of them at once."""
    rows, shape = max(_COPIED // max(image.width, 1), 1), (image.height, image.width, len(image.getbands()))
    if image.height <= rows:
        return np.array(image).reshape(shape)
    image.load()
    array = np.empty(shape, np.uint8)
    for top in range(0, image.height, rows):
        part = array[top : top + rows]
        part[:] = np.asarray(image.crop((0, top, image.width, top + len(part)))).reshape(part.shape)
    return array
