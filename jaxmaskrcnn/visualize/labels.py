"""Labels of objects: they hide neither each other nor the objects, and follow the crowd around each of them.

A label is shorter where many objects are near, and left out where it would hide too much of other objects or
where labels cover too much of the neighbourhood. Elsewhere in the same picture labels are complete.

Shape legend: N objects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmaskrcnn.visualize.fonts import font_of
from jaxmaskrcnn.visualize.style import Style, apparent_side

CROWD = 25  # in pictures with more objects than this, text is smaller
NEIGHBOURS = 12  # where more objects than this are near, labels are shorter
HIDDEN = 0.4  # the most that a label hides of others: the sum of the hidden shares of their boxes
COVERED = 0.25  # share of a neighbourhood that labels cover at most
_NEAR, _AROUND = 6, 8  # in heights of a label: where others are near, and half the side of a neighbourhood
_DARK = (40, 40, 40)


def draw_labels(picture: Image.Image, items: Sequence[Any], scale: float, line: int, style: Style) -> None:
    """Draws the names and scores of objects, the first ones first.

    Args:
        picture: RGB; it is drawn on.
        items: The objects, as `drawing` has them.
        scale: Size of the picture over that of the image.
        line: Width of lines in pixels.
        style: How labels look.
    """
    size = float(np.clip(apparent_side(picture.size) / 50, 13, 64))
    if len(items) > CROWD:
        size = max(11.0, size * 0.75)
    size *= style.text_scale
    fonts = {name: font_of(name, size, style.font) for name in {item.name for item in items}}
    plain = font_of("0", size, style.font)
    assert plain is not None  # Pillow's has digits
    pad = max(2, round(size / 6))
    heights = [sum(font.getmetrics()) + pad for font in (plain, *fonts.values()) if font is not None]
    height = min(max(heights), picture.height)

    def font_for(item: Any) -> ImageFont.FreeTypeFont:
        return fonts[item.name] or plain

    def width(text: str, font: ImageFont.FreeTypeFont) -> int:
        return min(round(font.getlength(text)) + 2 * pad, picture.width)

    boxes = np.array([item.box for item in items]).reshape(-1, 4)
    crowded = _crowded(boxes, height)
    names = {item.name for item in items}
    one = names.pop() if len(names) == 1 and len(items) > CROWD else ""
    # Of a crowd of one class the name is written once, and the labels have the scores.
    title = _title(items, one, fonts) if len(items) > CROWD or crowded.any() else ""
    labels: list[tuple[str, Any, tuple[int, int, int], tuple[int, int, int, int]]] = []
    if title:
        font = fonts[one] or plain if one else plain
        labels.append((title, font, _DARK, (0, 0, width(title, font), height)))
    draw = ImageDraw.Draw(picture)
    for i, item in enumerate(items):
        font = font_for(item)
        for text in _texts(item, fonts[item.name] is not None, one, bool(crowded[i])):
            side = (width(text, font), height)
            points = _anchors(item, scale, side[0])
            chip = _place(points, side, picture.size, boxes, [label[-1] for label in labels], line, i)
            if (
                chip is None
                or _covered(chip, [label[-1] for label in labels], height, picture.size) > COVERED
            ):
                continue
            ends = np.clip(points, chip[:2], chip[2:])
            away = np.hypot(*(ends - points).T)
            nearest = int(np.argmin(away))
            if crowded[i] and away[nearest] > height:  # lines through a crowd hide it too
                continue
            labels.append((text, font, item.colour, chip))
            # A label that had to move away is connected to its object by a line. All lines are drawn before
            # the labels.
            if away[nearest] > height:
                draw.line((*points[nearest], *ends[nearest]), fill=item.colour, width=line)
            break
    for text, font, colour, (x0, y0, x1, y1) in labels:
        draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius=pad, fill=colour)
        dark = np.dot(colour, (0.299, 0.587, 0.114)) > 130
        draw.text((x0 + pad, y0 + pad // 2), text, font=font, fill=(0, 0, 0) if dark else (255, 255, 255))


def _crowded(boxes: np.ndarray, height: int) -> np.ndarray:
    """bool [N]: objects with many others near to them."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    crowded = np.zeros(len(boxes), bool)
    for i, centre in enumerate(centres):  # row by row, as N x N numbers of a thousand objects are many
        near = np.abs(centres - centre).max(1) < _NEAR * height
        crowded[i] = near.sum() > NEIGHBOURS + 1
    return crowded


