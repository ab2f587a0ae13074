"""Reads and checks the files of a report; every fault is reported in one sentence."""

import logging
import os
from pathlib import Path

from pycocotools import mask as rle_codec

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.crowd import count_classes, crowd_statements
from jaxmaskrcnn.data.coco.image_files import readable_images
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.rle import check_counts
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.utils.json_values import is_finite, parse_json

log = logging.getLogger(__name__)


def read_files(
    detections: str | os.PathLike,
    annotations: str | os.PathLike,
    folder: Path,
    reading: Reading | None = None,
    pixels: PixelConfig = DEFAULT_PIXELS,
    protocol: str = "auto",
) -> tuple[list[dict], GroundTruth]:
    """Reads detections and the annotations to score them against.

    An evaluation that skips bad data leaves out images whose files cannot be read. So an image without
    detections whose file cannot be read is left out here too, and a warning gives the number of these.

    Args:
        detections: A json list of COCO results.
        annotations: COCO-format json.
        folder: Its image folder.
        reading: How crowd regions are treated, and whether all objects get one class.
        pixels: Which page of a file is read, and how its values become uint8.
        protocol: How detections are scored, one of `evaluation.protocols.PROTOCOLS`.

    Returns:
        The detections, as `read_detections` returns them, and the annotations.

    Raises:
        UserError: A file is missing or cannot be used.
    """
    keypoints = _names_keypoints(Path(detections))
    truth = GroundTruth(
        annotations, "skip", folder=folder, reading=reading, keypoints=keypoints, protocol=protocol
    )
    for note in truth.notes:
        log.warning("%s.", note)
    counts = count_classes(truth.categories, truth.images.values())
    for sentence in crowd_statements(counts):
        log.warning("%s: %s.", annotations, sentence)
    found = read_detections(detections, truth, annotations)
    detected = {entry["image_id"] for entry in found}
    silent = [image for key, image in truth.images.items() if key not in detected and image.objects]
    problems = Problems("skip")
    readable = {
        image.id for image, _ in readable_images(silent, annotations, folder, problems, pixels=pixels)
    }
    lost = {image.id for image in silent} - readable
    if lost:
        problems.tell_rest()
        log.warning(
            "%s: images without detections whose files cannot be read are not scored: %d.",
            annotations,
            len(lost),
        )
        sizes = {key: (image.height, image.width) for key, image in truth.images.items() if key not in lost}
        truth = GroundTruth(
            annotations, "skip", folder=folder, reading=reading, sizes=sizes, log=False,
            keypoints=keypoints, protocol=protocol,
        )  # fmt: skip
    return found, truth


def read_detections(
    path: str | os.PathLike, truth: GroundTruth, annotations: str | os.PathLike
) -> list[dict]:
    """Reads detections and checks them against the annotations.

    Args:
        path: A json list of COCO results: ``image_id`` and ``category_id`` as the annotations write them or
            their numbers, ``score`` in 0..1, and ``bbox`` (x, y, width, height in pixels) or ``segmentation``
            (compressed RLE) or both.
        truth: The annotations.
        annotations: Path of the annotation file, for messages.

    Returns:
        The detections, each with the numbers of its ids and a ``bbox``; a missing one is taken from the mask.

    Raises:
        UserError: The file is missing or is not a list of results, an entry cannot be used, or only some
            entries have masks.
    """
    entries = _read_list(Path(path))
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


def _names_keypoints(path: Path) -> bool:
    """Whether detections have keypoints, before they are read, as the annotations come first."""
    try:
        return b'"keypoints"' in path.read_bytes()
    except OSError:  # reported by what reads it
        return False


def _read_list(path: Path) -> list:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the detections {path} cannot be read ({error.strerror}); check the path."
        ) from error
    try:
        entries = parse_json(data)
    except ValueError as error:
        raise UserError(f"{path} is not valid json ({error}); write the detections again.") from error
    if not isinstance(entries, list):
        raise UserError(
            f"{path} holds a {type(entries).__name__} where a list of COCO results is expected; give the "
            "detections.json that evaluate.py --output or a training run writes."
        )
    return entries


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
