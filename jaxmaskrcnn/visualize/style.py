"""How pictures of detections look."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxmaskrcnn.errors import UserError

_PANORAMA = 3  # times the short side; of a longer picture, lines and text do not grow any more


def apparent_side(size: Sequence[int]) -> int:
    """The side of a picture that lines and text are scaled with.

    Args:
        size: Width and height of the picture, in pixels.

    Returns:
        Its long side, but of a long strip three times the short one, so that labels do not fill the strip.

    Example:
        >>> apparent_side((640, 480)), apparent_side((4800, 200))
        (640, 600)
    """
    return min(max(size), _PANORAMA * min(size))


class Style(NamedTuple):
    """How pictures of detections look.

    Attributes:
        labels: Whether names and scores are written.
        boxes: Whether boxes are drawn of objects without a mask, or with one of a few pixels.
        line_width: Width of outlines in pixels of the picture; None follows its size.
        text_scale: Factor of the size of text.
        font: A TrueType or OpenType file whose font is taken for labels; names that it lacks characters of,
            or all of them if it is None, take Pillow's font or one of the system.

    Example:
        >>> Style(labels=False).check().boxes
        True
    """

    labels: bool = True
    boxes: bool = True
    line_width: float | None = None
    text_scale: float = 1.0
    font: str | None = None

    def check(self) -> "Style":
        """Checks the values and returns them.

        Raises:
            UserError: One is out of range.
        """
        if self.line_width is not None and not 0 < self.line_width <= 100:
            raise UserError(
                f"The width of lines is {self.line_width}; give a number of pixels from 1 to 100."
            )
        if not 0.1 <= self.text_scale <= 10:
            raise UserError(f"The scale of text is {self.text_scale}; give a factor from 0.1 to 10.")
        return self
