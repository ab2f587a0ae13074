"""Polygons on the host: from COCO's lists to the padded arrays that targets carry.

Shape legend: G objects, V vertex slots.
"""

from collections.abc import Sequence

import numpy as np

_FEWEST = 16  # vertex slots


def closed_vertices(text: str) -> int:
    """Vertices of an object's closed polygons, from their json text and without parsing it.

    Args:
        text: ``[[x, y, ...], ...]``, or nothing for an object without polygons.

    Returns:
        Their number, each polygon's first one counted twice.
    """
    if not text:
        return 0
    return (text.count(",") + 1) // 2 + text.count("[") - 1


def vertex_slots(count: int) -> int:
    """V for objects of up to ``count`` vertices: powers of two, so that few programs are compiled."""
    return max(_FEWEST, 1 << max(count - 1, 0).bit_length())


def place_polygons(
    polygons: Sequence[Sequence[float]], old: tuple[int, int], new: tuple[int, int], *, flip: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """An object's polygons, following its image's resize and flip, as one row of vertices.

    In float64 until the end, each axis by its own ratio and mirrored afterwards, as Detectron2's
    transforms do it.

    Args:
        polygons: Each one ``x, y, x, y, ...`` in pixels of the old size.
        old: ``(height, width)`` before.
        new: ``(height, width)`` after.
        flip: Whether to mirror left to right (after resizing).

    Returns:
        float32 [n, 4]: x and y of the vertices, each polygon's first one again as its last, and what
        float32 leaves of them; and int32 [n], the number of the polygon that each belongs to.
    """
    ratio = np.array([new[1] / old[1], new[0] / old[0]])
    rings, parts = [np.zeros((0, 2))], [np.zeros(0)]
    for part, polygon in enumerate(polygons):
        ring = np.asarray(polygon, np.float64).reshape(-1, 2)
        ring = np.concatenate([ring, ring[:1]]) * ratio
        if flip:
            ring[:, 0] = new[1] - ring[:, 0]
        rings.append(ring)
        parts.append(np.full(len(ring), part))
    exact = np.concatenate(rings)
    rounded = exact.astype(np.float32)
    vertices = np.concatenate([rounded, (exact - rounded).astype(np.float32)], 1)
    return vertices, np.concatenate(parts).astype(np.int32)
