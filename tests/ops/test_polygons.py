"""Mask targets drawn from polygons, against Detectron2's rule with pycocotools itself.

``pytest -s`` prints the shares of pixels that differ; docs/parity.md has them.
"""

import warnings

import jax
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from jaxmaskrcnn import ops

SIZE = 28


def reference(polygons, box, size=SIZE):
    """One object's target in float64, as Detectron2 makes it; polygons as COCO has them."""
    box = np.asarray(box, np.float32)
    ratio = [size / max(side, 0.1) for side in box[2:] - box[:2]]  # float32 since NumPy 2
    scaled = [((np.reshape(p, (-1, 2)) - box[:2]) * ratio).ravel().tolist() for p in polygons]
    with warnings.catch_warnings():  # pycocotools and NumPy 2 do not quite agree
        warnings.simplefilter("ignore", DeprecationWarning)
        return mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(scaled, size, size)))


def closed(objects):
    """Vertices [G, V, 4] and parts [G, V] of objects that are lists of flat polygons."""
    slots = max(sum(len(p) // 2 + 1 for p in polygons) for polygons in objects) + 3
    vertices, parts = np.zeros((len(objects), slots, 2)), np.full((len(objects), slots), -1)
    for g, polygons in enumerate(objects):
        start = 0
        for i, polygon in enumerate(polygons):
            ring = np.reshape(polygon, (-1, 2))[[*range(len(polygon) // 2), 0]]
            vertices[g, start : start + len(ring)], parts[g, start : start + len(ring)] = ring, i
            start += len(ring)
    rounded = vertices.astype(np.float32)
    vertices = np.concatenate([rounded, (vertices - rounded).astype(np.float32)], -1)
    return vertices, parts.astype(np.int32)


DRAW = jax.jit(ops.polygon_targets, static_argnames="size")


def draw(objects, boxes, size=SIZE):
    """Each object in its own box."""
    boxes = np.asarray(boxes, np.float32)
    return np.asarray(DRAW(*closed(objects), np.arange(len(objects)), boxes, size))


def blob(rng, count, centre, radius, spread=0.5):
    """A concave outline around a centre."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radii = radius * rng.uniform(1 - spread, 1, count)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return points.round(int(rng.integers(0, 3))).ravel().tolist()


def some_box(rng, centre, radius):
    corner = centre - radius * rng.uniform(-0.2, 1.5, 2)
    return [*corner, *(corner + radius * rng.uniform(0.3, 3, 2))]


def make(kind, rng):
    """One object of a kind, and a box."""
    centre, radius = rng.uniform(0, 600, 2), rng.uniform(10, 200)
    count = int(rng.integers(3, 40))
    box = some_box(rng, centre, radius)
    if kind == "one part":
        return [blob(rng, count, centre, radius)], box
    if kind == "several parts":
        places = centre + rng.uniform(-radius, radius, (int(rng.integers(2, 6)), 2))
        return [blob(rng, int(rng.integers(3, 12)), place, radius / 2) for place in places], box
    if kind == "tiny":
        return [blob(rng, count, centre, 2.0)], some_box(rng, centre, 3.0)
    if kind == "huge in a small box":
        return [blob(rng, count, centre, 2000.0)], some_box(rng, centre, 8.0)
    if kind == "outside":
        return [blob(rng, count, centre, radius)], some_box(rng, centre + 3 * radius, radius)
    if kind == "self-intersecting":
        return [rng.uniform(centre - radius, centre + radius, (count, 2)).ravel().tolist()], box
    if kind == "degenerate":  # repeated points, vertical, horizontal and returning edges
        points = rng.integers(0, 4, (count, 2)) * 10.0
        return [points.ravel().tolist()], [*rng.uniform(-10, 10, 2), *rng.uniform(11, 50, 2)]
    if kind == "whole pixels":
        points = rng.integers(0, 57, (count, 2)).astype(float)
        side = 28 * rng.integers(1, 3, 2)
        return [points.ravel().tolist()], [0, 0, *side]
    if kind == "own box":  # as annotated, resized, in the region that is its box
        polygon = np.array(blob(rng, count, centre, radius)).round(2) * (400 / int(rng.integers(300, 500)))
        return [polygon.tolist()], [*polygon.reshape(-1, 2).min(0), *polygon.reshape(-1, 2).max(0)]
    if kind == "borders":  # many vertices on borders between two fifths of a cell
        return [(rng.integers(0, 7, 2 * count) * 10.0).tolist()], [0, 0, *rng.integers(1, 61, 2)]
    if kind == "empty box":
        x, y = centre
        return [blob(rng, count, centre, radius)], [x, y, x + rng.choice([0, 0.05, 50]), y]
    raise KeyError(kind)


KINDS = (
    "one part", "several parts", "tiny", "huge in a small box", "outside", "self-intersecting",
    "degenerate", "whole pixels", "empty box", "own box", "borders",
)  # fmt: skip
OBJECTS = 400


@pytest.mark.parametrize("kind", KINDS)
def test_against_pycocotools(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    objects, boxes = zip(*(make(kind, rng) for _ in range(OBJECTS)), strict=True)
    ours = draw(objects, boxes)
    expected = np.stack([reference(*pair) for pair in zip(objects, boxes, strict=True)])
    differs = (ours != expected).mean()
    print(f"{kind}: share that differs {differs:.1e}, share inside {expected.mean():.2f}")
    # Where an edge's height is half a step exactly, C's doubles may go up or down.
    assert differs <= (1e-5 if kind == "self-intersecting" else 0)


def test_many_parts_are_united():
    rng = np.random.default_rng(0)
    places = rng.uniform(20, 80, (70, 2))  # more than the bits of a word
    objects = [[blob(rng, 8, place, 12.0) for place in places[:count]] for count in (70, 33, 32, 2)]
    boxes = [[10.3, 5.2, 90.1, 95.7]] * 4
    for ours, polygons, box in zip(draw(objects, boxes), objects, boxes, strict=True):
        np.testing.assert_array_equal(ours, reference(polygons, box))


@pytest.mark.slow
def test_regions_choose_their_objects_and_padding_changes_nothing():
    rng = np.random.default_rng(1)
    objects, boxes = zip(*(make("several parts", rng) for _ in range(5)), strict=True)
    vertices, parts = closed(objects)
    index, boxes = np.array([3, 0, 3, 4]), np.asarray(boxes, np.float32)[[3, 0, 1, 4]]
    ours = np.asarray(DRAW(vertices, parts, index, boxes, 14))
    for target, i, box in zip(ours, index, boxes, strict=True):
        np.testing.assert_array_equal(target, reference(objects[i], box, 14))
    more = np.pad(vertices, ((0, 2), (0, 50), (0, 0)), constant_values=7)
    marks = np.pad(parts, ((0, 2), (0, 50)), constant_values=-1)
    np.testing.assert_array_equal(DRAW(more, marks, index, boxes, 14), ours)
    assert not DRAW(more, marks, np.full(4, 6), boxes, 14).any()  # an object without polygons
    images = jax.jit(jax.vmap(lambda *x: ops.polygon_targets(*x, 14)))
    both = images(*(np.stack([x, x[::-1]]) for x in (vertices, parts)), np.stack([index, 4 - index]),
                  np.stack([boxes, boxes]))  # fmt: skip
    np.testing.assert_array_equal(both, [ours, ours])


def test_no_regions_no_vertices():
    vertices, parts = closed([[[0.0, 0, 9, 0, 9, 9]]])
    assert ops.polygon_targets(vertices, parts, np.zeros(0, int), np.zeros((0, 4)), 7).shape == (0, 7, 7)
    none = ops.polygon_targets(vertices[:, :0], parts[:, :0], np.zeros(2, int), np.ones((2, 4)), 7)
    assert none.shape == (2, 7, 7) and not none.any()


def test_no_gradient_and_no_nan():
    vertices, parts = closed([[[0.0, 0, 9, 0, 9, 9]]])
    gradient = jax.grad(lambda boxes: ops.polygon_targets(vertices, parts, np.zeros(2, int), boxes, 7).sum())
    assert not gradient(np.array([[0.0, 0, 5, 5], [1, 1, 1, 1]], np.float32)).any()


def test_memory_stays_small():
    """128 regions of objects with 2000 vertices: no array of regions x vertices x pixels."""
    shapes = [(100, 2000, 2), (100, 2000), (128,), (128, 4)]
    arguments = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in zip(shapes, "fiif", strict=True)]
    compiled = jax.jit(lambda *x: ops.polygon_targets(*x, SIZE)).lower(*arguments).compile()
    used = compiled.memory_analysis().temp_size_in_bytes
    assert used < 2**27  # the array of booleans would have 200 MB
