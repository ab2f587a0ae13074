"""Detections in the formats of other programs: COCO json, labelme, GeoJSON, images of instances or segments.

Masks are given as COCO RLE and decoded one by one, cropped to their pixels, which saves memory.

Shape legend: N objects, H, W height and width of the image.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn.config import KeypointConfig
from jaxmaskrcnn.data.rle import decode_window
from jaxmaskrcnn.inference.contours import Polygon, simplify, trace
from jaxmaskrcnn.inference.keypoints import coco_keypoints
from jaxmaskrcnn.utils.files import complete_file
from jaxmaskrcnn.visualize.skeleton import SHOWN_SCORE

# The first version of labelme whose shapes have a description.
_LABELME_VERSION = "5.2.0"


def coco_annotations(
    result: Mapping[str, Any],
    image: Mapping[str, Any],
    names: Mapping[int, str],
    first_id: int,
    keypoints: KeypointConfig | None = None,
) -> list[dict[str, Any]]:
    """Makes entries of a COCO json, with masks as RLE, the score and the name of the class.

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        image: ``id`` and ``file_name`` of its image.
        names: Names of the classes, by category id.
        first_id: ``id`` of the first entry.
        keypoints: The model's keypoint head, or None.

    Returns:
        N entries, best first, with a ``track_id`` where there are ``tracks``. Keypoints have the visibility
        2, and their scores are a list of their own.
    """
    entries = []
    for i, (x1, y1, x2, y2) in enumerate(result["boxes"].astype(np.float64).tolist()):
        label = int(result["labels"][i])
        entry = {
            "id": first_id + i,
            "image_id": image["id"],
            "file_name": image["file_name"],
            "category_id": label,
            "category_name": names[label],
            "score": float(result["scores"][i]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        if "tracks" in result and result["tracks"][i]:
            entry["track_id"] = int(result["tracks"][i])
        if "masks" in result:
            entry["segmentation"] = result["masks"][i]
            entry["area"] = int(rle_codec.area(result["masks"][i]))
        if keypoints is not None and "keypoints" in result:
            points = result["keypoints"][i]
            entry["keypoints"] = coco_keypoints(points, keypoints, annotated=True)
            entry["num_keypoints"] = len(points)
            entry["keypoint_scores"] = points[:, 2].astype(np.float64).tolist()
        if "extra" in result:
            entry["extra"] = {name: values[i].tolist() for name, values in result["extra"].items()}
        entries.append(entry)
    return entries


def labelme_content(
    result: Mapping[str, Any], names: Mapping[int, str], image: str | os.PathLike, folder: str | os.PathLike,
    size: tuple[int, int], tolerance: float = 0.0, keypoints: KeypointConfig | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Makes the content of a labelme json, with polygons (or rectangles, without masks) to be corrected.

    labelme's polygons have no holes. Holes are filled, and the shape's description gives their number.
    Parts of one object share a ``group_id``, and so do its keypoints, which are points with their names;
    those that pictures leave out for their score are not there. Objects whose mask is empty are left out.

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        names: Names of the classes, by category id.
        image: The image file.
        folder: Folder of the json; the path of the image is relative to it.
        size: (H, W).
        tolerance: As in ``simplify``.
        keypoints: The model's keypoint head, or None.

    Returns:
        The content; ``jaxmaskrcnn import --format=labelme`` reads it.
    """
    shapes = []
    for i, label in enumerate(result["labels"]):
        polygons = object_polygons(result, i, tolerance)
        points = _labelme_points(result, i, keypoints) if polygons else []
        for polygon in polygons:
            description = f"score {result['scores'][i]:.3f}"
            if polygon.holes:
                description += f", holes filled: {len(polygon.holes)}"
            group = i + 1 if len(polygons) > 1 or points else None
            shapes.append(
                _labelme_shape("polygon", names[int(label)], polygon.shell.tolist(), group, description)
            )
        for name, place, score in points:
            shapes.append(_labelme_shape("point", name, [place], i + 1, f"score {score:.3f}"))
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image, folder)).as_posix(),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def _labelme_shape(
    kind: str, label: str, points: list, group: int | None, description: str
) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": description,
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def _labelme_points(
    result: Mapping[str, Any], i: int, keypoints: KeypointConfig | None
) -> list[tuple[str, list[float], float]]:
    """Name, place and score of an object's keypoints that pictures show."""
    if keypoints is None or "keypoints" not in result:
        return []
    values = np.reshape(coco_keypoints(result["keypoints"][i], keypoints), (-1, 3)).tolist()
    return [
        (name, [x, y], score)
        for name, (x, y, score) in zip(keypoints.points, values, strict=True)
        if score > SHOWN_SCORE
    ]


