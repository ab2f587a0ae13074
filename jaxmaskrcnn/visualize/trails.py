"""Draws what tracking adds to a frame: the ways of the objects, and lines and regions with their counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmaskrcnn.visualize.style import apparent_side

_INK, _PAPER = (255, 255, 255), (30, 30, 30)


def draw_trails(
    picture: Image.Image,
    trails: Sequence[np.ndarray],
    colours: Sequence[tuple[int, int, int]],
    scale: float = 1.0,
) -> None:
    """Draws the way that each object has come, which fades towards its beginning.

    Args:
        picture: RGB; it is drawn on.
        trails: Of each object [points, 2] x and y, the present place last.
        colours: RGB of each object.
        scale: Size of the picture over that of the frame.
    """
    width = max(2, round(apparent_side(picture.size) / 300))
    layer = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(layer)
    for trail, colour in zip(trails, colours, strict=True):
        if len(trail) < 2:
            continue
        pen.rectangle((0, 0, *picture.size), fill=0)
        points = [tuple(point) for point in (np.asarray(trail) * scale).tolist()]
        for k, ends in enumerate(zip(points, points[1:], strict=False), 1):
            pen.line(ends, fill=round(60 + 195 * k / (len(points) - 1)), width=width)
        picture.paste(colour, (0, 0), layer)


def draw_counts(
    picture: Image.Image,
    lines: Sequence[Sequence[float]],
    regions: Sequence[Sequence[float]],
    counts: Mapping[str, Any],
    scale: float = 1.0,
) -> None:
    """Draws lines and regions with what was counted there.

    Args:
        picture: RGB; it is drawn on.
        lines: x0, y0, x1, y1 of each line.
        regions: x, y, ... of each region.
        counts: As of `tracking.following.Followed`.
        scale: Size of the picture over that of the frame.
    """
    pen = ImageDraw.Draw(picture)
    width = max(2, round(apparent_side(picture.size) / 400))
    font = ImageFont.load_default(size=float(np.clip(apparent_side(picture.size) / 50, 13, 64)))
    chips = []
    for line, (right, left) in zip(lines, counts.get("lines", ()), strict=True):
        points = np.reshape(np.asarray(line, float) * scale, (2, 2))
        _outline(pen, points, width)
        # An arrow to the right, on which objects are counted that cross in its direction.
        along = (points[1] - points[0]) / max(np.hypot(*(points[1] - points[0])), 1e-9)
        middle, tip = points.mean(0), points.mean(0) + 5 * width * np.array([-along[1], along[0]])
        _outline(pen, np.array([middle, tip]), width)
        chips.append((tip, f"{right} | {left}"))
    for polygon, inside in zip(regions, counts.get("regions", ()), strict=True):
        points = np.reshape(np.asarray(polygon, float) * scale, (-1, 2))
        _outline(pen, np.concatenate([points, points[:1]]), width)
        chips.append((points[np.argmin(points.sum(1))], f"{inside} inside"))
    for (x, y), text in chips:
        _chip(pen, picture.size, x + 2 * width, y + 2 * width, text, font)


def _outline(pen: ImageDraw.ImageDraw, points: np.ndarray, width: int) -> None:
    flat = [tuple(point) for point in points.tolist()]
    pen.line(flat, fill=_PAPER, width=width + 2)
    pen.line(flat, fill=_INK, width=width)


def _chip(pen, size, x, y, text, font) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right + 8, bottom + 6
    x, y = (
        float(np.clip(at, 0, max(0, most - side)))
        for at, most, side in ((x, size[0], width), (y, size[1], height))
    )
    pen.rounded_rectangle((x, y, x + width, y + height), radius=4, fill=_PAPER)
    pen.text((x + 4, y + 2), text, font=font, fill=_INK)
