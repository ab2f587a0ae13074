"""Pictures for a page: annotations beside detections, with right and wrong in two colours."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.report.errors import KINDS, ImageErrors
from jaxmaskrcnn.report.matches import Match, Sample
from jaxmaskrcnn.visualize.drawing import draw_detections
from jaxmaskrcnn.visualize.labels import CROWD

# Blue and orange, which people with any colour vision can distinguish.
RIGHT, WRONG, UNSCORED = (64, 160, 255), (255, 128, 0), (150, 150, 150)
SIDE = 800  # longest side in pixels; two pictures side by side are still sharp
# The report does not know the model's setting; percentiles make pictures of any range visible.
SHOWN = PixelConfig(intensity="percentile")
_QUALITY = 82  # JPEG quality


class Pair(NamedTuple):
    """The two pictures of one image, as data URLs of JPEGs, with their size in pixels."""

    truth: str
    detected: str
    width: int
    height: int


def draw_pair(
    image: AnnotatedImage,
    folder: Path,
    sample: Sample,
    match: Match,
    errors: ImageErrors,
    objects: Mapping[int, Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    score_threshold: float,
    pixels: PixelConfig = SHOWN,
    lines: Sequence[tuple[int, int]] = (),
) -> Pair:
    """Draws one image's objects and its detections above a score.

    Args:
        image: The annotated image.
        folder: Folder of the image files.
        sample: The image.
        match: Its matching.
        errors: Its errors.
        objects: By annotation id, ``bbox`` and, if there are such, ``segmentation`` and ``keypoints``.
        detections: All detections.
        names: Names of the classes.
        score_threshold: Detections with a lower score are not drawn, and count as absent.
        pixels: Which page of a file is read, and how its values become uint8.
        lines: Pairs of numbers of keypoints, between which a line is drawn.

    Returns:
        Objects that were found and detections that are right in blue, the others in orange with
        the type of error; crowd regions and detections in them in grey.

    Raises:
        UserError: The image has no file name, or its file is missing, unreadable or of another size.
    """
    picture = _read(image, folder, pixels)
    kept = np.flatnonzero(sample.scores >= score_threshold)
    lost = ~sample.crowd
    lost[match.partner[kept][match.partner[kept] >= 0]] = False
    # If there are many objects of a single class, only errors are labelled.
    plain = names if len(names) > 1 or max(len(kept), len(lost)) <= CROWD else [""]

    truth = []
    for g, identity in enumerate(sample.objects):
        word = "crowd" if sample.crowd[g] else "not found" if lost[g] else ""
        colour = UNSCORED if sample.crowd[g] else WRONG if lost[g] else RIGHT
        truth.append((objects[int(identity)], _text(plain[sample.object_labels[g]], word), colour))
    detected = []
    for d in kept:
        kind = errors.kind[d]
        word = KINDS[kind] if kind >= 0 else "in crowd" if match.ignored[d] else ""
        colour = WRONG if kind >= 0 else UNSCORED if match.ignored[d] else RIGHT
        detected.append((detections[sample.found[d]], _text(plain[sample.labels[d]], word), colour))
    left = _encode(_draw(picture, truth, lines))
    right = _encode(_draw(picture, detected, lines, sample.scores[kept]))
    return Pair(left[0], right[0], *left[1])


def _read(image, folder, pixels) -> np.ndarray:
    if not image.file_name:
        raise UserError(f"Image {image.id} of the annotations has no file_name; add one.")
    path, size = folder / image.file_name, (image.height, image.width)
    name = f"image {image.id} ({path})"
    return decode_image(path, size=size if image.height else None, name=name, pixels=pixels)


def _text(name: str, word: str) -> str:
    return f"{name} ({word})" if name and word else name or word


def _draw(pixels, items, lines, scores=None) -> Image.Image:
    boxes = np.array([entry["bbox"] for entry, _, _ in items], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    out = {"boxes": boxes, "labels": range(len(items))}
    if scores is not None:
        out["scores"] = scores
    if items and all("segmentation" in entry for entry, _, _ in items):
        out["masks"] = [entry["segmentation"] for entry, _, _ in items]
    if items and all("keypoints" in entry for entry, _, _ in items):
        out["keypoints"] = [np.reshape(entry["keypoints"], (-1, 3)) for entry, _, _ in items]
    names = {i: text for i, (_, text, _) in enumerate(items)}
    colours = [colour for _, _, colour in items]
    return draw_detections(pixels, out, names, colours=colours, skeleton=lines)


def _encode(picture) -> tuple[str, tuple[int, int]]:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode(), picture.size
