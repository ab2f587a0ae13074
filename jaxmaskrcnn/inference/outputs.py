"""Writes the files of ``predict``, each completely or not at all.

Shape legend: H, W height and width of an image.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data.regions import Regions
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.formats import (
    coco_annotations,
    geojson_content,
    instance_legend,
    instance_picture,
    labelme_content,
    save_png,
    segment_legend,
    segment_picture,
)
from jaxmaskrcnn.inference.keypoints import category_entries
from jaxmaskrcnn.inference.tables import PixelSize, Tables, written_tables
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.tracking.following import Followed, TrackingOptions
from jaxmaskrcnn.utils.files import complete_file, write_json
from jaxmaskrcnn.visualize.comparison import Truth, draw_comparison
from jaxmaskrcnn.visualize.drawing import PLAIN, draw_detections, palette_colour
from jaxmaskrcnn.visualize.panoptic import draw_panoptic
from jaxmaskrcnn.visualize.style import Style
from jaxmaskrcnn.visualize.trails import draw_counts, draw_trails

RESULTS = "predictions.json"
# Path of an input's file in each format, except json and csv, which are files of all inputs.
PATTERNS = {
    "png": "{}.png",
    "labelme": "labelme/{}.json",
    "geojson": "geojson/{}.geojson",
    "masks": "masks/{}.png",
    "panoptic": "panoptic/{}.png",
}
# Of larger images smaller pictures are drawn: no viewer is made for them, and drawing takes 20 bytes a pixel.
_MOST_DRAWN, _REDUCED_SIDE = 178_956_970, 8192
FORMATS = ("png", "json", "csv", "labelme", "geojson", "masks", "panoptic")


def parse_formats(text: str) -> tuple[str, ...]:
    """Parses a list of formats separated by commas.

    Raises:
        UserError: A format is unknown, or there is none.

    Example:
        >>> parse_formats("json,png")
        ('json', 'png')
    """
    formats = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        named = f"has {unknown[0]!r}" if unknown else "is empty"
        raise UserError(f"--format {named}; choose some of {', '.join(FORMATS)}, with commas between them.")
    return formats


class Outputs:
    """Writes the detections of images in several formats.

    Args:
        folder: Folder of the files; created with the first file.
        formats: Some of `FORMATS`.
        categories: The model's categories, whose ids are the labels of results.
        colour_by: As in ``draw_detections``.
        truth: Annotations that pictures show beside the detections.
        tolerance: Tolerance of polygons, in pixels; see ``simplify``.
        keypoints: The model's keypoint head, or None.
        stuff: The categories of stuff of a panoptic model, whose pictures show segments.
        style: As in ``draw_detections``.

    Attributes:
        tracking: How the objects of videos are followed, for what is drawn; None if they are not.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[str],
        categories: Sequence[Category],
        colour_by: str = "object",
        truth: Truth | None = None,
        tolerance: float = 0.0,
        keypoints: KeypointConfig | None = None,
        stuff: Sequence[Category] = (),
        style: Style = PLAIN,
    ):
        self.tracking: TrackingOptions | None = None
        self.folder, self.formats, self.colour_by, self.truth = folder, formats, colour_by, truth
        self.names, self.tolerance, self.keypoints = dict(categories), tolerance, keypoints
        self._lines = () if keypoints is None else keypoints.lines
        self._stuff, self._style = dict(stuff), style.check()
        # Programs that read GeoJSON have one colour per class.
        self._colours = {c.id: palette_colour(i) for i, c in enumerate(categories)}

    def drawn_side(self, size: Sequence[int]) -> int | None:
        """Long side of the picture drawn of an image, in pixels; None draws it at the image's scale.

        Args:
            size: Height and width of the image, in pixels.
        """
        return _REDUCED_SIDE if size[0] * size[1] > _MOST_DRAWN else None

    def write(
        self, pixels: np.ndarray | Regions, result: dict[str, Any], image: Path, name: str
    ) -> dict[str, Any]:
        """Writes an image's files.

        Args:
            pixels: As of a ``Prediction``.
            result: As returned by ``Predictor`` with ``masks="rle"``.
            image: The image file.
            name: Name of the results, from ``output_names``.

        Returns:
            The image's entry in a json: its size, and the files by their formats.
        """
        entry = self._write_data(pixels.shape[:2], result, image, name)
        if "png" in self.formats:
            # The first version of the json called it "picture".
            entry["picture"] = PATTERNS["png"].format(name)
            options: dict[str, Any] = {
                "colour_by": self.colour_by,
                "long_side": self.drawn_side(pixels.shape[:2]),
            }
            options |= {"skeleton": self._lines, "style": self._style}
            if self.truth is None and "segments" in result:
                drawn = draw_panoptic(pixels, result, {**self._stuff, **self.names}, **options)
            elif self.truth is None:
                drawn = draw_detections(pixels, result, self.names, **options)
            else:
                truth, names = self.truth.find(image)
                names = {**names, **self.names}
                drawn = draw_comparison(pixels, truth, result, names, **options)
            save_png(drawn, self.folder / entry["picture"])
        return entry

    def write_frame(
        self,
        pixels: np.ndarray,
        result: dict[str, Any],
        name: str,
        colours: Sequence | None,
        followed: Followed | None = None,
    ) -> tuple[np.ndarray | None, dict[str, Any]]:
        """Writes a video frame's files, except for the picture.

        Args:
            pixels: uint8 RGB [H, W, 3].
            result: As returned by ``Predictor`` with ``masks="rle"``.
            name: Name of the results.
            colours: RGB of each object, of a panoptic model of each segment of a thing; None chooses by
                ``colour_by``.
            followed: The objects' identities, by which they are coloured, ways and counts; None if they are
                not followed.

        Returns:
            The frame with its detections or segments drawn, uint8, or None if "png" is not among the formats;
            and the entry as from `write`.
        """
        entry = self._write_data(pixels.shape[:2], result, None, name)
        drawn = None
        if "png" in self.formats:
            options: dict[str, Any] = {
                "colour_by": self.colour_by,
                "skeleton": self._lines,
                "style": self._style,
            }
            if "segments" in result:
                names = {**self._stuff, **self.names}
                picture = draw_panoptic(pixels, result, names, thing_colours=colours, **options)
            elif followed is not None:
                picture = self._draw_followed(pixels, result, followed, options)
            else:
                picture = draw_detections(pixels, result, self.names, colours=colours, **options)
            drawn = np.asarray(picture)
        return drawn, entry

    def _draw_followed(self, pixels, result, followed: Followed, options) -> Image.Image:
        tracking = self.tracking
        assert tracking is not None
        colours = [palette_colour(max(0, number - 1)) for number in followed.numbers.tolist()]

        def draw(picture: Image.Image, scale: float) -> None:
            if followed.trails:
                draw_trails(picture, followed.trails, colours, scale)
            draw_counts(picture, tracking.lines, tracking.regions, followed.counts, scale)

        own = None if self.colour_by == "class" else colours
        return draw_detections(pixels, result, self.names, colours=own, before_labels=draw, **options)

    def _write_data(self, size, result, image, name) -> dict[str, Any]:
        entry: dict[str, Any] = {"height": size[0], "width": size[1]}
        for key in self.formats:
            if key not in PATTERNS or key == "png":
                continue
            entry[key] = PATTERNS[key].format(name)
            path = self.folder / entry[key]
            if key == "labelme":
                content = labelme_content(
                    result, self.names, image, path.parent, size, self.tolerance, self.keypoints
                )
                write_json(path, content)
            elif key == "geojson":
                write_json(path, geojson_content(result, self.names, self._colours, self.tolerance))
            elif key == "panoptic":
                save_png(Image.fromarray(segment_picture(result)), path)
                write_json(
                    path.with_suffix(".json"), segment_legend(result, {**self._stuff, **self.names}), indent=1
                )
            else:
                save_png(Image.fromarray(instance_picture(result, size)), path)
                write_json(path.with_suffix(".json"), instance_legend(result, self.names), indent=1)
        return entry

    def annotations(self, result: dict[str, Any], image: dict[str, Any], first_id: int) -> list[dict]:
        """Entries of the json for one image; see ``coco_annotations``."""
        return coco_annotations(result, image, self.names, first_id, self.keypoints)


