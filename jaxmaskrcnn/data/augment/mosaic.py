"""Mosaic: four images that meet at a point of the canvas (Bochkovskiy et al. 2020, YOLOv4, section 3.3).

Each has gone through its own transforms, and shows the part that is next to the point, so that objects keep
the sizes of ordinary training images. That is MMDetection's ``Mosaic``, followed by a crop of its middle.

Shape legend: H, W the canvas; h, w an image.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment.geometry import fill_colour
from jaxmaskrcnn.data.augment.scene import Scene
from jaxmaskrcnn.data.transforms import Geometry, turn_points

COUNT = 4  # top left, top right, bottom left, bottom right
_CENTRE = 0.25, 0.5  # smallest share of a side at which the images meet, and the range above it


def meeting_point(canvas: tuple[int, int], uniform: np.ndarray) -> tuple[int, int]:
    """Where the four images meet, in the middle half of both sides of the canvas.

    Args:
        canvas: H and W.
        uniform: Two random numbers in [0, 1), for row and column.

    Returns:
        The first row and the first column of the image at the bottom right.

    Example:
        >>> meeting_point((64, 128), np.array([0.0, 0.5]))
        (16, 64)
    """
    y, x = (int(n * (_CENTRE[0] + _CENTRE[1] * u)) for n, u in zip(canvas, uniform, strict=True))
    return y, x


def place_tile(
    geometry: Geometry, corner: int, point: tuple[int, int], canvas: tuple[int, int]
) -> tuple[Geometry, tuple[int, int]]:
    """Keeps the part of an image that is next to the point, and says where it lies.

    Args:
        geometry: The image's transforms, whose window is the whole image.
        corner: 0 to 3: top left, top right, bottom left, bottom right.
        point: From `meeting_point`.
        canvas: H and W.

    Returns:
        The transforms with the smaller window, and the row and the column of its first pixel.

    Example:
        >>> whole = Geometry.resize((30, 40), (30, 40))
        >>> geometry, place = place_tile(whole, 0, (20, 50), (64, 64))
        >>> geometry.window, place  # the last 20 rows of the image, and all columns
        ((10, 0, 20, 40), (0, 10))
    """
    window, place = [], []
    for size, centre, side, before in zip(
        geometry.result, point, canvas, (corner < 2, corner % 2 == 0), strict=True
    ):
        visible = min(size, centre if before else side - centre)
        first = size - visible if before else 0
        window.append((first, first + visible))
        place.append(centre - visible if before else centre)
    # The window is one of the image before its quarter turns.
    (top, bottom), (left, right) = window
    corners = np.array([[left, top], [right, bottom]])
    corners = turn_points(corners, geometry.result, -geometry.turns % 4)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    y, x = geometry.window[:2]
    return geometry._replace(window=(y + top, x + left, bottom - top, right - left)), (place[0], place[1])


def join_tiles(
    scenes: Sequence[Scene], places: Sequence[tuple[int, int]], canvas: tuple[int, int], model: ModelConfig
) -> Scene:
    """Puts images beside each other on a canvas.

    Args:
        scenes: The images with their objects, which do not overlap on the canvas.
        places: Row and column of the first pixel of each.
        canvas: H and W of the result.
        model: Gives the mean colour, which fills what no image covers.

    Returns:
        An image [H, W, 3] with the objects of all, in their order. Extra ground truth of the image is that
        of the first.
    """
    kind = scenes[0].image.dtype
    # Normalised values have a mean of zero.
    fill = np.asarray(fill_colour(model) if kind == np.uint8 else (0,), kind)
    image = np.broadcast_to(fill, (*canvas, scenes[0].image.shape[2])).copy()
    moved = []
    for scene, (top, left) in zip(scenes, places, strict=True):
        height, width = scene.image.shape[:2]
        image[top : top + height, left : left + width] = scene.image
        moved.append(scene.objects.move(top, left, canvas))
    objects = moved[0]
    for other in moved[1:]:
        objects = objects.join(other)
    if objects.semantic is not None:
        labels = [other.semantic.labels for other in moved]
        semantic = dataclasses.replace(objects.semantic, labels=np.minimum.reduce(labels))  # 255 outside
        objects = dataclasses.replace(objects, semantic=semantic)
    return Scene(image, objects)
