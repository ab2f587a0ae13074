"""Line charts drawn with Pillow: panels side by side in one picture.

Everything is drawn at three times the size and reduced, which makes lines and text smooth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmaskrcnn.report.axes import label, ticks

COLOURS = ((11, 102, 195), (194, 80, 10), (43, 125, 70), (130, 60, 160), (110, 110, 110), (190, 150, 0))
WIDTH, HEIGHT = 460, 300  # of a panel
COLUMNS = 3
_SCALE = 3
_INK, _MUTED, _GRID = (28, 33, 39), (89, 99, 110), (222, 227, 232)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 38, 40  # around the axes
_DASH = (7.0, 5.0)


class Line(NamedTuple):
    """One line of a panel.

    Attributes:
        x: float [N], ascending.
        y: float [N]; the line is interrupted at NaN.
        colour: Index of ``COLOURS``, modulo their number.
        name: Name in the panel's key; empty for none.
        dashed: Whether the line is dashed.
        noisy: Whether the line, if it has many points, is drawn pale and with its running mean.
    """

    x: np.ndarray
    y: np.ndarray
    colour: int
    name: str = ""
    dashed: bool = False
    noisy: bool = False


class Panel(NamedTuple):
    """One pair of axes with its lines."""

    title: str
    lines: tuple[Line, ...]


def draw_chart(
    panels: Sequence[Panel], x_label: str, keys: Sequence[str] = (), *, smooth_above: int = 200
) -> Image.Image:
    """Draws panels in rows of three; vertical axes begin at 0, or lower if there are negative values.

    Args:
        panels: The panels to draw.
        x_label: Label of the x axes, written beneath the last row.
        keys: Names of the colours, written above all panels.
        smooth_above: Noisy lines with more points than this are smoothed.

    Returns:
        RGB picture.

    Example:
        >>> line = Line(np.array([0, 10]), np.array([1.0, 0.5]), colour=0)
        >>> draw_chart([Panel("loss", (line,))], "step").size
        (460, 300)
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    head = 28 * len(keys) + 8 if keys else 0
    image = Image.new("RGB", (columns * WIDTH * _SCALE, (rows * HEIGHT + head) * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(keys):
        y = (20 + 28 * i) * _SCALE
        draw.line((16 * _SCALE, y, 44 * _SCALE, y), fill=_colour(i), width=3 * _SCALE)
        draw.text((52 * _SCALE, y), name, font=_font(14), fill=_INK, anchor="lm")
    steps = [x for panel in panels for line in panel.lines for x in (line.x.min(), line.x.max())]
    for i, panel in enumerate(panels):
        corner = (i % columns * WIDTH, i // columns * HEIGHT + head)
        last = i + columns >= len(panels)
        _draw_panel(
            draw, panel, corner, (min(0, *steps), max(1, *steps)), x_label if last else "", smooth_above
        )
    return image.resize((image.width // _SCALE, image.height // _SCALE), Image.Resampling.LANCZOS)


def _draw_panel(draw, panel, corner, x_range, x_label, smooth_above):
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    right, bottom = corner[0] + WIDTH - _RIGHT, corner[1] + HEIGHT - _BOTTOM
    y_range = _y_range(panel.lines)

    def place(x, y):
        across = (np.asarray(x) - x_range[0]) / (x_range[1] - x_range[0])
        up = (np.asarray(y) - y_range[0]) / (y_range[1] - y_range[0])
        points = np.stack([left + across * (right - left), bottom - up * (bottom - top)], -1)
        return points * _SCALE

    for value in ticks(*y_range, 5):
        points = place(x_range, [value, value])
        draw.line([*map(tuple, points)], fill=_GRID, width=_SCALE)
        at = points[0] - (8 * _SCALE, 0)
        draw.text(tuple(at), label(value), font=_font(12), fill=_MUTED, anchor="rm")
    for value in ticks(*x_range, 5):
        at = place(value, y_range[0]) + (0, 7 * _SCALE)
        draw.text(tuple(at), label(value), font=_font(12), fill=_MUTED, anchor="mt")
    draw.line([*map(tuple, place(x_range, [y_range[0]] * 2))], fill=_MUTED, width=_SCALE)
    for line in panel.lines:
        colour = _colour(line.colour)
        if line.noisy and len(line.x) > smooth_above:
            pale = tuple(round(255 - 0.35 * (255 - c)) for c in colour)
            _draw_line(draw, place(line.x, line.y), pale, 1, False)
            _draw_line(draw, place(line.x, running_mean(line.y)), colour, 2, line.dashed)
        else:
            _draw_line(draw, place(line.x, line.y), colour, 2, line.dashed)
    draw.text(((corner[0] + 14) * _SCALE, (corner[1] + 10) * _SCALE), panel.title, font=_font(15), fill=_INK)
    if x_label:
        at = ((left + right) / 2 * _SCALE, (corner[1] + HEIGHT - 6) * _SCALE)
        draw.text(at, x_label, font=_font(12), fill=_MUTED, anchor="mb")
    _draw_key(draw, panel.lines, right, corner[1] + 19)


def _draw_key(draw, lines, right, y):
    named = {line.name: line for line in lines if line.name}
    for name, line in reversed(named.items()):
        width = _font(12).getlength(name) / _SCALE
        draw.text(((right - width) * _SCALE, y * _SCALE), name, font=_font(12), fill=_MUTED, anchor="lm")
        ends = np.array([[right - width - 32, y], [right - width - 6, y]]) * _SCALE
        alone = len({other.colour for other in lines}) == 1
        _draw_line(draw, ends, _colour(line.colour) if alone else _MUTED, 2, line.dashed)
        right -= width + 46


def _y_range(lines) -> tuple[float, float]:
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    low, high = min(0.0, *values.tolist(), 0.0), max(0.0, *values.tolist(), 0.0)
    return low, high + 0.05 * (high - low) if high > low else low + 1.0


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean around each point, over a fiftieth of all points; NaN is left out of means and stays NaN.

    Args:
        values: float [N].

    Returns:
        float [N].
    """
    half = len(values) // 100
    known = np.isfinite(values)
    sums = np.cumsum(np.concatenate([[0.0], np.where(known, values, 0.0)]))
    counts = np.cumsum(np.concatenate([[0], known]))
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    mean = (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1)
    return np.where(known, mean, np.nan)


def _draw_line(draw, points, colour, width, dashed):
    """Draws a line through points [N, 2] of the large picture; a single point is a dot or a ring."""
    known = np.isfinite(points).all(1)
    for part in np.split(np.arange(len(points)), np.flatnonzero(np.diff(known)) + 1):
        if not known[part[0]]:
            continue
        if len(part) == 1:
            (x, y), radius = points[part[0]], 3 * _SCALE
            fill = None if dashed else colour
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill, colour, width * _SCALE)
            continue
        for piece in _dashes(points[part]) if dashed else [points[part]]:
            draw.line([*map(tuple, piece)], fill=colour, width=width * _SCALE, joint="curve")


def _dashes(points) -> list[np.ndarray]:
    """Cuts a polyline into dashes of equal length."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    on, off = np.array(_DASH) * _SCALE
    pieces = []
    for start in np.arange(0, along[-1], on + off):
        inside = along[(along > start) & (along < start + on)]
        at = np.array([start, *inside, min(start + on, along[-1])])
        pieces.append(np.stack([np.interp(at, along, points[:, k]) for k in (0, 1)], -1))
    return pieces


def _colour(index: int) -> tuple[int, int, int]:
    return COLOURS[index % len(COLOURS)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size * _SCALE)