def geojson_content(
    result: Mapping[str, Any],
    names: Mapping[int, str],
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Makes a GeoJSON ``FeatureCollection`` in pixels, x to the right and y downwards (as in QuPath).

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        names: Names of the classes, by category id.
        colours: RGB of the classes, by category id; None leaves them out.
        tolerance: As in ``simplify``.

    Returns:
        The content: a ``Polygon`` or ``MultiPolygon`` with holes for each object whose mask is not
        empty. Outer rings follow the right-hand rule (RFC 7946) for y pointing upwards.
    """
    features = []
    for i, label in enumerate(result["labels"].tolist()):
        parts = [
            [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.shell, *polygon.holes)]
            for polygon in object_polygons(result, i, tolerance)
        ]
        if not parts:
            continue
        single = len(parts) == 1
        classification = {"name": names[label]}
        if colours is not None:
            classification["color"] = list(colours[label])
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": parts[0] if single else parts,
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": classification,
                    "category_id": label,
                    "score": float(result["scores"][i]),
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def instance_picture(result: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Makes one image of all masks: 0 is the background, other values are numbers of objects.

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        size: (H, W).

    Returns:
        [H, W], uint8 or, for more than 255 objects, uint16. The first object, which has the
        highest score, is 1; where masks overlap, the higher score wins.
    """
    masks = result["masks"]
    picture = np.zeros(size, np.uint8 if len(masks) < 256 else np.uint16)
    for i in reversed(range(len(masks))):
        window, (y, x) = decode_window(_counts(masks[i]), *size)
        h, w = window.shape
        picture[y : y + h, x : x + w][window] = i + 1
    return picture


def instance_legend(result: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Describes the values of `instance_picture`.

    Args:
        result: As for `instance_picture`.
        names: Names of the classes, by category id.

    Returns:
        For each object ``value``, ``category_id``, ``category_name`` and ``score``.
    """
    return [
        {"value": i + 1, "category_id": label, "category_name": names[label], "score": score}
        for i, (label, score) in enumerate(
            zip(result["labels"].tolist(), result["scores"].astype(float).tolist(), strict=True)
        )
    ]


def segment_picture(result: Mapping[str, Any]) -> np.ndarray:
    """Makes a picture of a panoptic model's segments, in the colours of COCO's panoptic format.

    Args:
        result: As returned by ``Predictor`` for a panoptic model.

    Returns:
        uint8 RGB [H, W, 3]; the number of a pixel's segment is red + 256 green + 65536 blue, 0 for none.
    """
    numbers = result["panoptic"]
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)


def segment_legend(result: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Describes the segments of `segment_picture`.

    Args:
        result: As for `segment_picture`.
        names: Names of the classes of things and stuff, by category id.

    Returns:
        For each segment ``id``, ``category_id``, ``category_name``, ``isthing`` (0 or 1), ``score`` (of stuff
        None) and ``area`` in pixels.
    """
    return [
        {
            "id": segment["id"],
            "category_id": segment["category"],
            "category_name": names[segment["category"]],
            "isthing": int(segment["isthing"]),
            "score": segment["score"],
            "area": int(segment["area"]),
        }
        for segment in result["segments"]
    ]


def write_segments(result: Mapping[str, Any], image_id: int, folder: Path) -> dict[str, Any]:
    """Writes the picture of a panoptic model's segments.

    Args:
        result: As for `segment_picture`.
        image_id: The id of the image in the annotations, which names the picture.
        folder: The folder of the pictures.

    Returns:
        The image's entry in a json in COCO's format of panoptic results.
    """
    name = f"{image_id:012d}.png"
    save_png(Image.fromarray(segment_picture(result)), folder / name)
    own = [
        {"id": s["id"], "category_id": s["category"], "isthing": int(s["isthing"])}
        for s in result["segments"]
    ]
    return {"image_id": image_id, "file_name": name, "segments_info": own}


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, completely or not at all."""
    with complete_file(path) as file:
        # Level 3 takes a third of the time of the default level and a few percent more bytes.
        picture.save(file, "PNG", compress_level=3)


def object_polygons(result: Mapping[str, Any], i: int, tolerance: float = 0.0) -> list[Polygon]:
    """The outlines of an object's mask in pixels of the image, or its box if there are no masks.

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        i: Index of the object.
        tolerance: As in ``simplify``.
    """
    if "masks" not in result:
        x1, y1, x2, y2 = result["boxes"][i].tolist()
        return [Polygon(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), [])]
    rle = result["masks"][i]
    window, (y, x) = decode_window(_counts(rle), *rle["size"])

    def outline(ring):
        return simplify(ring, tolerance) + [x, y]

    return [Polygon(outline(part.shell), [*map(outline, part.holes)]) for part in trace(window)]


def _counts(rle: Mapping[str, Any]) -> bytes:
    counts = rle["counts"]
    return counts.encode("ascii") if isinstance(counts, str) else counts
