"""How pictures of detections look."""

from typing import NamedTuple

from jaxmaskrcnn.errors import UserError


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
