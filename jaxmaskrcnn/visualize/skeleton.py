"""Keypoints of objects in a picture, with the lines of their skeleton.

Shape legend: K keypoints.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import ImageDraw

SHOWN_SCORE = 0.05  # keypoints of detections with a score that is not higher are not shown
_DARK, _LIGHT = (20, 20, 20), (255, 255, 255)


def draw_skeleton(
    draw: ImageDraw.ImageDraw,
    points: Any,
    lines: Sequence[tuple[int, int]],
    colour: tuple[int, int, int],
    line: int,
    threshold: float,
) -> None:
    """Draws one object's keypoints as dots, and its lines between keypoints that are both drawn.

    Args:
        draw: Of the picture, which is changed.
        points: float [K, 3], x and y in pixels of the picture, and a score or visibility.
        lines: Pairs of numbers of keypoints.
        colour: RGB of the object.
        line: Width of outlines in this picture, in pixels.
        threshold: Keypoints with a score or visibility that is not higher are left out.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    shown = points[:, 2] > threshold
    places = [(float(x), float(y)) for x, y, _ in points]
    # A light line with a dark rim can be seen on anything.
    for width, ink in ((line + 2, _DARK), (line, colour)):
        for first, last in lines:
            if max(first, last) < len(points) and shown[first] and shown[last]:
                draw.line([places[first], places[last]], fill=ink, width=width)
    radius = max(2.0, 1.2 * line)
    for place in (place for place, is_shown in zip(places, shown, strict=True) if is_shown):
        for size, ink in ((radius + 1, _DARK), (radius, _LIGHT), (radius - 1, colour)):
            x, y = place
            draw.ellipse([x - size, y - size, x + size, y + size], fill=ink)
