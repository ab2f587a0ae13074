"""Draws a sample of a data set with its annotations as one picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.inspection.inspect import Inspection
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.visualize.comparison import annotated_result
from jaxmaskrcnn.visualize.drawing import draw_detections

TILE = 560  # long side of each image in pixels
_GAP = 12
_CAPTION = 15  # font size in pixels
_PAPER, _INK = (255, 255, 255), (60, 60, 60)


def draw_sheet(
    inspection: Inspection, folder: Path, count: int, seed: int, pixel_config: PixelConfig = DEFAULT_PIXELS
) -> Image.Image | None:
    """Draws a sample of the images, each under its name.

    Args:
        inspection: As returned by `inspect_annotations`.
        folder: Folder that the file names are relative to.
        count: Largest number of images. Images with objects come first.
        seed: Seed of the sample.
        pixel_config: Which page of a file is read, and how its values become uint8.

    Returns:
        An RGB picture; None if no image can be read. A class has the same colour throughout.
    """
    categories, skeleton = inspection.annotations.categories, inspection.annotations.skeleton
    lines = skeleton.lines if skeleton else ()
    tiles = []
    for image in _sample(inspection, seed):
        try:
            size = image.height, image.width
            pixels = decode_image(folder / image.file_name, size=size, pixels=pixel_config)
        except UserError:
            continue  # a damaged file that was not noticed because images were not decoded
        tiles.append((_caption(image), _draw(image, pixels, categories, lines)))
        if len(tiles) == count:
            break
    return _arrange(tiles) if tiles else None


def _sample(inspection: Inspection, seed: int) -> list[AnnotatedImage]:
    images = [image for image in inspection.annotations.images if image.id not in inspection.unreadable]
    order = np.random.default_rng(seed).permutation(len(images))
    return sorted((images[i] for i in order), key=lambda image: not image.objects)


def _draw(
    image: AnnotatedImage,
    pixels: np.ndarray,
    categories: tuple[Category, ...],
    lines: Sequence[tuple[int, int]],
) -> Image.Image:
    out, names = annotated_result(image, categories)
    # With a single class, colours by class would all be the same.
    colour_by = "class" if len(categories) > 1 else "object"
    return draw_detections(pixels, out, names, colour_by=colour_by, long_side=TILE, skeleton=lines)


def _caption(image: AnnotatedImage) -> str:
    objects = f"{len(image.objects)} object{'s' * (len(image.objects) != 1)}"
    return f"{Path(image.file_name).name}  ·  {image.width} x {image.height}  ·  {objects}"


def _arrange(tiles: list[tuple[str, Image.Image]]) -> Image.Image:
    """Rows of pictures of about the same height."""
    tiles = sorted(tiles, key=lambda tile: tile[1].height)
    columns = math.ceil(math.sqrt(len(tiles)))
    font = ImageFont.load_default(size=_CAPTION)
    strip = sum(font.getmetrics()) + 6
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(picture.height for _, picture in row) + strip + _GAP for row in rows]
    sheet = Image.new("RGB", (columns * (TILE + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (caption, picture) in enumerate(row):
            x = _GAP + column * (TILE + _GAP)
            draw.text((x, y), _shortened(caption, font, TILE), font=font, fill=_INK)
            sheet.paste(picture, (x, y + strip))
        y += height
    return sheet


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cuts the text at its start until it fits, because the end of a file name is the distinctive part."""
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
