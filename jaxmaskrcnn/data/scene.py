"""An augmented image with its objects: from a record to the slots of a batch.

Shape legend: H, W the record's image; h, w the result; G objects.
"""

from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.augment import Geometry, MaskGrid, Piece, fill_colour, rotate_image
from jaxmaskrcnn.data.photometric import Distortion, distort
from jaxmaskrcnn.data.preprocess import resize_for
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.data.transforms import clip_boxes, not_degenerate
from jaxmaskrcnn.structures import Targets

_CUT = 1e-2  # pixels by which a box has to reach over the border to count as cut


class Scene(NamedTuple):
    """An image and its objects.

    Attributes:
        image: [h, w, 3], as ``resize_for`` returns it.
        boxes: float32 [G, 4], XYXY in pixels.
        labels: int32 [G].
        crowd: bool [G].
        pieces: G masks; None where the data set has no masks.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    pieces: tuple[Piece, ...] | None


def transform_image(
    image: np.ndarray, geometry: Geometry, distortion: Distortion | None, model: ModelConfig
) -> np.ndarray:
    """Crops, distorts, turns, resizes, mirrors and crops again.

    Args:
        image: uint8 RGB [H, W, 3].
        geometry: The transforms.
        distortion: Of the colours, or None.
        model: Kernel, and what ``resize_for`` needs.

    Returns:
        [h, w, 3], uint8 RGB, or normalised float32 with the kernel "torch".
    """
    top, left, height, width = geometry.crop
    image = image[top : top + height, left : left + width]
    if distortion is not None:
        image = distort(image, distortion)
    if geometry.angle:
        image = rotate_image(image, geometry.angle, fill_colour(model))
    image = resize_for(model, np.ascontiguousarray(image), geometry.size)
    if geometry.flip:
        image = image[:, ::-1]
    top, left, height, width = geometry.window
    return image[top : top + height, left : left + width]


def transform_scene(
    image: np.ndarray,
    example,
    geometry: Geometry,
    distortion: Distortion | None,
    model: ModelConfig,
    masks: bool,
) -> Scene:
    """Transforms an image and its objects; objects of which nothing remains are left out.

    Args:
        image: uint8 RGB [H, W, 3], the record's.
        example: The record: ``size``, ``boxes``, ``labels``, ``crowd`` and ``rles``.
        geometry: The transforms.
        distortion: Of the colours, or None.
        model: How images are resized.
        masks: Whether the record has masks.
    """
    boxes, pieces, kept = transform_objects(example, geometry, model.resize_kernel, masks=masks)
    return Scene(
        image=transform_image(image, geometry, distortion, model),
        boxes=boxes,
        labels=example.labels[kept],
        crowd=example.crowd[kept],
        pieces=pieces,
    )


def transform_objects(
    example, geometry: Geometry, kernel: str, *, masks: bool
) -> tuple[np.ndarray, tuple[Piece, ...] | None, np.ndarray]:
    """Transforms the objects of an image and drops those of which nothing remains.

    With masks, an object that was turned or cut gets the tight box of the mask that remains
    (Detectron2's ``recompute_boxes``); any other keeps its annotated box, moved with the image.
    Without masks boxes are clipped (torchvision's rule), turned ones after the box around their
    corners is taken.

    Args:
        example: The record: ``boxes``, ``rles``, ``size``.
        geometry: The transforms.
        kernel: ``ModelConfig.resize_kernel``.
        masks: Whether to transform masks.

    Returns:
        Boxes float32 [kept, 4], their masks (or None), and which objects they are, int [kept].
    """
    moved = geometry.boxes(example.boxes)
    boxes = clip_boxes(moved, geometry.window[2:])
    present = np.ones(len(boxes), bool)
    pieces = None
    if masks:
        grid = MaskGrid(geometry, example.size, kernel)
        pieces = [grid(decode_mask(rle, *example.size)) for rle in example.rles]
        changed = (np.abs(boxes - moved) > _CUT).any(axis=1) | bool(geometry.angle)
        for g, piece in enumerate(pieces):
            present[g] = piece is not None
            if changed[g] and present[g]:
                boxes[g] = piece.box
    kept = np.flatnonzero(present & not_degenerate(boxes))
    return boxes[kept], None if pieces is None else tuple(pieces[g] for g in kept), kept


def fill_targets(targets: Targets, slot: int, scene: Scene) -> None:
    """Writes a scene's objects into one image's slots; where they do not suffice, the largest.

    Args:
        targets: From ``empty_targets``.
        slot: The image's place in the batch.
        scene: Its objects.
    """
    slots, chosen = targets.valid.shape[1], np.arange(len(scene.boxes))
    if len(chosen) > slots:
        if scene.pieces is None:
            areas = (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(axis=1)
        else:
            areas = np.asarray([piece.pixels.sum() for piece in scene.pieces])
        chosen = np.sort(np.argsort(-areas, kind="stable")[:slots])
    count = len(chosen)
    targets.boxes[slot, :count] = scene.boxes[chosen]
    targets.labels[slot, :count] = scene.labels[chosen]
    targets.crowd[slot, :count] = scene.crowd[chosen]
    targets.valid[slot, :count] = True
    if targets.masks is not None:
        for packed, g in zip(targets.masks[slot], chosen, strict=False):
            left, top, right, bottom = scene.pieces[g].box
            first = left // 8  # bytes of the packed rows begin at multiples of eight
            bits = np.packbits(np.pad(scene.pieces[g].pixels, ((0, 0), (left - 8 * first, 0))), axis=-1)
            packed[top:bottom, first : first + bits.shape[-1]] = bits
