"""Pictures of detections: translucent masks, outlines, and labels that do not hide each other.

A picture whose longer side is below 640 pixels is first enlarged by a whole factor (2 to 4), so that
outlines and text stay legible; masks are then smoothed and do not appear as blocks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.rle import check_mask_sizes, decode_window
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.visualize.labels import draw_labels
from jaxmaskrcnn.visualize.skeleton import SHOWN_SCORE, draw_skeleton
from jaxmaskrcnn.visualize.style import Style, apparent_side

LEGIBLE_SIDE = 640  # pictures are enlarged, at most fourfold, until a side reaches this
PLAIN = Style()
FILL = 0.35  # opacity of a mask's inside
# Bright, saturated colours, ordered so that each is as far as possible (in CIELAB) from those before it. No
# two are closer than 31; a distance of 2 is just noticeable.
_COLOURS = (
    (25, 140, 255), (25, 255, 25), (255, 25, 25), (102, 255, 236), (255, 25, 255), (153, 134, 0),
    (255, 153, 191), (255, 255, 25), (0, 153, 57), (217, 255, 153), (153, 66, 166), (255, 25, 112),
    (255, 140, 25), (25, 83, 255), (25, 198, 255), (166, 91, 66), (128, 204, 0), (25, 255, 169),
    (0, 153, 134), (255, 198, 25), (140, 25, 255), (255, 153, 255), (166, 66, 104), (255, 25, 169),
)  # fmt: skip


class _Item(NamedTuple):
    """One object to draw; coordinates are those of the picture, not of the original image."""

    box: np.ndarray  # [4]
    mask: np.ndarray | None  # bool [h, w], cropped to the mask, at the original image's scale
    corner: tuple[int, int]  # row and column of the mask's first pixel in the image
    name: str
    score: float | None
    colour: tuple[int, int, int]
    points: np.ndarray | None = None  # [K, 3], x, y and score
    label: int = 0  # the id of its class
    number: int = 0  # its identity in a video; 0 for none


def draw_detections(
    image: Any,
    out: Mapping[str, Any],
    class_names: Mapping[int, str] | Sequence | None = None,
    *,
    score_threshold: float = 0.0,
    colour_by: str = "object",
    long_side: int | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    keypoint_threshold: float = SHOWN_SCORE,
    style: Style = PLAIN,
    before_labels: Callable[[Image.Image, float], None] | None = None,
) -> Image.Image:
    """Draws masks (or boxes, where there are none) and keypoints, with class names and scores.

    Args:
        image: Path, PIL image or uint8 RGB array [H, W, 3]; of arrays with one, two or four channels the
            grey or RGB ones are drawn, and of those with more the largest value of each pixel.
        out: The result of ``Predictor`` for it, in any mask format. Without ``scores`` (for ground
            truth) only names are written.
        class_names: Names by category id (a mapping), a model's ``categories``, or a list
            indexed by label. None writes the ids. An object with an empty name and no score gets
            no label.
        score_threshold: Detections below it are left out.
        colour_by: "object" gives neighbours different colours; "class" gives a class the same
            colour in every picture.
        long_side: Long side of the picture, in pixels. None keeps the size of the image, but enlarges
            a small one by a whole factor.
        colours: RGB of each object; None chooses by ``colour_by``.
        skeleton: Lines between keypoints, ``model.config.keypoints.lines``.
        keypoint_threshold: Keypoints whose score (or visibility) is not higher are left out.
        style: Whether there are labels and boxes, and how large lines and text are.
        before_labels: Called with the picture and its scale to draw what labels lie on; None draws nothing.

    Returns:
        An RGB picture. An object has the same colour at any ``score_threshold``.

    Raises:
        UserError: The image cannot be read or has another size than the masks, or ``colour_by`` is unknown.

    Example:
        >>> out = {"boxes": [[8, 8, 50, 40]], "scores": [0.9], "labels": [1]}
        >>> draw_detections(np.zeros((48, 64, 3), np.uint8), out, {1: "cat"}).size
        (256, 192)
    """
    if colour_by not in ("object", "class"):
        raise UserError(f"colour_by is {colour_by!r}; choose 'object' or 'class'.")
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 2:
        image = image[..., 0]  # grey; what the other channel is, nobody can see
    elif isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] > 4:
        image = image.max(axis=2)  # as microscopists look at a stack
    image = Image.fromarray(read_image(image))
    check_mask_sizes(out.get("masks"), image.height, image.width)
    scale = int(np.clip(-(-LEGIBLE_SIDE // max(image.size)), 1, 4))
    if long_side is not None:
        scale = long_side / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    picture = image.resize(size, Image.Resampling.BICUBIC)
    line = max(2, round(apparent_side(picture.size) / 420))
    if style.check().line_width is not None:
        line = max(1, round(style.line_width or 1))
    items = _items(out, class_names, score_threshold, scale, colour_by == "class", colours)

    canvas = np.array(picture)
    # Large objects are drawn first, so that they do not cover small ones.
    for item in sorted(items, key=lambda item: -np.prod(item.box[2:] - item.box[:2])):
        if item.mask is not None and item.mask.size:
            _draw_mask(canvas, item, image.size, scale, line, style.boxes)
        elif style.boxes:
            _draw_box(canvas, item.box, line, item.colour)
    picture = Image.fromarray(canvas)
    for item in items:
        if item.points is not None:
            pen = ImageDraw.Draw(picture)
            draw_skeleton(pen, item.points, skeleton, item.colour, line, keypoint_threshold)
    if before_labels is not None:
        before_labels(picture, scale)
    if style.labels:
        draw_labels(picture, items, scale, line, style)
    return picture


def _items(out, class_names, score_threshold, scale, by_class, colours) -> list[_Item]:
    names, scores, masks = _names(class_names), out.get("scores"), out.get("masks")
    keypoints, tracks = out.get("keypoints"), out.get("tracks")
    boxes = np.asarray(out["boxes"], np.float32).reshape(-1, 4) * scale
    items = []
    for i, box in enumerate(boxes):
        score = None if scores is None or scores[i] is None else float(scores[i])
        if score is not None and score < score_threshold:
            continue
        label = int(out["labels"][i])
        mask, corner = (None, (0, 0)) if masks is None else _window(masks[i])
        colour = palette_colour(label if by_class else i) if colours is None else tuple(colours[i])
        name, points = names.get(label, f"class {label}"), None
        if keypoints is not None:
            points = np.asarray(keypoints[i], np.float64).reshape(-1, 3) * [scale, scale, 1]
        number = 0 if tracks is None else int(tracks[i])
        items.append(_Item(box, mask, corner, name, score, colour, points, label, number))
    return items


def _names(class_names) -> Mapping[int, str]:
    if class_names is None:
        return {}
    if isinstance(class_names, Mapping):
        return class_names
    if len(class_names) and not isinstance(class_names[0], str):  # (id, name) pairs
        return dict(class_names)
    return dict(enumerate(class_names))


def _window(mask) -> tuple[np.ndarray, tuple[int, int]]:
    """Crops a mask to its pixels, because all masks at the size of a large image would take much memory."""
    if isinstance(mask, Mapping):
        counts = mask["counts"]
        return decode_window(counts.encode("ascii") if isinstance(counts, str) else counts, *mask["size"])
    mask = np.asarray(mask)
    mask = mask if mask.dtype == bool else mask > 0.5  # probabilities
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros((0, 0), bool), (0, 0)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], (int(rows[0]), int(columns[0]))


def palette_colour(i: int) -> tuple[int, int, int]:
    """RGB of colour number i: 24 that are easy to distinguish, then lighter and darker shades of them."""
    towards, share = ((0, 0.0), (255, 0.35), (0, 0.35))[i // len(_COLOURS) % 3]
    red, green, blue = (round(c + share * (towards - c)) for c in _COLOURS[i % len(_COLOURS)])
    return red, green, blue


def _draw_mask(canvas, item, image_size, scale, line, box):
    (top, left), (h, w) = item.corner, item.mask.shape
    height, width = canvas.shape[:2]
    across, down = width / image_size[0], height / image_size[1]
    # Only the area around the object is processed, so that hundreds of objects are drawn quickly.
    margin = math.ceil(2 * scale) + 2 * line
    x0, x1 = max(int(left * across) - margin, 0), min(int((left + w) * across) + margin, width)
    y0, y1 = max(int(top * down) - margin, 0), min(int((top + h) * down) + margin, height)
    # When the picture is reduced, the mask is averaged, so that its edge stays smooth.
    part = np.array([x0 / across, y0 / down, x1 / across, y1 / down])
    reach = math.ceil(2 / min(scale, 1)) + 1  # radius of the bicubic kernel in the mask's pixels
    low = np.maximum(part[:2].astype(int) - reach, 0)
    high = np.minimum(np.ceil(part[2:]).astype(int) + reach, image_size)
    cut = np.zeros((high - low)[::-1], np.uint8)
    cut[top - low[1] : top - low[1] + h, left - low[0] : left - low[0] + w] = item.mask * np.uint8(255)
    part = np.clip(part - [*low, *low], 0, [*(high - low), *(high - low)])
    shape = Image.fromarray(cut)
    shape = shape.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=tuple(part.tolist()))

    # A straight edge blurred with a Gaussian of standard deviation sigma has the value Phi(d / sigma) at the
    # distance d inside of it. The contour line of the blurred mask at that value is therefore a smooth curve
    # at that distance, and the slope there gives the factor for a fade over one pixel. The blur also removes
    # the steps of the edge, which are larger where pixels are enlarged.
    soft = 0.75 if scale < 1 else scale * (0.75 if scale < 2 else 1.0)
    inside = _fade(_blur(shape, soft), 0.5, soft / 0.399)
    if inside.max() < 0.9:  # a mask of a few pixels would hardly be visible
        if box:
            _draw_box(canvas, item.box, line, item.colour)
        return
    blurred = _blur(shape, line)
    core = _fade(blurred, 0.841, line / 0.242)  # the width of a line inside of the edge
    halo = _fade(blurred, 0.309, line / 0.352)  # half the width of a line outside of it

    window = canvas[y0:y1, x0:x1].astype(np.float32)
    # The dark halo separates the outline from a background of the same colour.
    window *= 1 - 0.45 * halo * (1 - inside)
    opacity = FILL * np.minimum(core, inside) + np.maximum(inside - core, 0)
    window += opacity * (np.float32(item.colour) - window)
    canvas[y0:y1, x0:x1] = window + 0.5


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
