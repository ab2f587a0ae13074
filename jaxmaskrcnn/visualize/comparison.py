"""Pictures of annotations and detections side by side.

Shape legend: H, W height and width of an image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmaskrcnn.data.coco.annotations import parse_annotations
from jaxmaskrcnn.data.coco.load import load_json
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.skeleton import has_keypoints
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.visualize.colours import ColourTracker
from jaxmaskrcnn.visualize.drawing import PLAIN, draw_detections
from jaxmaskrcnn.visualize.style import Style, apparent_side

OF_IMAGE = ("panoptic", "segments")  # what results of panoptic models have that is not of one object
TITLES = ("annotated", "detected")
_PAPER, _INK = (255, 255, 255), (60, 60, 60)
_WIDE = 2.0  # pictures are placed one above the other if their width exceeds their height by this factor


def draw_comparison(
    image: Any,
    truth: Mapping[str, Any],
    out: Mapping[str, Any],
    class_names: Mapping[int, str] | Sequence | None = None,
    *,
    score_threshold: float = 0.0,
    colour_by: str = "object",
    long_side: int | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    style: Style = PLAIN,
) -> Image.Image:
    """Draws annotations and detections of one image side by side.

    A detection has the colour of the annotated object of its class in the same place, so that missed
    objects, duplicates and false detections can be seen at a glance.

    Args:
        image: As in ``draw_detections``.
        truth: Annotations in the form of ``Predictor``'s results: ``boxes``, ``labels`` and optionally
            ``masks``; `Truth` reads them from a COCO json.
        out: The result of ``Predictor`` for the image.
        class_names: As in ``draw_detections``.
        score_threshold: Detections below it are left out.
        colour_by: As in ``draw_detections``.
        long_side: Long side of each of the two pictures, in pixels.
        skeleton: As in ``draw_detections``.
        style: As in ``draw_detections``.

    Returns:
        An RGB picture with the annotations on the left, or above if the image is very wide.

    Example:
        >>> truth = {"boxes": [[8, 8, 50, 40]], "labels": [1]}
        >>> out = {**truth, "scores": [0.9]}
        >>> draw_comparison(np.zeros((48, 64, 3), np.uint8), truth, out, {1: "cat"}).size
        (523, 214)
    """
    if "scores" in out:
        keep = np.flatnonzero(np.asarray(out["scores"]) >= score_threshold)
        out = {
            # Arrays stay arrays, which have their shape without any detection too.
            key: np.asarray(values)[keep] if key != "masks" else [values[i] for i in keep]
            for key, values in out.items()
            if key not in OF_IMAGE
        }
    tracker = ColourTracker() if colour_by == "object" else None
    options = {"colour_by": colour_by, "long_side": long_side, "skeleton": skeleton, "style": style}
    pictures = [
        draw_detections(image, side, class_names, colours=tracker and tracker(side), **options)
        for side in (truth, out)
    ]
    return _arrange(
        pictures, [f"{t}: {len(side['labels'])}" for t, side in zip(TITLES, (truth, out), strict=True)]
    )


def _arrange(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    width, height = pictures[0].size
    font = ImageFont.load_default(size=float(np.clip(apparent_side((width, height)) / 50, 14, 64)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # because a size is given
    strip = sum(font.getmetrics()) + 4
    gap = max(8, strip // 2)
    right, down = (0, height + strip + gap) if width > _WIDE * height else (width + gap, 0)
    sheet = Image.new("RGB", (width + right, strip + height + down), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        draw.text((4 + i * right, i * down), title, font=font, fill=_INK)
        sheet.paste(picture, (i * right, strip + i * down))
    return sheet


def annotated_result(
    image: AnnotatedImage, categories: Sequence[Category]
) -> tuple[dict[str, Any], dict[int, str]]:
    """Convert an image's annotations to the form of a prediction.

    Args:
        image: The annotated image.
        categories: Categories of the json, in the order of the objects' labels.

    Returns:
        ``boxes``, ``labels``, if every object has a mask, ``masks``, and if any has keypoints, ``keypoints``
        [G, K, 3] with the visibility; and the names of the labels. A crowd region has a label and a name
        of its own.
    """
    crowd = {c.id: max(c.id for c in categories) + 1 + k for k, c in enumerate(categories)}
    names = {c.id: c.name for c in categories} | {crowd[c.id]: f"{c.name} (crowd)" for c in categories}
    ids = [categories[item.label].id for item in image.objects]
    result: dict[str, Any] = {
        "boxes": [item.box for item in image.objects],
        "labels": [crowd[i] if item.crowd else i for i, item in zip(ids, image.objects, strict=True)],
    }
    if image.objects and all(item.counts for item in image.objects):
        size = [image.height, image.width]
        result["masks"] = [{"size": size, "counts": item.counts} for item in image.objects]
    points = Keypoints.read({"keypoints": [item.keypoints for item in image.objects]}, (0, 0)).points
    if points.size:
        result["keypoints"] = points
    return result, names


class Truth:
    """The annotations of image files, by their paths.

    Args:
        path: Path of a COCO json.

    Attributes:
        categories: In ascending order of id.
        listed: The same categories in the order of the json's list.

    Raises:
        UserError: The json cannot be read or has a problem.
    """

    def __init__(self, path: Path):
        self._path = path
        content = load_json(path)
        self._annotations = parse_annotations(
            content, path, None, Problems("stop"), masks=False, keypoints=has_keypoints(content)
        )
        self.categories, self.listed = self._annotations.categories, self._annotations.listed
        self._by_name: dict[str, list[AnnotatedImage]] = {}
        for image in self._annotations.images:
            self._by_name.setdefault(Path(image.file_name).name, []).append(image)

    def find(self, path: Path) -> tuple[dict[str, Any], dict[int, str]]:
        """`annotated_result` of an image file.

        Raises:
            UserError: The json has no image of this name, or more than one.
        """
        found = self._by_name.get(path.name, [])
        if len(found) > 1:  # the folders in file_name may distinguish them
            found = [image for image in found if path.as_posix().endswith(f"/{image.file_name}")]
        if len(found) != 1:
            raise UserError(
                f"{self._path} has {len(found) or 'no'} image{'s' * (len(found) > 1)} {path.name}; give the "
                "annotations of all images, or leave out --annotations."
            )
        return annotated_result(found[0], self._annotations.categories)
