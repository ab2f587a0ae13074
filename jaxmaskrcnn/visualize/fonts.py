"""Fonts for labels: that of Pillow has ASCII letters only, so other names take a font of the system.

A font that lacks a character draws the same empty box for it as for one that no font has, by which it is
told.
"""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageFont

from jaxmaskrcnn.errors import UserError

_NO_CHARACTER = "\U0010fffe"  # it is none, so that every font draws its empty box
_SUFFIXES = {".ttf", ".otf", ".ttc"}
# Fonts with many scripts, tried in this order before all others of the system.
_WIDE = (
    "NotoSansCJK", "NotoSans-Regular", "DejaVuSans.ttf", "Arial Unicode", "msyh", "simsun", "PingFang",
    "Hiragino Sans GB", "malgun", "NotoSansArabic", "NotoNaskhArabic", "NotoEmoji", "Symbola", "seguisym",
)  # fmt: skip


def folders() -> list[Path]:
    """The folders in which this system has its fonts."""
    home = Path.home()
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    if os.name == "nt":
        own = Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
        return [own, Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    return [
        home / ".local/share/fonts",
        home / ".fonts",
        Path("/usr/local/share/fonts"),
        Path("/usr/share/fonts"),
    ]


@functools.cache
def system_fonts() -> tuple[Path, ...]:
    """The font files of this system, those with many scripts first."""
    found = sorted(
        path
        for folder in folders()
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
    )

    def rank(path: Path) -> tuple[int, int, str]:
        wide = next((k for k, name in enumerate(_WIDE) if path.name.startswith(name)), len(_WIDE))
        return wide, int("Bold" in path.name or "Italic" in path.name or "Oblique" in path.name), str(path)

    return tuple(sorted(found, key=rank))


def load_font(path: str | os.PathLike | None, size: float) -> ImageFont.FreeTypeFont:
    """A font of a size.

    Args:
        path: Of a font file; None takes Pillow's.
        size: In pixels.

    Raises:
        UserError: The file is missing or holds no font.
    """
    if path is None:
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # because a size is given
        return font
    try:
        return ImageFont.truetype(os.fspath(path), round(size))
    except OSError as error:
        raise UserError(
            f"The font {path} cannot be read ({error}); give a TrueType or OpenType file."
        ) from None


def has_characters(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has every character of a text.

    Example:
        >>> font = load_font(None, 20)
        >>> has_characters(font, "cat"), has_characters(font, "кот")
        (True, False)
    """
    empty = font.getmask(_NO_CHARACTER)
    box = (empty.size, bytes(empty))
    for character in set(text):
        if character.isspace() or character.isascii():
            continue
        drawn = font.getmask(character)
        if (drawn.size, bytes(drawn)) == box:
            return False
    return True


def fonts_for(path: str | os.PathLike | None) -> Iterator[str | os.PathLike | None]:
    """The fonts that a text can be drawn with, in the order in which they are tried: the given one, Pillow's,
    those of the system."""
    yield from () if path is None else (path,)
    yield None
    yield from system_fonts()


@functools.cache
def font_of(text: str, size: float, path: str | None = None) -> ImageFont.FreeTypeFont | None:
    """The first font that has every character of a text; None if there is none.

    Args:
        text: What is drawn.
        size: In pixels.
        path: A font file that is tried first.

    Raises:
        UserError: The font file that is given cannot be read.

    Example:
        >>> font_of("cat", 20.0).size
        20.0
    """
    for candidate in fonts_for(path):
        try:
            font = load_font(candidate, size)
            if has_characters(font, text):
                return font
        except (OSError, UserError):  # bitmap fonts have sizes of their own
            if candidate is not None and candidate == path:
                raise
    return None
