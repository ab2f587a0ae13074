"""Pictures of detections: translucent masks, outlines, and labels that do not hide each other.

Everything is drawn for a person to look at. A picture whose longer side is below 640 pixels
is enlarged by a whole factor (2 to 4) first, so that outlines and text stay legible; masks
are then smoothed rather than shown in blocks.
"""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.inference.inputs import read_image

LEGIBLE_SIDE = 640  # pictures are enlarged, at most fourfold, until a side reaches this
FILL = 0.35  # opacity of a mask's inside
CROWD = 25  # with more objects than this, labels are smaller and do not repeat a common class


class _Item(NamedTuple):
    """One object to draw; coordinates are those of the picture, not of the original image."""

    box: np.ndarray  # [4]
    mask: np.ndarray | None  # bool [H, W], at the original image's scale
    name: str
    score: float | None
    colour: tuple[int, int, int]


def draw_detections(
    image: Any,
    out: Mapping[str, Any],
    class_names: Mapping[int, str] | Sequence | None = None,
    *,
    score_threshold: float = 0.0,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> Image.Image:
    """Draws masks (or boxes, where there are none), with class names and scores.

    Args:
        image: Path, PIL image or uint8 RGB array [H, W, 3].
        out: What ``Predictor`` returns for it, in any of its mask formats. Without
            ``scores`` (for ground truth) only names are written.
        class_names: Names by category id (a mapping), a model's ``categories``, or a list
            indexed by label. None writes the ids. An object with an empty name and no score gets
            no label.
        score_threshold: Detections below it are left out.
        colours: RGB of each object; None gives each its own.

    Returns:
        An RGB picture: the size of the image, or a whole multiple of it for a small image.
        An object has the same colour at any ``score_threshold``.

    Example:
        >>> out = {"boxes": [[8, 8, 50, 40]], "scores": [0.9], "labels": [1]}
        >>> draw_detections(np.zeros((48, 64, 3), np.uint8), out, {1: "cat"}).size
        (256, 192)
    """
    image = Image.fromarray(read_image(image))
    scale = int(np.clip(-(-LEGIBLE_SIDE // max(image.size)), 1, 4))
    picture = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    line = max(2, round(max(picture.size) / 420))
    items = _items(out, class_names, score_threshold, scale, colours)

    canvas = np.asarray(picture).astype(np.float32)
    # Large objects first: what covers others goes beneath them.
    for item in sorted(items, key=lambda item: -np.prod(item.box[2:] - item.box[:2])):
        if item.mask is not None and item.mask.any():
            _draw_mask(canvas, item.mask, scale, line, item.colour)
        else:
            _draw_box(canvas, item.box, line, item.colour)
    picture = Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))
    _draw_labels(picture, items, scale, line)
    return picture


def _items(out, class_names, score_threshold, scale, colours) -> list[_Item]:
    names, scores, masks = _names(class_names), out.get("scores"), out.get("masks")
    boxes = np.asarray(out["boxes"], np.float32).reshape(-1, 4) * scale
    items = []
    for i, box in enumerate(boxes):
        if scores is not None and scores[i] < score_threshold:
            continue
        label = int(out["labels"][i])
        mask = None if masks is None else _binary(masks[i])
        score = None if scores is None else float(scores[i])
        colour = _colour(i) if colours is None else tuple(colours[i])
        items.append(_Item(box, mask, names.get(label, f"class {label}"), score, colour))
    return items


def _names(class_names) -> Mapping[int, str]:
    if class_names is None:
        return {}
    if isinstance(class_names, Mapping):
        return class_names
    if len(class_names) and not isinstance(class_names[0], str):  # (id, name) pairs
        return dict(class_names)
    return dict(enumerate(class_names))


def _binary(mask) -> np.ndarray:
    if isinstance(mask, Mapping):
        counts = mask["counts"]
        return decode_mask(counts.encode("ascii") if isinstance(counts, str) else counts, *mask["size"]).T
    return np.asarray(mask) > 0.5  # bool or probabilities


def _colour(i: int) -> tuple[int, int, int]:
    """Colour of the object number i; the golden ratio keeps neighbouring numbers far apart in hue."""
    hue = (0.58 + i * 0.618034) % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (1.0, 0.85))[(i // 3) % 3]
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))


def _draw_mask(canvas, mask, scale, line, colour):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # Only the object's surroundings are touched: hundreds of objects stay cheap.
    margin = 2 + 2 * line // scale
    y0, y1 = max(rows[0] - margin, 0), min(rows[-1] + 1 + margin, mask.shape[0])
    x0, x1 = max(columns[0] - margin, 0), min(columns[-1] + 1 + margin, mask.shape[1])
    shape = Image.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255)
    shape = shape.resize((shape.width * scale, shape.height * scale), Image.Resampling.BICUBIC)

    # A straight edge blurred with a Gaussian of sigma has the value Phi(d / sigma) at the
    # distance d inside of it. Where the blurred mask crosses such a value runs a smooth,
    # rounded curve at that distance, and its slope tells how to fade over a single pixel.
    soft = 0.75 * scale
    inside = _fade(_blur(shape, soft), 0.5, soft / 0.399)
    blurred = _blur(shape, line)
    core = _fade(blurred, 0.841, line / 0.242)  # a whole line inside of the edge
    halo = _fade(blurred, 0.309, line / 0.352)  # half a line outside of it

    window = canvas[y0 * scale : y1 * scale, x0 * scale : x1 * scale]
    # The dark halo separates the outline from a background of the same colour.
    window *= 1 - 0.45 * halo * (1 - inside)
    window += (FILL * np.minimum(core, inside) + np.maximum(inside - core, 0)) * (np.float32(colour) - window)


