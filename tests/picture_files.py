"""Picture files that Pillow cannot write, byte by byte from the formats' definitions."""

import struct
import zlib

import numpy as np


def png16(values: np.ndarray) -> bytes:
    """A PNG file of 16 bits of values [H, W, C]: grey, grey and alpha, RGB, RGBA by C."""
    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def tiff(*pages: np.ndarray, order: str = "<", planar: bool = False, tags=()) -> bytes:
    """A TIFF file, not compressed, one strip (or one for each plane) a page.

    Args:
        *pages: Values [H, W] or [H, W, C] of any type.
        order: "<" or ">".
        planar: Whether channels are stored one after the other.
        tags: For each page a dictionary of further tags, whole numbers or texts.
    """
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 0)
    link = 4
    for number, page in enumerate(pages):
        page = page[..., None] if page.ndim == 2 else page
        height, width, channels = page.shape
        planes = [page[..., i] for i in range(channels)] if planar else [page]
        strips = [plane.astype(page.dtype.newbyteorder(order)).tobytes() for plane in planes]
        starts = [len(content) + sum(map(len, strips[:i])) for i in range(len(strips))]
        content += b"".join(strips)
        entries = {
            256: width, 257: height, 258: [8 * page.dtype.itemsize] * channels, 259: 1,
            262: 2 if channels >= 3 else 1, 273: starts, 277: channels, 278: height,
            279: [len(strip) for strip in strips], 284: 2 if planar else 1,
            339: [{"u": 1, "i": 2, "f": 3}[page.dtype.kind]] * channels,
            **(tags[number] if number < len(tags) else {}),
        }  # fmt: skip
        if channels > 3:
            entries.setdefault(338, [0] * (channels - 3))
        directory = b""
        for tag, value in sorted(entries.items()):
            if isinstance(value, str):
                kind, count, data = 2, len(value) + 1, value.encode() + b"\0"
            else:
                numbers = value if isinstance(value, list) else [value]
                kind, count = (4, len(numbers)) if tag in (273, 279) else (3, len(numbers))
                data = struct.pack(f"{order}{count}{'HI'[kind - 3]}", *numbers)
            if len(data) > 4:
                place, content = len(content), content + data
                data = struct.pack(order + "I", place)
            directory += struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")
        content += b"\0" * (len(content) % 2)
        content = content[:link] + struct.pack(order + "I", len(content)) + content[link + 4 :]
        content += struct.pack(order + "H", len(entries)) + directory
        link, content = len(content), content + struct.pack(order + "I", 0)
    return content
