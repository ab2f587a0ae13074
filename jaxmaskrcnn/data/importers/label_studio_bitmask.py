"""Label Studio's bitmasks: a PNG of the image's size, inside of the json, whose opaque pixels are the mask.

Format: https://labelstud.io/tags/bitmask ("a base64-encoded PNG data URL image with black pixels on
transparent background").
"""

import base64
import io
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.label_studio_paths import find_image, task_path
from jaxmaskrcnn.errors import UserError

KEYS = ("imageDataURL", "image_url")  # where a region has it


def decode_bitmask(
    value: dict, size: tuple[int, int], place: str, path: Path, builder: Builder
) -> np.ndarray:
    """Decodes the mask of a region.

    Args:
        value: The region's value, with one of `KEYS`.
        size: Height and width of the image.
        place: Where it is, for messages.
        path: The json.
        builder: Has the image folder, in which a mask that is no data URL is looked for.

    Returns:
        bool [H, W], H and W height and width of the image.

    Raises:
        UserError: There is no such picture, it has another size, or nothing of it is transparent.
    """
    key = next(key for key in KEYS if key in value)
    text = value[key]
    if not isinstance(text, str) or not text:
        raise UserError(f"{place} has an empty {key!r}; draw it again, or remove it.")
    data = (
        _of_address(text, key, place) if text[:5].lower() == "data:" else _of_file(text, place, path, builder)
    )
    try:
        with Image.open(io.BytesIO(data)) as picture:
            found = picture.size  # known before it is decoded, so that a giant picture never is
            clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            fits = found == size[::-1] and clear
            alpha = np.asarray(picture.convert("RGBA"))[..., 3] if fits else None
    except Exception as error:  # whatever Pillow raises about a damaged file
        raise UserError(
            f"{place} has an {key!r} that is no picture ({type(error).__name__}); export the project again."
        ) from error
    if found != size[::-1]:
        raise UserError(
            f"{place} has a mask of {found[0]} x {found[1]} pixels for an image of {size[1]} x {size[0]}; "
            "draw it again on this image."
        )
    if alpha is None:
        raise UserError(
            f"{place} has a mask without transparency, by which Label Studio tells what is no object; save "
            "it as black pixels on a transparent background."
        )
    return alpha > 0


def _of_address(text: str, key: str, place: str) -> bytes:
    """The bytes of a data URL."""
    head, comma, data = text.partition(",")
    try:
        if not comma:
            raise ValueError
        return base64.b64decode(unquote_to_bytes(data), validate=True) if ";base64" in head else b""
    except ValueError as error:
        raise UserError(
            f"{place} has an {key!r} that is not a PNG in base64 ({text[:24]}...); export the project again."
        ) from error


def _of_file(text: str, place: str, path: Path, builder: Builder) -> bytes:
    """The bytes of a mask that lies beside the images."""
    try:
        file = find_image(task_path(text), place, path, builder)
        data = file.read_bytes()
    except (UserError, OSError) as error:
        raise UserError(
            f"{place} has its mask at {text[:80]!r}, which is not among the images and is not fetched; put "
            "the file there, or export the project with the masks inside (imageDataURL)."
        ) from error
    builder.not_images.add(file)
    return data