def _blur(image, sigma) -> np.ndarray:
    blurred = image.filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred, np.float32)[..., None] / 255


def _fade(blurred, level, steepness) -> np.ndarray:
    return np.clip((blurred - level) * steepness + 0.5, 0, 1)


def _draw_box(canvas, box, line, colour):
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
    canvas[y0 : y0 + line, x0:x1] = colour
    canvas[max(y1 - line, y0) : y1, x0:x1] = colour
    canvas[y0:y1, x0 : x0 + line] = colour
    canvas[y0:y1, max(x1 - line, x0) : x1] = colour


def _draw_labels(picture, items, scale, line):
    draw = ImageDraw.Draw(picture)
    size = float(np.clip(max(picture.size) / 50, 13, 64))
    if len(items) > CROWD:
        size = max(11.0, size * 0.75)
    font = ImageFont.load_default(size=size)
    pad = max(2, round(size / 6))
    height = sum(font.getmetrics()) + pad
    texts, title = _texts(items)
    boxes = np.array([item.box for item in items]).reshape(-1, 4)
    chips = []
    if title:
        chips.append((0, 0, round(font.getlength(title)) + 2 * pad, height))
    labelled = [(item, text) for item, text in zip(items, texts, strict=True) if text]
    for item, text in labelled:
        width = min(round(font.getlength(text)) + 2 * pad, picture.width)
        points = _anchors(item, scale, width)
        chip = _place(points, (width, height), picture.size, boxes, chips, line)
        chips.append(chip)
        # A label that had to move away stays tied to its object; all ties run beneath the labels.
        x, y = points[0]
        end = (float(np.clip(x, chip[0], chip[2])), float(np.clip(y, chip[1], chip[3])))
        if np.hypot(end[0] - x, end[1] - y) > height:
            draw.line((x, y, *end), fill=item.colour, width=line)
    texts, colours = [text for _, text in labelled], [item.colour for item, _ in labelled]
    if title:
        texts, colours = [title, *texts], [(40, 40, 40), *colours]
    for text, colour, (x0, y0, x1, y1) in zip(texts, colours, chips, strict=True):
        draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius=pad, fill=colour)
        dark = np.dot(colour, (0.299, 0.587, 0.114)) > 130
        draw.text((x0 + pad, y0 + pad // 2), text, font=font, fill=(0, 0, 0) if dark else (255, 255, 255))


def _texts(items) -> tuple[list[str], str]:
    """What stands at every object, and at the picture's corner where a crowd has one class."""
    texts = [item.name if item.score is None else f"{item.name} {item.score:.2f}".strip() for item in items]
    names = {item.name for item in items}
    if len(items) <= CROWD or len(names) > 1 or items[0].score is None:
        return texts, ""
    return [f"{item.score:.2f}" for item in items], f"{len(items)} x {names.pop()}"


def _anchors(item, scale, width) -> np.ndarray:
    """Points [3, 2] (x, y) where a label can hang: the object's top, bottom, and a point inside."""
    x0, y0, x1, y1 = item.box
    if item.mask is None or not item.mask.any():
        x = x0 + width / 2  # a label begins where its box does
        return np.array([[x, y0], [x, y1], [(x0 + x1) / 2, (y0 + y1) / 2]])
    counts = item.mask.sum(1)
    rows = np.flatnonzero(counts)
    middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    points = []
    for row, below in ((rows[0], 0), (rows[-1], 1), (middle, 0.5)):
        columns = np.flatnonzero(item.mask[row])
        points.append(((columns[len(columns) // 2] + 0.5) * scale, (row + below) * scale))
    return np.array(points)


def _place(points, size, picture_size, boxes, taken, line) -> tuple[int, ...]:
    """The box of a label where it hides least of other labels and of small objects."""
    width, height = size
    (top_x, top_y), (bottom_x, bottom_y), (x, y) = points
    shifts = (-0.5, -0.15, -0.85, 0.15, -1.15)
    places = [(top_x + s * width, top_y - line - height) for s in shifts]
    places += [(bottom_x + s * width, bottom_y + line) for s in shifts]
    places += [(x - width / 2, y - height / 2)]
    for step in range(1, 7):  # further and further away
        places += [(top_x + s * width, top_y - line - height * (1 + 1.1 * step)) for s in shifts]
        places += [(bottom_x + s * width, bottom_y + line + height * 1.1 * step) for s in shifts]
    limit = np.maximum(np.array(picture_size) - size, 0)
    corners = np.round(np.clip(np.array(places), 0, limit))
    chips = np.concatenate([corners, corners + size], 1)
    hidden_labels = _overlap(chips, np.array(taken).reshape(-1, 4)).sum(1) / (width * height)
    # By share of the object: a label on a small object hides it, on a large one it does not matter.
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], 1), 1)
    hidden_objects = (_overlap(chips, boxes) / area).sum(1)
    centre = corners + np.array(size) / 2
    away = np.abs(centre - points[0]).max(1) / (8 * height)
    best = np.argmin(4 * hidden_labels + hidden_objects + 0.3 * away)
    return tuple(int(v) for v in chips[best])


def _overlap(a, b) -> np.ndarray:
    """Intersection areas [N, M] of boxes [N, 4] and [M, 4]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.prod(np.maximum(sides, 0), -1)
