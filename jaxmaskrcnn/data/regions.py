"""Large TIFF files read by regions, so that a picture larger than memory can be cut into tiles.

TIFF stores a picture in strips or tiles, each of which is compressed by itself. Other formats are one stream,
and have to be decoded whole.

Shape legend: H, W height and width of the picture, h, w those of a region.
"""

import collections
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data import intensity
from jaxmaskrcnn.data.image_opening import Reading, open_header
from jaxmaskrcnn.data.image_pages import select_page
from jaxmaskrcnn.errors import UserError

LARGE = 2**26  # pixels from which a file is worth reading by regions
_ANY = 2**62  # pixels; those of a header take no memory
KEPT = 2**28  # bytes of decoded strips and tiles that are kept
_UPRIGHT, _CONTIGUOUS = 1, 1  # values of TIFF's Orientation and PlanarConfiguration
_BLACK_IS_ZERO, _RGB, _YCBCR = 1, 2, 6  # values of its PhotometricInterpretation
_JPEG, _ALPHA = 7, 2  # values of its Compression and ExtraSamples; an alpha that is not multiplied in


class Regions:
    """A picture in a TIFF file that is decoded where it is looked at.

    It is cut like an array: ``regions[y0:y1, x0:x1]`` is uint8 RGB [h, w, 3], with the values of
    `decode_image`; ``np.asarray(regions)`` decodes all of it.

    Args:
        path: The file.
        page: A `tifffile.TiffPage` of 8 bits, grey or RGB, whose file is open; it is not needed afterwards.
        kept: Bytes of decoded strips and tiles that are kept, since neighbouring regions share them.

    Attributes:
        shape: (H, W, 3).
        kept_bytes: Bytes of the decoded strips and tiles at present.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, page: Any, kept: int = KEPT):
        self.shape = (page.imagelength, page.imagewidth, 3)
        self._path, self._page, self._limit = path, page, kept
        if page.is_tiled:
            self._step = page.tilelength, page.tilewidth
        else:
            self._step = min(page.rowsperstrip, self.shape[0]), self.shape[1]
        self._decode = page.decode  # made here, as it looks at the first part of the file
        self._kept: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
        self.kept_bytes = 0

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        (y0, y1, _), (x0, x1, _) = (
            part.indices(side) for part, side in zip(window, self.shape[:2], strict=True)
        )
        down, across = self._step
        columns = -(-self.shape[1] // across)
        region = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        for row in range(y0 // down, -(-y1 // down)):
            for column in range(x0 // across, -(-x1 // across)):
                part = self._segment(row * columns + column)
                top, left = row * down, column * across
                rows = slice(max(y0, top), min(y1, top + part.shape[0]))
                cols = slice(max(x0, left), min(x1, left + part.shape[1]))
                region[rows.start - y0 : rows.stop - y0, cols.start - x0 : cols.stop - x0] = part[
                    rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
                ]
        return region

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[0 : self.shape[0], 0 : self.shape[1]], dtype)

    def _segment(self, number: int) -> np.ndarray:
        """A strip or tile, uint8 [h, w, 1 or 3]; the last of a row or column may be padded."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        page = self._page
        with Reading(os.fspath(self._path), self._path), open(self._path, "rb") as file:
            file.seek(page.dataoffsets[number])
            data = file.read(page.databytecounts[number])
            decoded, _, shape = self._decode(data, number, jpegtables=page.jpegtables)
            if decoded is None:  # a part that was never written, which readers take as black
                decoded = np.zeros(shape, np.uint8)
            if len(data) != page.databytecounts[number] or decoded.shape != shape:
                raise UserError(f"{self._path} ends within its pixels; replace or remove the file.")
        decoded = decoded[0, :, :, :3]  # without alpha
        self._kept[number] = decoded
        self.kept_bytes += decoded.nbytes
        while self.kept_bytes > self._limit and len(self._kept) > 1:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return decoded


def open_regions(
    path: str | os.PathLike, pixels: PixelConfig = DEFAULT_PIXELS, *, least: int = LARGE
) -> Regions | None:
    """Opens a large picture to be read by regions, where its file allows that.

    Args:
        path: An image file.
        pixels: Which page is read.
        least: Number of pixels from which a picture is large.

    Returns:
        The picture; None where it has to be decoded whole: it is small, not a TIFF, turned, or not 8 bits of
        grey or RGB beside each other, it becomes something else than RGB, or the extra ``large`` is not
        installed.

    Raises:
        UserError: The file is missing, or it does not say which of its pages is the picture.
    """
    if not pixels.has_colours:
        return None
    name = os.fspath(path)
    with Reading(name, path), open_header(path, most=_ANY) as image:
        if image.format != "TIFF" or image.width * image.height < least:
            return None
        select_page(image, pixels.page, name)
        intensity.check_tiff(image, name)
        number = image.tell()
    try:
        import tifffile
    except ImportError:
        return None
    try:
        with tifffile.TiffFile(name) as file:
            page = file.pages[number].aspage()
            if not _is_plain(page):
                return None
            regions = Regions(Path(path), page)
        regions[0:1, 0:1]  # shows whether there is a decoder for its compression
    except Exception:  # as tifffile has many; decoding the whole says what is wrong, if something is
        return None
    return regions


def _is_plain(page: Any) -> bool:
    """Whether a page holds the values of its picture as they are, beside each other."""
    tags = page.tags
    if page.dtype != np.uint8 or page.bitspersample != 8 or page.planarconfig != _CONTIGUOUS:
        return False
    if tags.valueof("Orientation", default=_UPRIGHT) != _UPRIGHT:
        return False
    if page.photometric == _BLACK_IS_ZERO:
        return page.samplesperpixel == 1
    if page.photometric == _YCBCR:  # tifffile makes RGB of it where it is JPEG's
        return page.samplesperpixel == 3 and page.compression == _JPEG
    alpha = page.samplesperpixel == 4 and tuple(page.extrasamples) == (_ALPHA,)
    return page.photometric == _RGB and (page.samplesperpixel == 3 or alpha)
