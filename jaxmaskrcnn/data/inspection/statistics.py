"""Counts and sizes of a data set's images and objects.

Shape legend: N images, G objects of all images together, crowd regions among them, K classes.
"""

import collections
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, Object
from jaxmaskrcnn.data.coco.packing import no_collection
from jaxmaskrcnn.data.fields.packed import Outline, outline_counts, vertex_count

# COCO's limits of small, medium and large objects, in square pixels of the image.
SMALL, LARGE = 32.0**2, 96.0**2
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
_COMMON_SIZES = 5
_TOGETHER = 100  # images whose objects, which lie far apart in memory, are read together
_BINS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # first counts of the histogram's bars


class Table(NamedTuple):
    """All objects as columns.

    Attributes:
        image: int32 [G], index of the object's image.
        label: int32 [G].
        crowd: bool [G].
        area: float64 [G], square pixels.
        sides: float64 [G, 2], width and height of the box in pixels.
        vertices: int32 [G], number of vertices of the closed polygons; 0 where the mask came as RLE.
        has_mask: bool [G].
        sizes: int32 [N, 2], height and width of the images.
    """

    image: np.ndarray
    label: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    sides: np.ndarray
    vertices: np.ndarray
    has_mask: np.ndarray
    sizes: np.ndarray


@no_collection()
def make_table(annotations: Annotations) -> Table:
    """Columns of the objects of all images."""
    counts = [len(image.objects) for image in annotations.images]
    parts = [_columns(annotations.images[i : i + _TOGETHER]) for i in range(0, len(counts), _TOGETHER)]
    numbers = np.concatenate([np.zeros((5, 0)), *(part[0] for part in parts)], 1)
    corners = np.concatenate([np.zeros((0, 4)), *(part[1] for part in parts)])
    return Table(
        image=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        label=numbers[0].astype(np.int32),
        crowd=numbers[1].astype(bool),
        area=np.maximum(numbers[2], 0),
        sides=corners[:, 2:] - corners[:, :2],
        vertices=numbers[3].astype(np.int32),
        has_mask=numbers[4].astype(bool),
        sizes=np.asarray([(i.height, i.width) for i in annotations.images], np.int32).reshape(-1, 2),
    )


def _columns(images: Sequence[AnnotatedImage]) -> tuple[np.ndarray, np.ndarray]:
    """Of the objects of some images: labels, crowd, areas, vertices, masks, float64 [5, G]; boxes, [G, 4]."""
    objects = [item for image in images for item in image.objects]
    if not objects:
        return np.zeros((5, 0)), np.zeros((0, 4))
    # All values of a column at once take a third of the time of asking each object for each.
    columns = dict(zip(Object._fields, zip(*objects, strict=True), strict=True))
    polygons = columns["polygons"]
    if set(map(type, polygons)) == {Outline}:  # nearly always, and quicker
        counts = outline_counts(polygons)
    else:
        counts = list(map(vertex_count, polygons))
    numbers = columns["label"], columns["crowd"], columns["area"], counts, list(map(bool, columns["rle"]))
    corners = np.fromiter(itertools.chain.from_iterable(columns["bbox"]), np.float64)
    return np.array(numbers, np.float64), corners.reshape(-1, 4)


@no_collection()
def statistics(annotations: Annotations, table: Table) -> dict[str, Any]:
    """Counts a data set's images and objects and measures their sizes.

    Args:
        annotations: The usable images and objects.
        table: Its columns.

    Returns:
        Plain values that json can hold. Crowd regions are counted on their own and are in none of
        the other figures, except for ``segmentations``. Quantiles are None where there are no values.
    """
    plain = ~table.crowd
    per_image = np.bincount(table.image[plain], minlength=len(table.sizes))
    return {
        "images": len(table.sizes),
        "objects": int(plain.sum()),
        "crowd_regions": int(table.crowd.sum()),
        "images_without_objects": int((per_image == 0).sum()),
        "classes": _classes(annotations, table),
        "object_sizes": _object_sizes(table),
        "objects_per_image": _objects_per_image(per_image),
        "image_sizes": _image_sizes(table.sizes),
        "segmentations": {
            "polygons": int((table.vertices > 0).sum()),
            "rle": int((table.has_mask & (table.vertices == 0)).sum()),
            "none": int((~table.has_mask).sum()),
            "most_vertices": int(table.vertices.max(initial=0)),
        },
    }


def _classes(annotations: Annotations, table: Table) -> list[dict]:
    count = len(annotations.categories)
    plain = ~table.crowd
    objects = np.bincount(table.label[plain], minlength=count)
    crowds = np.bincount(table.label[table.crowd], minlength=count)
    pairs = np.unique(table.image[plain].astype(np.int64) * count + table.label[plain])
    images = np.bincount(pairs % max(count, 1), minlength=count)
    return [
        {
            "id": category.id,
            "name": category.name,
            "objects": int(objects[k]),
            "images": int(images[k]),
            "crowd_regions": int(crowds[k]),
        }
        for k, category in enumerate(annotations.categories)
    ]


def _object_sizes(table: Table) -> dict[str, Any]:
    plain = ~table.crowd
    area = table.area[plain]
    whole = table.sizes[table.image[plain]].astype(np.float64).prod(1)
    return {
        "small": int((area < SMALL).sum()),
        "medium": int(((area >= SMALL) & (area <= LARGE)).sum()),
        "large": int((area > LARGE).sum()),
        "sqrt_area": quantiles(np.sqrt(area)),
        "relative": quantiles(np.sqrt(area / whole)),
    }


def quantiles(values: np.ndarray) -> dict[str, float] | None:
    """Some percentiles by name (``"50"`` is the median), or None where there are no values."""
    if not len(values):
        return None
    found = np.percentile(values, QUANTILES)
    return {str(q): round(float(value), 4) for q, value in zip(QUANTILES, found, strict=True)}


def _objects_per_image(per_image: np.ndarray) -> dict[str, Any] | None:
    if not len(per_image):
        return None
    edges = [*(b for b in _BINS if b <= per_image.max()), np.inf]
    bars, _ = np.histogram(per_image, edges)
    return {
        "min": int(per_image.min()),
        "median": float(np.median(per_image)),
        "mean": round(float(per_image.mean()), 3),
        "max": int(per_image.max()),
        "histogram": [
            {"from": int(first), "to": int(min(last - 1, per_image.max())), "images": int(bar)}
            for first, last, bar in zip(edges[:-1], edges[1:], bars, strict=True)
        ],
    }


def _image_sizes(sizes: np.ndarray) -> dict[str, Any]:
    counted = collections.Counter(map(tuple, sizes.tolist()))
    return {
        "distinct": len(counted),
        "common": [
            {"width": width, "height": height, "images": images}
            for (height, width), images in counted.most_common(_COMMON_SIZES)
        ],
        "short_side": quantiles(sizes.min(1)) if len(sizes) else None,
        "long_side": quantiles(sizes.max(1)) if len(sizes) else None,
    }
