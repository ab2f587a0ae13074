"""Pictures of the detections in some evaluation images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data import Source
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.utils.files import complete_file
from jaxmaskrcnn.visualize.drawing import draw_detections


def draw_pictures(
    directory: Path,
    source: Source,
    detections: list[dict[str, Any]],
    categories: tuple[Category, ...],
    count: int,
    *,
    score_threshold: float = 0.5,
    pixels: PixelConfig = DEFAULT_PIXELS,
    skeleton: Sequence[tuple[int, int]] = (),
) -> list[Path]:
    """Draw detections over images spread evenly through a data set.

    Args:
        directory: Folder of the pictures, one PNG per image, named after the image file.
        source: The images.
        detections: COCO results of the whole data set.
        categories: Names of the category ids.
        count: Number of pictures.
        score_threshold: Detections with a lower score are not drawn.
        pixels: Which page of a file is read, and how its values become uint8.
        skeleton: Lines between keypoints.

    Returns:
        The files.
    """
    drawn = []
    chosen = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int))
    by_image: dict[int, list] = {int(source.image_ids[i]): [] for i in chosen}
    for found in detections:
        if found["image_id"] in by_image and found["score"] >= score_threshold:
            by_image[found["image_id"]].append(found)
    for i in chosen:
        example = source[int(i)]
        found = by_image[example.image_id]
        boxes = np.asarray([d["bbox"] for d in found], np.float32).reshape(-1, 4)
        out = {
            "boxes": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            "scores": np.asarray([d["score"] for d in found], np.float32),
            "labels": np.asarray([d["category_id"] for d in found], np.int64),
        }
        if all("segmentation" in d for d in found):
            out["masks"] = [d["segmentation"] for d in found]
        if all("keypoints" in d for d in found):
            out["keypoints"] = [np.reshape(d["keypoints"], (-1, 3)) for d in found]
        picture = draw_detections(example.pixels(pixels), out, categories, skeleton=skeleton)
        drawn.append(directory / f"{Path(example.file_name).stem}.png")
        with complete_file(drawn[-1]) as file:
            picture.save(file, "PNG")
    return drawn
