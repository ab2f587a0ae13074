"""Detections in the formats of other programs: COCO json, labelme, GeoJSON, pictures of instances.

Masks come as COCO RLE and are looked at one by one, where they are not empty.

Shape legend: N objects, H, W height and width of the image.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.data.rle import decode_window
from jaxmaskrcnn.inference.contours import Polygon, simplify, trace

# The first version whose shapes have a description.
_LABELME_VERSION = "5.2.0"


def coco_annotations(
    result: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[int, str], first_id: int
) -> list[dict[str, Any]]:
    """Entries of a COCO json, with masks as RLE, and each with its score and its class's name.

    Args:
        result: Of ``Predictor``, with ``masks="rle"``.
        image: ``id`` and ``file_name`` of its image.
        names: Of the classes, by category id.
        first_id: ``id`` of the first entry.

    Returns:
        N entries, best first.
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
        if "masks" in result:
            entry["segmentation"] = result["masks"][i]
            entry["area"] = int(rle_codec.area(result["masks"][i]))
        entries.append(entry)
    return entries


def labelme_content(
    result: Mapping[str, Any], names: Mapping[int, str], image: str | os.PathLike, folder: str | os.PathLike,
    size: tuple[int, int], tolerance: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """A json of labelme: polygons (rectangles, where there are no masks) to look at and correct.

    labelme's polygons have no holes. They are filled, and the shape's description says how many.
    Parts of one object share a ``group_id``. Objects whose mask is empty are left out.

    Args:
        result: Of ``Predictor``, with ``masks="rle"``.
        names: Of the classes, by category id.
        image: Its image file.
        folder: Where the json will lie; the image is named as seen from there.
        size: (H, W).
        tolerance: As in ``simplify``.

    Returns:
        What to write; ``jaxmaskrcnn import --format=labelme`` reads it.
    """
    shapes = []
    for i, label in enumerate(result["labels"]):
        polygons = object_polygons(result, i, tolerance)
        for polygon in polygons:
            description = f"score {result['scores'][i]:.3f}"
            if polygon.holes:
                description += f", holes filled: {len(polygon.holes)}"
            shapes.append(
                {
                    "label": names[int(label)],
                    "points": polygon.shell.tolist(),
                    "group_id": i + 1 if len(polygons) > 1 else None,
                    "description": description,
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            )
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image, folder)).as_posix(),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def geojson_content(
    result: Mapping[str, Any],
    names: Mapping[int, str],
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """A GeoJSON ``FeatureCollection`` in pixels, x to the right and y downwards (as QuPath has it).

    Args:
        result: Of ``Predictor``, with ``masks="rle"``.
        names: Of the classes, by category id.
        colours: RGB of the classes, by category id; None leaves them out.
        tolerance: As in ``simplify``.

    Returns:
        What to write: a ``Polygon`` or ``MultiPolygon`` with holes for each object that has a
        pixel. Outer rings run in the direction of the right-hand rule (RFC 7946), seen with y
        upwards.
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
    """One picture of all masks: 0 where nothing is, elsewhere the number of the object.

    Args:
        result: Of ``Predictor``, with ``masks="rle"``.
        size: (H, W).

    Returns:
        [H, W], uint8 or, for more than 255 objects, uint16. The first object, which has the
        highest score, is 1; where masks overlap, the higher score is seen.
    """
    masks = result["masks"]
    picture = np.zeros(size, np.uint8 if len(masks) < 256 else np.uint16)
    for i in reversed(range(len(masks))):
        window, (y, x) = decode_window(_counts(masks[i]), *size)
        h, w = window.shape
        picture[y : y + h, x : x + w][window] = i + 1
    return picture


def instance_legend(result: Mapping[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """What the values of `instance_picture` are.

    Args:
        result: As there.
        names: Of the classes, by category id.

    Returns:
        For each object ``value``, ``category_id``, ``category_name`` and ``score``.
    """
    return [
        {"value": i + 1, "category_id": label, "category_name": names[label], "score": score}
        for i, (label, score) in enumerate(
            zip(result["labels"].tolist(), result["scores"].astype(float).tolist(), strict=True)
        )
    ]


def object_polygons(result: Mapping[str, Any], i: int, tolerance: float = 0.0) -> list[Polygon]:
    """Outlines of an object's mask, in pixels of the image; its box where there is no mask.

    Args:
        result: Of ``Predictor``, with ``masks="rle"``.
        i: The object's place.
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
