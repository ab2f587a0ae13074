"""Reads and checks files of detections: COCO results, and the ``predictions.json`` of ``predict``.

Every fault is reported in one sentence.
"""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pycocotools import mask as rle_codec

from jaxmaskrcnn.data.rle import check_counts
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.utils.json_values import is_finite, parse_json


def load_detections(path: str | os.PathLike) -> list | dict[str, Any]:
    """Reads a json of detections without checking its entries.

    Args:
        path: A json list of COCO results, or the ``predictions.json`` of ``predict``.

    Raises:
        UserError: The file is missing or is neither.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"the detections {path} cannot be read ({error.strerror}); check the path."
        ) from error
    try:
        content = parse_json(data)
    except ValueError as error:
        raise UserError(f"{path} is not valid json ({error}); write the detections again.") from error
    if isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        return content
    if not isinstance(content, list):
        raise UserError(
            f"{path} holds a {type(content).__name__} where a list of COCO results is expected; give the "
            "detections.json that evaluate.py --output or a training run writes, or a predictions.json of "
            "predict."
        )
    return content


def names_keypoints(path: Path) -> bool:
    """Whether detections have keypoints, before they are read, as the annotations come first."""
    try:
        return b'"keypoints"' in path.read_bytes()
    except OSError:  # reported by what reads it
        return False


def predicted_images(
    content: dict[str, Any], truth: GroundTruth, path: Any, annotations: Any
) -> dict[Any, int]:
    """Finds the annotated image of each image of a ``predictions.json``, by the names of their files.

    Args:
        content: The json of ``predict``.
        truth: The annotations.
        path: Path of the json, for messages.
        annotations: Path of the annotations, for messages.

    Returns:
        Ids of the annotations by ids of the json. The folders in a name distinguish equal names.

    Raises:
        UserError: An image is a frame of a video, is not annotated, or could be one of several.
    """
    by_name: dict[str, list] = {}
    for image in truth.images.values():
        by_name.setdefault(PurePosixPath(image.file_name).name, []).append(image)
    found: dict[Any, int] = {}
    for entry in content["images"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise UserError(f"{path} has an image without a file_name; give a predictions.json of predict.")
        name = entry["file_name"]
        if "frame" in entry:
            raise UserError(
                f"{path} has frames of the video {name}, which cannot be told by their names; give "
                "predictions of image files."
            )
        file = PurePosixPath(name.replace("\\", "/"))
        candidates = by_name.get(file.name, [])
        if len(candidates) > 1:
            candidates = [c for c in candidates if f"/{file}".endswith(f"/{c.file_name}")]
        if len(candidates) != 1:
            what = "several images that could be" if candidates else "no image"
            raise UserError(
                f"{path} has predictions of {name}, and {annotations} lists {what} {file.name}; give the "
                "annotations of the images that were predicted."
            )
        found[entry.get("id")] = candidates[0].id
    return found


def to_results(
    content: dict[str, Any], images: Mapping[Any, int], truth: GroundTruth, path: Any, annotations: Any
) -> list[dict[str, Any]]:
    """Makes COCO results of a ``predictions.json``: classes are found by their names.

    Args:
        content: The json of ``predict``.
        images: From `predicted_images`.
        truth: The annotations.
        path: Path of the json, for messages.
        annotations: Path of the annotations, for messages.

    Raises:
        UserError: The annotations lack a class.
    """
    names = [category.name for category in truth.categories]
    ids = {c.name: c.id for c in truth.categories if names.count(c.name) == 1}
    known = {category.id for category in truth.categories}
    results = []
    for number, entry in enumerate(content["annotations"]):
        if not isinstance(entry, dict) or entry.get("image_id") not in images:
            raise UserError(f"{path}: detection {number} names no image of the file; write the file again.")
        name, category = entry.get("category_name"), entry.get("category_id")
        category = ids.get(name, category if name is None or name in names else None)
        if category not in known:
            raise UserError(
                f"{path}: detection {number} is of the class {name!r}, and {annotations} lists no such "
                "class; give annotations with the model's classes."
            )
        fields = {key: entry[key] for key in ("bbox", "segmentation", "score") if key in entry}
        if "keypoints" in entry:
            scores = entry.get("keypoint_scores") or entry["keypoints"][2::3]
            fields["keypoints"] = list(entry["keypoints"])
            fields["keypoints"][2::3] = scores
        results.append({"image_id": images[entry["image_id"]], "category_id": category, **fields})
    return results


def check_detections(
    entries: list, truth: GroundTruth, path: str | os.PathLike, annotations: str | os.PathLike
) -> list[dict]:
    """Checks detections against the annotations.

    Args:
        entries: COCO results: ``image_id`` and ``category_id`` as the annotations write them or
            their numbers, ``score`` in 0..1, and ``bbox`` (x, y, width, height in pixels) or ``segmentation``
            (compressed RLE) or both.
        truth: The annotations.
        path: Path of the detections, for messages.
        annotations: Path of the annotation file, for messages.

    Returns:
        The detections, each with the numbers of its ids and a ``bbox``; a missing one is taken from the mask.

    Raises:
        UserError: An entry cannot be used, or only some entries have masks.
    """
    sizes = {key: [image.height, image.width] for key, image in truth.images.items()}
    categories = {category.id for category in truth.categories}
    checked = []
    for number, entry in enumerate(entries):
        place = f"{path}: detection {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} is a {type(entry).__name__}; give an object with its image_id.")
        image_id = truth.image_id(entry.get("image_id"))
        _check_id(image_id, entry, "image_id", sizes.keys(), "image", place, annotations)
        place += f" (image {entry['image_id']})"
        category_id = truth.category_id(entry.get("category_id"))
        _check_id(category_id, entry, "category_id", categories, "category", place, annotations)
        entry = {**entry, "image_id": image_id, "category_id": category_id}
        score = entry.get("score")
        if not (is_finite(score) and 0 <= score <= 1):
            raise UserError(f"{place} has the score {score!r}; give a number from 0 to 1.")
        wrong = _mask_problem(entry, sizes[entry["image_id"]])
        if wrong:
            raise UserError(
                f"{place} has a segmentation that is not a compressed RLE of its image ({wrong}); "
                "write it with pycocotools.mask.encode."
            )
        if entry.get("segmentation") is not None and entry.get("bbox") is None:
            entry = {**entry, "bbox": rle_codec.toBbox(entry["segmentation"]).tolist()}
        box = entry.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))):
            raise UserError(f"{place} has the bbox {box!r}; give four numbers x, y, width, height.")
        if min(box[2:]) < 0:
            raise UserError(f"{place} has a bbox of negative size, {box!r}; give x, y, width, height.")
        _check_keypoints(entry, truth, place)
        checked.append(entry)
    _check_all_or_none(checked, path)
    return checked


def _check_keypoints(entry: dict, truth: GroundTruth, place: str) -> None:
    """Checks the keypoints of a detection, and takes null for none."""
    if entry.get("keypoints") is None:
        entry.pop("keypoints", None)
    elif truth.skeleton is not None:
        count, values = len(truth.skeleton.points), entry["keypoints"]
        if not isinstance(values, list) or len(values) != 3 * count or not all(map(is_finite, values)):
            raise UserError(
                f"{place} has no list of {count} keypoints, as many as the annotations have; give x, y and a "
                "score of each, finite numbers."
            )


def _check_id(found, entry, field, known, noun, place, annotations) -> None:
    if found not in known:
        raise UserError(
            f"{place} names the {field} {entry.get(field)!r}, and {annotations} lists no such {noun}; give "
            "the annotations that the detections were made for."
        )


def _mask_problem(entry, size) -> str | None:
    mask = entry.get("segmentation")
    if mask is None:
        return None
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str) or not mask["counts"].isascii():
        return "it is not an object with size and a string of counts"
    if mask.get("size") != size:
        return f"its size is {mask.get('size')!r} and the image's {size!r}, height and width"
    return check_counts(mask["counts"].encode(), *size)


def _check_all_or_none(entries, path) -> None:
    for field, noun, some in (("segmentation", "masks", "one"), ("keypoints", "keypoints", "some")):
        there = [entry.get(field) is not None for entry in entries]
        if any(there) and not all(there):
            raise UserError(
                f"{path}: detection {there.index(False)} has no {field} while others have {some}; write "
                f"{noun} for all of them or for none."
            )
