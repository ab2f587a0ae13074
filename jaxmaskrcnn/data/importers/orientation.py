"""Pictures whose EXIF orientation turns them in viewers, where annotations were drawn without that."""

import io
from pathlib import Path

from PIL import Image

_ORIENTATION_TAG = 0x0112
_SWAPS_AXES = (5, 6, 7, 8)


def as_drawn(data: bytes, size: tuple[int, int] | None) -> bytes:
    """An encoded picture that looks the same to every reader as it did to one that passes over EXIF.

    Args:
        data: The picture.
        size: Height and width that its annotations refer to; None where they are not known.

    Returns:
        A PNG of the stored pixels where there is an orientation. The same bytes where there is none, where
        the size is that of the upright picture alone, or where Pillow does not read them.
    """
    orientation, stored, upright = _sizes(io.BytesIO(data))
    if orientation == 1 or (size is not None and size != stored and size == upright):
        return data
    with Image.open(io.BytesIO(data)) as image:
        pixels = image.convert("RGB") if image.mode == "CMYK" else image.copy()
        pixels.info = {key: value for key, value in image.info.items() if key == "transparency"}
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return file.getvalue()


def is_turned(source: Path | bytes, size: tuple[int, int] | None = None) -> bool:
    """Whether a picture has an orientation, which its size does not tell from none.

    Args:
        source: The file, or its bytes.
        size: Height and width that its annotations refer to; None where they are not known.
    """
    orientation, stored, upright = _sizes(io.BytesIO(source) if isinstance(source, bytes) else source)
    return orientation != 1 and (size is None or stored == upright)


def _sizes(source: Path | io.BytesIO) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """The orientation, and height and width of the stored picture and of the upright one."""
    try:
        with Image.open(source) as image:
            if image.format == "TIFF":  # Pillow turns it itself
                return 1, (image.height, image.width), (image.height, image.width)
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
            stored: tuple[int, int] = image.height, image.width
    except Exception:  # whatever Pillow raises about a damaged file; who decodes it tells
        return 1, (0, 0), (0, 0)
    if orientation not in range(1, 9):
        orientation = 1
    height, width = stored
    return orientation, stored, (width, height) if orientation in _SWAPS_AXES else stored
