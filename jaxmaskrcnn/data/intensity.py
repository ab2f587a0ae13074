"""Pixel values of more than 8 bits, and how they become uint8.

Pillow has modes for 16 bits and floats in one channel only; of three channels of 16 bits (PNG, TIFF) it keeps
the upper byte. The lower one is read by decoding once more with the bytes of a value exchanged.

Shape legend: H, W height and width of the image, C channels.
"""

import sys

import numpy as np
from PIL import Image, TiffImagePlugin

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.errors import UserError

PERCENTILES = (0.1, 99.9)  # of a picture's values; they become 0 and 255
_WIDEST = 65535
_SIGNED, _WHITE_IS_ZERO, _RGB = 2, 0, 2  # values of TIFF's SampleFormat and PhotometricInterpretation
_EXCHANGED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_JOINABLE = ("RGB;16", "RGBX;16", "RGBA;16", "R;16", "G;16", "B;16", "A;16")
_GREY_ALPHA = "LA;16B"  # of PNG
_CHOOSE = (
    "say which values become black and white (--config.data.intensity=range "
    "--config.data.intensity_range=0,1 in training, --intensity=range --intensity_range=0,1 elsewhere), take "
    "those of each picture (percentile), or save it with 8 or 16 bits per channel"
)


def mend_tiles(image: Image.Image) -> None:
    """Corrects how Pillow would read a TIFF with 16 bits in separate planes that are not compressed.

    It would take the bytes of half a plane for the pixels of 8 bits of the whole.

    Args:
        image: An opened file of which nothing has been decoded; changed in place.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.tile:
        return
    tags = image.tag_v2
    wide = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, ())) == {16}
    if not wide or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) != 2:
        return
    order = "L" if tags.prefix == b"II" else "B"
    image.tile = [
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if isinstance(tile.args, tuple) and tile.args[0] in ("R", "G", "B", "A")
        else tile
        for tile in image.tile
    ]


def check_tiff(image: Image.Image, name: str) -> None:
    """Refuses TIFF files that Pillow takes for others.

    These are signed 8 bits, white as 0 beyond 8 bits, and a channel beside grey or beside red, green and blue
    that is not said to be alpha (near infrared, for instance), which would be dropped.

    Args:
        image: An opened file.
        name: What to call it in an error message.

    Raises:
        UserError: It is such a file.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    form = max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    grey = photometric in (0, 1)
    channels = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if grey and channels == 2 and 0 in tags.get(TiffImagePlugin.EXTRASAMPLES, (0,)):
        raise UserError(
            f"{name} is a TIFF of 2 channels, and nothing says what the second one is; save one of them as a "
            "picture."
        )
    if photometric == _RGB and channels > 3 and 0 in tags.get(TiffImagePlugin.EXTRASAMPLES, ()):
        raise UserError(
            f"{name} is a TIFF of {channels} channels, and nothing says what there is beside red, green and "
            "blue, which alone are read; save these three as a picture, or call the fourth alpha (2 in "
            "ExtraSamples) if it may be dropped."
        )
    if form == _SIGNED and bits == 8:
        raise UserError(
            f"{name} has signed pixels of 8 bits (-128 to 127), which are read as 0 to 255; save it with 8 "
            "or 16 bits without a sign."
        )
    if photometric == _WHITE_IS_ZERO and bits > 8:
        raise UserError(
            f"{name} stores white as 0 (MinIsWhite) with {bits} bits, and would be read as its negative; "
            "save it with black as 0 (MinIsBlack)."
        )


def unsigned(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """The values of a picture of 32 bits, which Pillow takes for signed ones, as its file means them."""
    if image.mode != "I" or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return values
    tags = image.tag_v2
    plain = max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) == 1
    wide = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) == 32
    return values.astype(np.int32).view(np.uint32) if plain and wide else values


def has_wide_colours(image: Image.Image) -> bool:
    """Whether an opened file of which nothing has been decoded has several channels of 16 bits."""
    return any(";16" in mode for mode in _raw_modes(image)) and not image.mode.startswith("I")


def channels_of(image: Image.Image) -> tuple[str, ...]:
    """Names of a file's channels; Pillow takes grey of 16 bits with alpha, of PNG, for colours with alpha."""
    return ("L", "A") if set(_raw_modes(image)) == {_GREY_ALPHA} else image.getbands()


