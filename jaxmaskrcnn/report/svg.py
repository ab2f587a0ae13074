"""Plots as inline SVG, without a library.

Colours come from the page's style sheet, by classes such as ``c0`` and ``axis``, so that a drawing fits the
light and the dark style. Sizes are in CSS pixels.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from jaxmaskrcnn.report.axes import label, ticks

_CHAR = 6.2  # width of a character of an axis label


class Plot:
    """A plot with two linear axes.

    Args:
        title: Description of the drawing for screen readers.
        x_label: Label beneath the x axis; if empty, the plot uses its space.
        y_label: Label above the y axis.
        x: Start and end of the x axis.
        y: Start and end of the y axis.
        width: Width of the whole drawing.
        height: Height of the whole drawing.
        num_ticks: Approximate number of ticks of the x and the y axis.

    Example:
        >>> plot = Plot("A line", "step", "loss", x=(0, 10))
        >>> plot.line([0, 10], [1, 0], "c0")
        >>> plot.svg().startswith("<svg")
        True
    """

    def __init__(
        self,
        title: str,
        x_label: str = "",
        y_label: str = "",
        *,
        x: tuple[float, float] = (0.0, 1.0),
        y: tuple[float, float] = (0.0, 1.0),
        width: int = 420,
        height: int = 300,
        num_ticks: tuple[int, int] = (5, 5),
    ):
        self._title, self._x, self._y = title, x, y
        self._width, self._height = width, height
        marks = [(value, label(value)) for value in ticks(*y, num_ticks[1])]
        self._left = 10 + _CHAR * max(len(text) for _, text in marks)
        self._right, self._top = width - 14, 24 if y_label else 10
        self._bottom = height - (42 if x_label else 22)
        self._parts: list[str] = []
        for value, text in marks:
            at = self._to_y(value)
            self._parts.append(
                f'<line class="grid" x1="{self._left:.1f}" x2="{self._right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            self.text(self._left - 6, at + 4, text, anchor="end")
        for value in ticks(*x, num_ticks[0]):
            self.text(self._to_x(value), self._bottom + 16, label(value), anchor="middle")
        if x_label:
            self.text((self._left + self._right) / 2, height - 8, x_label, anchor="middle")
        if y_label:
            self.text(self._left - 6, 14, y_label)

    def _to_x(self, value: float) -> float:
        low, high = self._x
        return self._left + (value - low) / (high - low) * (self._right - self._left)

    def _to_y(self, value: float) -> float:
        low, high = self._y
        return self._bottom - (value - low) / (high - low) * (self._bottom - self._top)

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str, *, dashed: bool = False) -> None:
        """Adds a line through points; it is interrupted where a value is NaN."""
        commands, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if np.isnan(x) or np.isnan(y):
                pen = "M"
                continue
            commands.append(f"{pen}{self._to_x(x):.1f} {self._to_y(y):.1f}")
            pen = "L"
        dash = " dashed" if dashed else ""
        self._parts.append(f'<path class="line {style}{dash}" d="{"".join(commands)}"/>')

    def bar(self, left: float, right: float, low: float, high: float, style: str, hint: str) -> None:
        """Adds a bar between two x and two y values, with a tooltip."""
        x0, x1, y0, y1 = self._to_x(left) + 1, self._to_x(right) - 1, self._to_y(high), self._to_y(low)
        self._parts.append(
            f'<rect class="{style}" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" '
            f'height="{max(y1 - y0, 0):.1f}"><title>{escape(hint)}</title></rect>'
        )

    def dot(self, x: float, y: float, radius: float, style: str, hint: str) -> None:
        """Adds a dot at a point, with a radius in pixels of at most 12 and a tooltip."""
        self._parts.append(
            f'<circle class="{style} dot" cx="{self._to_x(x):.1f}" cy="{self._to_y(y):.1f}" '
            f'r="{min(radius, 12):.1f}"><title>{escape(hint)}</title></circle>'
        )

    def text(self, x: float, y: float, text: str, *, anchor: str = "start") -> None:
        """Adds text at a position of the drawing."""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def svg(self) -> str:
        """The finished drawing."""
        axis = (
            f'<line class="axis" x1="{self._left:.1f}" x2="{self._right}" '
            f'y1="{self._bottom}" y2="{self._bottom}"/>'
        )
        return drawing(self._title, self._width, self._height, "".join(self._parts) + axis)


def drawing(title: str, width: float, height: float, parts: str) -> str:
    """An SVG element that shrinks with the page."""
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">{parts}</svg>'
    )


def heatmap(title: str, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """A table of counts, each cell as dark as its share of its row.

    Args:
        title: Description of the drawing for screen readers.
        matrix: int [R, C], not negative.
        rows: R names.
        columns: C names.

    Returns:
        SVG, with numbers if there are at most 21 columns, otherwise with small cells with tooltips.
    """
    small = len(columns) > 21
    cell = 11 if small else 40
    short = [_shorten(name, 16) for name in (*rows, *columns)]
    margin = 12 + (5.6 if small else 6.6) * max(13, *map(len, short))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    parts = [
        f'<g class="{"tiny" if small else "cells"}"><text x="0" y="12">detected as →</text>'
        '<text x="0" y="28">object ↓</text>'
    ]
    for i, name in enumerate(short[: len(rows)]):
        y = margin + (i + 0.5) * cell + 4
        parts.append(f'<text x="{margin - 6:.1f}" y="{y:.1f}" text-anchor="end">{escape(name)}</text>')
    for j, name in enumerate(short[len(rows) :]):
        x, y = margin + (j + 0.5) * cell + 4, margin - 6
        parts.append(f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)">{escape(name)}</text>')
    for (i, j), count in np.ndenumerate(matrix):
        x, y = margin + j * cell, margin + i * cell
        if not count:
            if not small:
                parts.append(
                    f'<rect class="empty" x="{x:.1f}" y="{y:.1f}" width="{cell - 1}" height="{cell - 1}"/>'
                )
            continue
        hint = f"{rows[i]} detected as {columns[j]}: {count}"
        parts.append(
            f'<rect class="cell" fill-opacity="{0.12 + 0.88 * shares[i, j]:.2f}" x="{x:.1f}" y="{y:.1f}" '
            f'width="{cell - 1}" height="{cell - 1}"><title>{escape(hint)}</title></rect>'
        )
        if not small:
            dark = ' class="on"' if shares[i, j] > 0.8 else ""
            parts.append(
                f'<text{dark} x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" text-anchor="middle">'
                f"{label(count) if count > 9999 else count}</text>"
            )
    parts.append(
        f'<rect class="frame" x="{margin - 1:.1f}" y="{margin - 1:.1f}" '
        f'width="{len(columns) * cell + 1}" height="{len(rows) * cell + 1}"/></g>'
    )
    return drawing(title, margin + len(columns) * cell + 2, margin + len(rows) * cell + 2, "".join(parts))


def _shorten(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
