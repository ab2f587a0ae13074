"""Outlines of masks as polygons with holes, exact to the pixel.

The outline runs along the edges of pixels, at whole coordinates: pixel (row, column) covers
the square from (column, row) to (column + 1, row + 1). Pixels that touch only at a corner are not
connected, so that every ring is simple: it neither crosses nor touches itself.

Shape legend: H, W height and width of the mask, C its corners, V vertices of a ring.
"""

from typing import NamedTuple

import numpy as np


class Polygon(NamedTuple):
    """The outline of a connected part of a mask.

    Attributes:
        shell: int [V, 2], x and y of the outline's vertices, the first one not repeated. Its
            area by the shoelace formula is positive (on a screen it runs clockwise).
        holes: Rings in the same form, with negative area.
    """

    shell: np.ndarray
    holes: list[np.ndarray]


def trace(mask: np.ndarray) -> list[Polygon]:
    """Traces the outlines of a mask.

    Args:
        mask: bool [H, W].

    Returns:
        A polygon for each 4-connected part, from top to bottom. Filled by the even-odd rule, they
        reproduce the mask.

    Example:
        >>> trace(np.ones((2, 3), bool))[0].shell.tolist()
        [[0, 0], [3, 0], [3, 2], [0, 2]]
    """
    rings = [simple for ring in _rings(np.asarray(mask, bool)) for simple in _split(ring)]
    areas = [ring_area(ring) for ring in rings]
    polygons = [Polygon(ring, []) for ring, area in zip(rings, areas, strict=True) if area > 0]
    sizes = [area for area in areas if area > 0]
    for ring, area in zip(rings, areas, strict=True):
        if area < 0:
            around = [k for k, polygon in enumerate(polygons) if _inside(ring, polygon.shell)]
            polygons[min(around, key=lambda k: sizes[k])].holes.append(ring)
    return polygons


def simplify(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Reduces the number of vertices of a ring (Douglas and Peucker, 1973).

    Args:
        ring: [V, 2].
        tolerance: Largest distance of the old vertices from the new outline, in pixels; 0 leaves the
            ring unchanged. From about 0.75 on, the pixel steps of a slanted edge vanish.

    Returns:
        Some of the vertices, at least three, in their order.

    Example:
        >>> simplify(np.array([[0, 0], [2, 0], [2, 1], [4, 1], [4, 9], [0, 9]]), 1.0).tolist()
        [[0, 0], [4, 1], [4, 9], [0, 9]]
    """
    if tolerance <= 0:
        return ring
    keep = np.zeros(len(ring), bool)
    # The ring is divided at the first vertex and the one farthest from it.
    far = int(np.hypot(*(ring - ring[0]).T).argmax())
    closed = np.concatenate([ring, ring[:1]]).astype(np.float64)
    parts = [(0, far), (far, len(ring))]
    while parts:
        start, end = parts.pop()
        keep[[start, end % len(ring)]] = True
        if end - start < 2:
            continue
        chord = closed[end] - closed[start]
        offset = closed[start + 1 : end] - closed[start]
        away = np.abs(chord[0] * offset[:, 1] - chord[1] * offset[:, 0]) / max(np.hypot(*chord), 1e-9)
        if away.max() > tolerance:
            middle = start + 1 + int(away.argmax())
            parts += [(start, middle), (middle, end)]
    return ring[keep] if keep.sum() > 2 else ring


def ring_area(ring: np.ndarray) -> float:
    """Signed area of a ring [V, 2] by the shoelace formula."""
    x, y = np.asarray(ring, np.float64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """Follow the edges of pixels to closed rings, which may pass through a vertex more than once."""
    padded = np.pad(mask, 1)
    # The four pixels around each corner of the grid [H + 1, W + 1].
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    right, left, down, up = ne != se, nw != sw, sw != se, nw != ne  # edges that meet at the corner
    crossing = right & left & down & up  # two pixels that touch only at this corner
    turns = ((right ^ left) & (down ^ up)) | crossing
    rows, columns = np.nonzero(turns)
    twice = crossing[rows, columns]
    # A crossing counts as two corners, one for each pixel. The first has the left edge and the vertical edge
    # of the same pixel.
    corner = np.repeat(np.arange(len(rows)), 1 + twice)
    second = np.zeros(len(corner), bool)
    second[1:] = corner[1:] == corner[:-1]
    y, x = rows[corner], columns[corner]
    at_crossing = crossing[y, x]
    goes_right = np.where(at_crossing, second, right[y, x])
    falling = nw[y, x]  # whether the pixels of a crossing are the upper left and the lower right one
    goes_down = np.where(at_crossing, second == falling, down[y, x])

    # Along a row, corners are joined in pairs; likewise along a column.
    across, along = np.empty(len(y), int), np.empty(len(y), int)
    for partner, order in ((across, np.lexsort((goes_right, x, y))), (along, np.lexsort((goes_down, y, x)))):
        partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]

    filled = se[y, x].tolist()
    across, along = across.tolist(), along.tolist()
    used = [False] * len(filled)
    vertices = np.stack([x, y], 1)
    rings = []
    for start in range(len(filled)):
        if used[start]:
            continue
        # The first corner of a ring is its uppermost, leftmost one: it turns right and down there.
        # A shell is followed to the right, a hole downwards, with the mask on the same side.
        steps = (across, along) if filled[start] else (along, across)
        walk, here = [], start
        while not used[here]:
            for step in steps:
                used[here] = True
                walk.append(here)
                here = step[here]
        rings.append(vertices[walk])
    return rings


def _split(ring: np.ndarray) -> list[np.ndarray]:
    """Splits a ring that passes through a vertex twice into simple rings."""
    places: dict[tuple[int, int], int] = {}
    open_, closed = [], []
    for vertex in map(tuple, ring.tolist()):
        if vertex in places:
            start = places[vertex]
            closed.append(open_[start:])
            for inner in open_[start + 1 :]:
                del places[inner]
            del open_[start + 1 :]
        else:
            places[vertex] = len(open_)
            open_.append(vertex)
    return [np.array(part) for part in (open_, *closed)]


def _inside(hole: np.ndarray, shell: np.ndarray) -> bool:
    """Whether a hole lies inside a shell, given that rings do not cross."""
    # The centre of the pixel beside the hole's first edge, on the side that lies in the hole.
    edge = np.sign(hole[1] - hole[0])
    point = hole[0] + 0.5 * edge + 0.5 * np.array([edge[1], -edge[0]])
    starts, ends = shell, np.roll(shell, -1, 0)
    vertical = starts[:, 0] == ends[:, 0]
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    crossed = vertical & (starts[:, 0] > point[0]) & (low < point[1]) & (point[1] < high)
    return bool(crossed.sum() % 2)
