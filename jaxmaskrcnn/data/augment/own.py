"""A transform of the user's, ``data.transform``: a function of an image and its objects.

Shape legend: H, W the image, G objects before, G' after.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config.functions import imported_function
from jaxmaskrcnn.data.fields.boxes import Boxes
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.fields.masks import Masks
from jaxmaskrcnn.data.fields.pieces import crop_piece, tighten
from jaxmaskrcnn.data.fields.polygons import Polygons
from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.errors import UserError


class Sample(NamedTuple):
    """What a transform gets and returns.

    Attributes:
        image: uint8 RGB [H, W, 3].
        boxes: float32 [G, 4], XYXY in pixels.
        labels: int32 [G], 0 to K - 1.
        crowd: bool [G], regions that are no objects.
        masks: bool [G, H, W], or None if the run has none.
        keypoints: float64 [G, points, 3] with x, y and visibility, or None.
        polygons: For each object its polygons, float64 [n, 2] each; none for an object that has a mask alone.
            None if the run draws nothing from polygons.
        semantic: uint8 [H, W], the labels of the pixels of a panoptic model, or None.
        origin: int [G], the position of each object among those that the transform got. What else is known of
            an object, such as extra ground truth, is that of its origin.

    Example:
        >>> box, one = np.array([[0, 0, 4, 4], [1, 1, 3, 3]], np.float32), np.zeros(2, bool)
        >>> image = np.zeros((4, 4, 3), np.uint8)
        >>> sample = Sample(image, box, np.array([0, 1]), one, None, None, None, None, np.arange(2))
        >>> sample.take(np.array([False, True])).labels.tolist()
        [1]
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray | None
    keypoints: np.ndarray | None
    polygons: list[list[np.ndarray]] | None
    semantic: np.ndarray | None
    origin: np.ndarray

    def take(self, chosen: np.ndarray) -> "Sample":
        """Return the sample with some of its objects, in another order or several times.

        Args:
            chosen: bool [G], or int of any length.
        """
        chosen = np.arange(len(self.labels))[chosen]
        arrays = {
            name: None if (value := getattr(self, name)) is None else value[chosen]
            for name in ("boxes", "labels", "crowd", "masks", "keypoints", "origin")
        }
        polygons = None if self.polygons is None else [self.polygons[i] for i in chosen]
        return self._replace(**arrays, polygons=polygons)


Transform = Callable[[Sample, np.random.Generator], Sample]