class JsonResults:
    """A COCO json that is written to disk image by image, so that it needs little memory.

    Attributes:
        images: Number of images so far.
        objects: Number of annotations so far.
    """

    def __init__(self, write: Callable[[str], Any], outputs: Outputs, tables: Tables | None = None):
        self._write, self._outputs, self._tables, self._images = write, outputs, tables, []
        self.images = self.objects = 0

    def add(self, image: dict[str, Any], result: dict[str, Any]) -> tuple[dict[str, Any], list[dict]]:
        """Appends an image, which gets the next id, and its detections; returns the entries of both."""
        self.images += 1
        image = {"id": self.images, **image}
        entries = self._outputs.annotations(result, image, self.objects + 1)
        self._append(image, entries)
        return image, entries

    def add_entries(self, image: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        """Appends an image and its detections as `add` has returned them in an earlier run."""
        self.images += 1
        numbered = [{**e, "id": self.objects + k, "image_id": self.images} for k, e in enumerate(entries, 1)]
        self._append({**image, "id": self.images}, numbered)

    def _append(self, image: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        self._images.append(image)  # small; written at the end of the file
        for entry in entries:
            self._write(f"{',' if self.objects else ''}\n{json.dumps(entry, allow_nan=False)}")
            self.objects += 1
        if self._tables is not None:
            self._tables.add(image, entries)

    def finish(self) -> None:
        """Writes the images, after the annotations."""
        listed = ",".join(f"\n{json.dumps(image)}" for image in self._images)
        self._write(f'\n],\n"images": [{listed}\n]}}\n')


@contextlib.contextmanager
def json_results(
    outputs: Outputs,
    categories: Sequence[Category],
    *,
    video: bool = False,
    pixel_size: PixelSize | None = None,
) -> Iterator[JsonResults]:
    """Writes the files of all inputs if json or csv is among the formats; they appear if the block succeeds.

    Args:
        outputs: Gives the folder and the formats.
        categories: The model's categories, whose ids are the labels of results.
        video: Whether the inputs are videos.
        pixel_size: The size of a pixel for the tables, or None.

    Yields:
        A `JsonResults` to add images to.
    """
    with contextlib.ExitStack() as stack:
        tables = None
        if "csv" in outputs.formats:
            tables = stack.enter_context(written_tables(outputs.folder, video, pixel_size))
        if "json" not in outputs.formats:
            yield JsonResults(lambda text: None, outputs, tables)
            return
        file = stack.enter_context(complete_file(outputs.folder / RESULTS))
        text = io.TextIOWrapper(file, encoding="utf-8")
        listed = json.dumps(category_entries(categories, outputs.keypoints))
        text.write(f'{{"categories": {listed},\n"annotations": [')
        results = JsonResults(text.write, outputs, tables)
        yield results
        results.finish()
        text.flush()
        text.detach()
