"""Counts of a data set's keypoints.

Shape legend: G objects with keypoints, K keypoints.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.problems import Problem


def keypoint_statistics(annotations: Annotations) -> dict[str, Any]:
    """Counts the keypoints of objects; crowd regions are left out.

    Args:
        annotations: The usable images and objects.

    Returns:
        ``keypoints`` with plain values that json can hold: the names, how many of each are annotated and
        hidden, and the number of images with any; {} where the objects have no keypoints.
    """
    if annotations.skeleton is None:
        return {}
    names, images, visibilities = annotations.skeleton.points, 0, []
    for image in annotations.images:
        found = [json.loads(x.keypoints)[2::3] for x in image.objects if x.keypoints and not x.crowd]
        images += bool(found)
        visibilities += found
    table = np.array(visibilities, int).reshape(-1, len(names))  # [G, K]
    annotated, hidden = ((rule(table)).sum(0).tolist() for rule in (lambda v: v > 0, lambda v: v == 1))
    return {
        "keypoints": {
            "names": list(names),
            "annotated": dict(zip(names, annotated, strict=True)),
            "hidden": dict(zip(names, hidden, strict=True)),
            "images": images,
        }
    }


def outside_points(annotations: Annotations, path: Path) -> list[Problem]:
    """Annotated keypoints that lie outside of their images, as suspicions.

    Args:
        annotations: The usable images and objects.
        path: The file, for messages.
    """
    found = []
    for image in annotations.images:
        for item in image.objects:
            points = np.reshape(json.loads(item.keypoints) if item.keypoints else [], (-1, 3))
            x, y, visibility = points.T
            beyond = (x < 0) | (y < 0) | (x > image.width) | (y > image.height)
            outside = np.flatnonzero((visibility > 0) & beyond)
            if len(outside) and annotations.skeleton is not None:
                name = annotations.skeleton.points[outside[0]]
                found.append(Problem(
                    "keypoint outside",
                    f"{path}: annotation {item.id} of image {image.id} ({image.file_name}) has the keypoint "
                    f"{name!r} at x {x[outside[0]]:g}, y {y[outside[0]]:g}, outside of its {image.width} x "
                    f"{image.height} pixels",
                    image.id, item.id,
                ))  # fmt: skip
    return found


def keypoint_lines(summary: dict[str, Any]) -> list[str]:
    """The same as lines of a text; none without keypoints.

    Args:
        summary: With the values of `keypoint_statistics`.
    """
    found = summary.get("keypoints")
    if not found:
        return []
    width = max(len("keypoint"), *map(len, found["names"]))
    lines = [f"Keypoints, in {found['images']} images", f"  {'keypoint':{width}}  annotated  hidden"]
    for name in found["names"]:
        lines.append(f"  {name:{width}}  {found['annotated'][name]:>9}  {found['hidden'][name]:>6}")
    return lines