def _title(items: Sequence[Any], one: str, fonts: dict) -> str:
    if one and fonts[one] is not None:
        return f"{len(items)} x {one}"
    return f"{len(items)} objects" if any(item.name or item.score is not None for item in items) else ""


def _texts(item: Any, drawable: bool, one: str, crowded: bool) -> list[str]:
    """The texts of an object's label, the longest first; the next one is tried where there is no room."""
    name = "" if one else item.name
    if name and not drawable:  # no font has its characters
        name = str(item.label)
    number = f"#{item.number}" if item.number else ""
    score = "" if item.score is None else f"{item.score:.2f}"
    whole = " ".join(part for part in (name, number, score) if part)
    # The class is more important than the score, so scores are dropped first.
    short = " ".join(part for part in (name, number) if part) or score
    texts = [short] if crowded else [whole, short]
    if number and number != short:
        texts.append(number)
    return [text for text in dict.fromkeys(texts) if text]


def _covered(
    chip: tuple[int, int, int, int], others: Sequence[Any], height: int, size: tuple[int, int]
) -> float:
    """The share of the neighbourhood of a label that labels cover, this one among them."""
    x, y = (chip[0] + chip[2]) / 2, (chip[1] + chip[3]) / 2
    reach = max(_AROUND * height, (chip[2] - chip[0]) * 0.75)
    window = np.array([[x - reach, y - reach, x + reach, y + reach]])
    window = np.clip(window, 0, [*size, *size])
    covered = _overlap(window, np.array([chip, *others], float)).sum()
    return float(covered / np.prod(window[0, 2:] - window[0, :2]))


def _anchors(item, scale, width) -> np.ndarray:
    """Points [3, 2] (x, y) that a label can be attached to: the object's top, bottom, and a point inside."""
    x0, y0, x1, y1 = item.box
    if item.mask is None or not item.mask.size:
        x = x0 + width / 2  # a label begins where its box does
        return np.array([[x, y0], [x, y1], [(x0 + x1) / 2, (y0 + y1) / 2]])
    counts, (top, left) = item.mask.sum(1), item.corner
    middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    points = []
    for row, below in ((0, 0), (len(counts) - 1, 1), (middle, 0.5)):
        columns = np.flatnonzero(item.mask[row])
        points.append(((left + columns[len(columns) // 2] + 0.5) * scale, (top + row + below) * scale))
    return np.array(points)


def _place(points, size, picture_size, boxes, taken, line, own) -> tuple[int, int, int, int] | None:
    """Find a box for the label of an object that hides no other label and little of other objects."""
    width, height = size
    (top_x, top_y), (bottom_x, bottom_y), (x, y) = points
    shifts = (-0.5, -0.15, -0.85, 0.15, -1.15)
    places = [(top_x + s * width, top_y - line - height) for s in shifts]
    places += [(bottom_x + s * width, bottom_y + line) for s in shifts]
    places += [(x - width / 2, y - height / 2)]
    for step in range(1, 7):  # at increasing distances
        places += [(top_x + s * width, top_y - line - height * (1 + 1.1 * step)) for s in shifts]
        places += [(bottom_x + s * width, bottom_y + line + height * 1.1 * step) for s in shifts]
    limit = np.maximum(np.array(picture_size) - size, 0)
    corners = np.round(np.clip(np.array(places), 0, limit))
    chips = np.concatenate([corners, corners + size], 1)
    free = ~(_overlap(chips, np.array(taken).reshape(-1, 4)) > 0).any(1)
    if not free.any():
        return None
    # Hidden areas count as shares of the object: a label hides a small object, but not a large one.
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], 1), 1)
    hidden = _overlap(chips, boxes) / area
    hidden_objects = hidden.sum(1)
    free &= hidden_objects - hidden[:, own] <= HIDDEN
    if not free.any():
        return None
    centre = corners + np.array(size) / 2
    away = np.abs(centre - points[0]).max(1) / (8 * height)
    best = np.argmin(np.where(free, hidden_objects + 0.3 * away, np.inf))
    x0, y0, x1, y1 = (int(v) for v in chips[best])
    return x0, y0, x1, y1


def _overlap(a, b) -> np.ndarray:
    """Intersection areas [N, M] of boxes [N, 4] and [M, 4]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.prod(np.maximum(sides, 0), -1)