class OwnTransform:
    """A transform with the seed of one image's draws.

    Args:
        name: The function, ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION``. It is called with a `Sample` and a
            ``numpy.random.Generator``, from which all of its draws should come, so that a continued run has
            the same ones; it returns a `Sample` whose image has the same size.
        seed: Seed of the generator.
    """

    def __init__(self, name: str, seed: int):
        self._name, self._seed = name, seed

    def __call__(self, image: np.ndarray, objects: ImageObjects) -> tuple[np.ndarray, ImageObjects]:
        """Transform an image and its objects.

        Args:
            image: uint8 RGB [H, W, 3].
            objects: Its objects.

        Returns:
            The new image and objects.

        Raises:
            UserError: The function returns something else than a `Sample`, or values that do not fit.
        """
        transform: Transform = imported_function(self._name, "data.transform")
        given = _sample(image, objects)
        made = transform(given, np.random.default_rng(self._seed))
        if not isinstance(made, Sample):
            self._refuse(
                f"returns {type(made).__name__}; return a Sample, such as sample._replace(image=...)"
            )
        self._check(given, made)
        fields: dict[str, Any] = {"boxes": Boxes(np.asarray(made.boxes, np.float32).reshape(-1, 4))}
        if "polygons" in objects.fields:
            fields["polygons"] = _polygons(made)
        if made.masks is not None and "masks" in objects.fields:
            fields["masks"] = Masks(tuple(tighten(0, 0, np.asarray(mask, bool)) for mask in made.masks))
        if made.keypoints is not None and "keypoints" in objects.fields:
            fields["keypoints"] = Keypoints(np.asarray(made.keypoints, np.float64))
        ordered = {name: fields[name] for name in objects.fields}
        semantic = objects.semantic
        if semantic is not None:
            semantic = SemanticMap(np.asarray(made.semantic, np.uint8))
        of_origin = objects.take(np.asarray(made.origin, int))
        return made.image, dataclasses.replace(
            of_origin,
            labels=np.asarray(made.labels, np.int32),
            crowd=np.asarray(made.crowd, bool),
            areas=None,
            fields=ordered,
            semantic=semantic,
        )

    def _check(self, given: Sample, made: Sample) -> None:
        """Checks types, shapes and numbers of what the function returns."""
        image, count = np.asarray(made.image), len(made.labels)
        if image.shape != given.image.shape or image.dtype != np.uint8:
            self._refuse(
                f"returns an image of {image.dtype} {list(image.shape)} for one of uint8 "
                f"{list(given.image.shape)}; keep type and size, which data.crop and other settings change"
            )
        shapes: dict[str, tuple[int, ...]] = {"boxes": (count, 4), "crowd": (count,), "origin": (count,)}
        if given.semantic is not None:
            shapes["semantic"] = image.shape[:2]
        wrong = [i for i in np.ravel(made.origin) if not 0 <= i < len(given.labels)]
        if wrong:
            self._refuse(
                f"returns the origin {wrong[0]} of {len(given.labels)} objects; give positions among them"
            )
        if given.masks is not None:
            shapes["masks"] = (count, *image.shape[:2])
        if given.keypoints is not None:
            shapes["keypoints"] = (count, *given.keypoints.shape[1:])
        for name, shape in shapes.items():
            value = getattr(made, name)
            found = None if value is None else np.shape(value)
            if found != shape and not (count == 0 and value is not None and np.size(value) == 0):
                self._refuse(f"returns {name} of shape {found} for {count} labels; give {list(shape)}")
        if given.polygons is not None and (made.polygons is None or len(made.polygons) != count):
            self._refuse(f"returns no polygons for its {count} labels; give a list of polygons for each")

    def _refuse(self, problem: str) -> None:
        raise UserError(f"data.transform={self._name} {problem}.")


def _sample(image: np.ndarray, objects: ImageObjects) -> Sample:
    """An image and its objects as plain arrays."""
    masks = keypoints = polygons = None
    if "masks" in objects.fields:
        pieces = objects.fields["masks"].pieces
        empty = np.zeros(image.shape[:2], bool)
        masks = [empty if piece is None else crop_piece(piece, 0, 0, image.shape[:2]) for piece in pieces]
        masks = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
    if "keypoints" in objects.fields:
        keypoints = objects.fields["keypoints"].points
    if "polygons" in objects.fields:
        field = objects.fields["polygons"]
        polygons = [
            [vertices[parts == part] for part in np.unique(parts)]
            for vertices, parts in zip(field.vertices, field.parts, strict=True)
        ]
    semantic = None if objects.semantic is None else objects.semantic.labels
    return Sample(
        image, objects.boxes, objects.labels, objects.crowd, masks, keypoints, polygons, semantic,
        np.arange(len(objects)),
    )  # fmt: skip


def _polygons(made: Sample) -> Polygons:
    """The polygons as rows of vertices; each polygon ends where it begins."""
    vertices, parts = [], []
    for of_object in made.polygons or []:
        closed = [np.asarray(p, np.float64).reshape(-1, 2) for p in of_object]
        closed = [p if (p[0] == p[-1]).all() else np.concatenate([p, p[:1]]) for p in closed if len(p)]
        vertices.append(np.concatenate(closed) if closed else np.zeros((0, 2)))
        parts.append(np.repeat(np.arange(len(closed)), [len(p) for p in closed]).astype(np.int32))
    return Polygons(tuple(vertices), tuple(parts))
