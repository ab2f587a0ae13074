"""Files with several pages: which of them is the picture.

A TIFF of several pages is a stack (z, t, channels) or a scan, and no page of it is the picture unless
somebody says so. Reduced versions and masks that stand beside a picture, as in pyramids, are no pages of
this kind. Animations (GIF, WebP, APNG) and the further pictures of a phone's JPEG or HEIC are different:
viewers and annotation tools show the first one.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image, TiffImagePlugin

from jaxmaskrcnn.errors import UserError

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _DESCRIPTION = 254, 255, 270
_REDUCED_OR_MASK = 1 | 4
_IMAGEJ = re.compile(r"^ImageJ=.*?\bimages=(\d+)", re.S)
_SHAPED = re.compile(r'^\{"shape": \[([\d, ]+)\].*"truncated": true', re.S)


def select_page(image: Image.Image, page: int, name: str) -> None:
    """Turns an opened file to the page that is the picture.

    Args:
        image: An opened file of which nothing has been decoded.
        page: Number of the page, from 0; -1 takes the only page of a TIFF, and the first of an animation.
        name: What to call the file in an error message.

    Raises:
        UserError: The file is a TIFF of several pages and none is chosen, or there is no such page.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        if page > 0:
            _check_page(page, getattr(image, "n_frames", 1), name)
            image.seek(page)
        return
    directories = list(_directories(image))
    if page >= 0:
        _check_page(page, len(directories), name)
        image.seek(page)
        return
    description = _text(image.tag_v2.get(_DESCRIPTION, ""))
    hidden, count = _hidden_pages(description), len(directories)
    if hidden > count:
        raise UserError(
            f"{name} is a stack of {hidden} pictures, of which programs that read TIFF see the first alone; "
            "save the picture that was annotated as a file of its own."
        )
    if sum(map(_is_full, directories)) <= 1:
        return
    shape = re.match(r'\{"shape": (\[[\d, ]+\])', description)
    written = f", written from an array of shape {shape[1]}" if shape else ""
    raise UserError(
        f"{name} has {count} pages{written}, and nothing says which of them is the picture (they may be "
        "slices, times or channels); give its number, from 0 (--config.data.page=0 in training, --page=0 "
        "elsewhere), or save the page that was annotated, or the channels joined to one RGB picture, as a "
        "file of its own."
    )


def count_pages(image: Image.Image, name: str) -> int:
    """The number of pages of a file, each of which is a channel.

    Args:
        image: An opened file of which nothing has been decoded.
        name: What to call the file in an error message.

    Returns:
        1 for a file that is no TIFF. Reduced versions and masks beside the picture are counted, because
        nothing says which page they belong to; such a file has another number of pages than its channels.

    Raises:
        UserError: It is a stack of which programs that read TIFF see the first picture alone.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    count = len(list(_directories(image)))
    hidden = _hidden_pages(_text(image.tag_v2.get(_DESCRIPTION, "")))
    if hidden > count:
        raise UserError(
            f"{name} is a stack of {hidden} pictures, of which programs that read TIFF see the first alone; "
            "save it with a page for each (tifffile: imwrite without imagej=True and truncate=True)."
        )
    return count


def _check_page(page: int, count: int, name: str) -> None:
    if page >= count:
        raise UserError(
            f"{name} has {count} page{'s' * (count != 1)} and no page {page}, as pages are counted from 0; "
            "give another page (--config.data.page in training, --page elsewhere)."
        )


def _directories(image: TiffImagePlugin.TiffImageFile) -> Iterator[Mapping[int, Any]]:
    """What each page says of its kind; Pillow's own counting stops at a page that it has no mode for."""
    file = image.fp
    assert file is not None
    place = file.tell()
    try:
        file.seek(0)
        head = file.read(16)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if b"+" in head[2:4] else 8])
        seen: set[int] = set()
        while tags.next and tags.next not in seen:
            seen.add(tags.next)
            file.seek(tags.next)
            tags.load(file)
            yield {tag: tags[tag] for tag in (_SUBFILE_TYPE, _OLD_SUBFILE_TYPE) if tag in tags}
    finally:
        file.seek(place)


def _is_full(tags: Mapping[int, Any]) -> bool:
    """Whether a page is a picture at full size, and neither a reduced version nor a mask."""
    return not (tags.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK or tags.get(_OLD_SUBFILE_TYPE, 1) == 2)


def _hidden_pages(description: str) -> int:
    """How many pictures ImageJ and tifffile say that they wrote behind one description."""
    if found := _IMAGEJ.search(description):
        return int(found[1])
    if found := _SHAPED.search(description):
        sides = [int(x) for x in found[1].split(",")]
        return math.prod(sides[:-3] if sides[-1] in (3, 4) else sides[:-2])
    return 1


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
