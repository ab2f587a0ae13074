"""Reads and checks detections with the annotations to score them against."""

import logging
import os
from pathlib import Path
from typing import Any

from jaxmaskrcnn.config import DEFAULT_PIXELS, PixelConfig
from jaxmaskrcnn.data.coco.crowd import count_classes, crowd_statements
from jaxmaskrcnn.data.coco.image_files import readable_images
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.evaluation.detection_files import (
    check_detections,
    load_detections,
    names_keypoints,
    predicted_images,
    to_results,
)

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
        detections: A json list of COCO results, or the ``predictions.json`` of ``predict``, of which only the
            images that it lists are scored.
        annotations: COCO-format json.
        folder: Its image folder.
        reading: How crowd regions are treated, and whether all objects get one class.
        pixels: Which page of a file is read, and how its values become uint8.
        protocol: How detections are scored, one of `evaluation.protocols.PROTOCOLS`.

    Returns:
        The detections, as `check_detections` returns them, and the annotations.

    Raises:
        UserError: A file is missing or cannot be used.
    """
    options: dict[str, Any] = {"keypoints": names_keypoints(Path(detections)), "protocol": protocol}
    truth = GroundTruth(annotations, "skip", folder=folder, reading=reading, **options)
    for note in truth.notes:
        log.warning("%s.", note)
    counts = count_classes(truth.categories, truth.images.values())
    for sentence in crowd_statements(counts):
        log.warning("%s: %s.", annotations, sentence)
    content, unlisted = load_detections(detections), set()
    if isinstance(content, dict):
        images = predicted_images(content, truth, detections, annotations)
        content = to_results(content, images, truth, detections, annotations)
        unlisted = truth.images.keys() - images.values()
    if unlisted:
        log.warning(
            "%s does not list %d images of %s, which are not scored.", detections, len(unlisted), annotations
        )
    found = check_detections(content, truth, detections, annotations)
    detected = {entry["image_id"] for entry in found}
    silent = [
        image for key, image in truth.images.items() if key not in detected | unlisted and image.objects
    ]
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
    if left := lost | unlisted:
        sizes = {key: (image.height, image.width) for key, image in truth.images.items() if key not in left}
        truth = GroundTruth(
            annotations, "skip", folder=folder, reading=reading, sizes=sizes, log=False, **options
        )
    return found, truth
