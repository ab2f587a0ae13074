"""A data set from Python: images and targets of an iterable, written as a COCO json and image files.

Shape legend: H, W an image, G its objects.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.generated import mask_annotation
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_file, write_json


def write_iterable(
    folder: str | os.PathLike,
    examples: Iterable[tuple[Any, Mapping[str, Any]]],
    names: Sequence[str],
) -> tuple[Path, Path]:
    """Write the images and objects of an iterable, for ``data.train_annotations`` and ``data.train_images``.

    Args:
        folder: Where ``annotations.json`` and ``images/`` are written; what is there is replaced.
        examples: Pairs of an image and its target. An image is uint8 or uint16 [H, W], uint8 [H, W, 3], or a
            Pillow image. A target has "labels", int [G] from 0; and "masks", bool [G, H, W], or "boxes",
            float [G, 4] XYXY in pixels, or both; and "crowd", bool [G], if there is any. Tensors of other
            libraries are taken as ``numpy.asarray`` takes them.
        names: Names of the classes, in the order of the labels.

    Returns:
        The paths of the json and of the image folder.

    Raises:
        UserError: An image or a target has another form.

    Example:
        >>> mask = np.zeros((1, 40, 50), bool)
        >>> mask[0, 5:20, 10:30] = True
        >>> pairs = [(np.zeros((40, 50), np.uint8), {"labels": [0], "masks": mask})]
        >>> annotations, images = write_iterable("my_cells", pairs, ["cell"])
        >>> annotations.name, [path.name for path in images.iterdir()]
        ('annotations.json', ['00000001.png'])
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, list] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    for number, (image, target) in enumerate(examples, 1):
        pixels = _pixels(image, number)
        name = f"{number:08d}.png"
        with complete_file(folder / "images" / name) as file:
            Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        height, width = pixels.shape[:2]
        content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        entries = _annotations(target, number, (height, width), len(names))
        for entry in entries:
            content["annotations"].append({**entry, "id": len(content["annotations"]) + 1})
    if not content["images"]:
        raise UserError(f"the iterable for {folder} gives no image; give at least one.")
    write_json(folder / "annotations.json", content)
    return folder / "annotations.json", folder / "images"


def _pixels(image: Any, number: int) -> np.ndarray:
    pixels = np.asarray(image)
    grey = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    if not grey and not (pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8):
        raise UserError(
            f"image {number} of the iterable is {pixels.dtype} {list(pixels.shape)}; give uint8 or uint16 "
            "[H, W], or uint8 [H, W, 3]."
        )
    return pixels


def _annotations(target: Mapping, number: int, size: tuple[int, int], classes: int) -> list[dict]:
    """The entries of an image's objects, without ids."""
    labels = np.asarray(target["labels"]).reshape(-1)
    count = len(labels)
    crowd = np.asarray(target.get("crowd", np.zeros(count))).astype(bool).reshape(-1)
    arrays = {}
    for name, shape in (("masks", (count, *size)), ("boxes", (count, 4))):
        if name in target:
            arrays[name] = np.asarray(target[name]).reshape(shape) if count == 0 else np.asarray(target[name])
            if arrays[name].shape != shape:
                raise UserError(
                    f"the target of image {number} of the iterable has {name} {list(arrays[name].shape)} for "
                    f"{count} labels; give {list(shape)}."
                )
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong or not arrays:
        found = f"the label {wrong[0]}" if wrong else "neither masks nor boxes"
        raise UserError(
            f"the target of image {number} of the iterable has {found}; give labels from 0 to {classes - 1}, "
            "and masks or boxes."
        )
    entries = []
    for i in range(count):
        entry = {"image_id": number, "category_id": int(labels[i]) + 1, "iscrowd": int(crowd[i])}
        if "masks" in arrays:
            mask = arrays["masks"][i].astype(bool)
            if not mask.any():
                raise UserError(
                    f"mask {i} of image {number} of the iterable is empty; leave the object out, or give the "
                    "pixels that it covers."
                )
            entry = {**mask_annotation(0, number, mask, int(labels[i])), "iscrowd": int(crowd[i])}
        if "boxes" in arrays:
            x1, y1, x2, y2 = map(float, arrays["boxes"][i])
            entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            entry.setdefault("area", (x2 - x1) * (y2 - y1))
        entries.append(entry)
    return entries