def wide_colours(upper: Image.Image, lower: Image.Image, name: str) -> np.ndarray:
    """The values of a picture with several channels of 16 bits.

    Args:
        upper: The file, opened; it may be decoded already, as looking for a PNG's orientation does.
        lower: The file, opened once more, with nothing decoded.
        name: What to call it in an error message.

    Returns:
        uint16 [H, W, C], C 1 for grey and 3 for colours, and one more where there is an alpha channel; turned
        as Pillow turns TIFF files.

    Raises:
        UserError: Pillow gives its upper bytes alone.
    """
    modes = _raw_modes(lower)
    if set(modes) == {_GREY_ALPHA}:
        # Its four bytes as if they were four channels.
        lower.tile = [_with_raw_mode(tile, "RGBA") for tile in lower.tile]
        pixels = np.asarray(lower).astype(np.uint16)
        return (pixels[..., 0::2] << 8) | pixels[..., 1::2]
    planes = getattr(lower, "tag_v2", {}).get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    compressed = any(tile.codec_name == "libtiff" for tile in getattr(lower, "tile", ()))
    if not all(mode[:-1] in _JOINABLE for mode in modes) or (planes and compressed):
        raise UserError(
            f"{name} has colours of 16 bits in an arrangement ({', '.join(sorted(set(modes)))}) of which "
            "only the upper 8 bits are read; save it as PNG or as TIFF with interleaved RGB, or give "
            "--config.data.intensity=dtype (--intensity=dtype)."
        )
    lower.tile = [_with_raw_mode(t, _raw_mode(t)[:-1] + _EXCHANGED[_raw_mode(t)[-1]]) for t in lower.tile]
    high, low = (np.asarray(image).astype(np.uint16) for image in (upper, lower))
    return (high << 8) | low


def check_values(image: Image.Image, config: PixelConfig, name: str, *, decoded: bool = True) -> None:
    """Checks that the values of a picture can become uint8 as the configuration says.

    Args:
        image: An opened file.
        config: How pixels become uint8.
        name: What to call it in an error message.
        decoded: Whether the values may be looked at, or the mode alone.

    Raises:
        UserError: The type of the values has no range, or they lie outside of 16 bits.
    """
    if config.intensity != "dtype":
        return
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point pixels, whose type has no range; {_CHOOSE}.")
    if image.mode == "I" and decoded:
        least, most = image.getextrema()
        if least < 0 or most > _WIDEST:
            raise UserError(
                f"{name} has pixel values beyond 16 bits ({least} to {most}, and 0 to {_WIDEST} are read); "
                f"{_CHOOSE}."
            )


def to_uint8(values: np.ndarray, config: PixelConfig) -> np.ndarray:
    """Pixel values as uint8.

    Args:
        values: Integers or floats of any shape, together one picture; of what is not finite, NaN becomes 0.
        config: Whether the range of 16 bits, the `PERCENTILES` of the values or a fixed one becomes 0..255.

    Returns:
        uint8 of the same shape. What lies outside of the range becomes 0 or 255.

    Example:
        >>> twelve_bits = PixelConfig(intensity="range", intensity_range=(0, 4095))
        >>> to_uint8(np.array([0, 2048, 4095, 65535]), twelve_bits).tolist()
        [0, 128, 255, 255]
    """
    low, high = limits_of(values, config)
    if values.dtype == np.uint16:
        return _scaled(np.arange(_WIDEST + 1), low, high)[values]
    return _scaled(values, low, high)


def limits_of(values: np.ndarray, config: PixelConfig) -> tuple[float, float]:
    """The two values that become 0 and 255; arguments as in `to_uint8`."""
    if config.intensity == "range":
        low, high = config.intensity_range
        return low, high
    if config.intensity == "dtype":
        return 0.0, float(_WIDEST)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(x) for x in np.percentile(finite, PERCENTILES))
    if low == high:  # nearly all values are the same, and what differs are the objects
        low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (values.astype(np.float64) - low) * 255 / (high - low)
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def _raw_modes(image: Image.Image) -> list[str]:
    return [_raw_mode(tile) for tile in getattr(image, "tile", ())]


def _raw_mode(tile) -> str:
    """How the bytes of a part of a file are arranged, by Pillow's name."""
    first = tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
    return first if isinstance(first, str) else ""


def _with_raw_mode(tile, mode: str):
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)
