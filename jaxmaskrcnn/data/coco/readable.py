"""Reads or decodes some image files, in a thread or in another process: see `image_files`."""

from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.images import ImageSizeError, check_header, check_image
from jaxmaskrcnn.errors import UserError


class Part(NamedTuple):
    """Files that are read one after the other.

    Attributes:
        paths: Where they are.
        ids: Their images' ids, for messages.
        sizes: Height and width in pixels that each should have.
        annotations: The json, for messages.
        decode: Whether pixels are decoded. Otherwise headers are read for the size, and no bytes returned.
        pixels: Which page of a file is read, and how its values become uint8.
    """

    paths: list[str]
    ids: list[int]
    sizes: list[tuple[int, int]]
    annotations: str
    decode: bool
    pixels: PixelConfig


class Contents(NamedTuple):
    """What was found in the files of a part.

    Attributes:
        data: Their bytes; empty where they were not read.
        faults: For files that cannot be used, by their number: what the fault is counted under, and a
            sentence without its full stop.
    """

    data: list[bytes]
    faults: dict[int, tuple[str, str]]


def read_part(part: Part) -> Contents:
    """Reads files and checks that they are images of the expected sizes."""
    found = Contents([], {})
    for number, (path, identity, size) in enumerate(zip(part.paths, part.ids, part.sizes, strict=True)):
        name, data = f"{part.annotations}: image {identity} ({Path(path)})", b""
        try:
            if part.decode:
                data = Path(path).read_bytes()
                check_image(data, size, name=name, pixels=part.pixels)
            else:
                check_header(path, size, name=name, pixels=part.pixels)
        except OSError as error:
            fault = f"{name} cannot be read ({error.strerror}); restore the file"
            found.faults[number] = "corrupt image", fault
        except UserError as error:
            reason = "image size" if isinstance(error, ImageSizeError) else "corrupt image"
            found.faults[number] = reason, str(error).rstrip(".")
        except ValueError as error:  # NUL or half of a surrogate pair in the name, which no file has
            found.faults[number] = "corrupt image", f"{name} cannot be read ({error}); correct its name"
        found.data.append(data)
    return found
