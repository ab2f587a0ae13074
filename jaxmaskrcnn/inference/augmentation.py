"""Test-time augmentation: detection in several versions of a picture, mirrored, enlarged and reduced.

As in Detectron2's ``GeneralizedRCNNWithTTA``, boxes are detected in every version, mapped back to the
picture and merged by another NMS within each class. For the remaining boxes the mask head is run in
every version, and its probabilities are averaged.

Shape legend: V versions ("views") of a picture, D detection slots, M the side of a mask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmaskrcnn.config import MaskScoringConfig
from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.predictor import Predictor, Row, Work, canvas_of, stack
from jaxmaskrcnn.ops.boxes import clip_boxes
from jaxmaskrcnn.ops.nms import limited_nms
from jaxmaskrcnn.structures import Batch, Detections

Array = jax.Array

SCALES = (0.75, 1.0, 1.25)


class View(NamedTuple):
    """A version of a picture.

    Attributes:
        scale: Factor of its size, relative to the size that the model's config gives.
        flip: Whether it is mirrored left to right.
    """

    scale: float
    flip: bool


class AugmentedPredictor(Predictor):
    """A `Predictor` that detects in several versions of each picture, as Detectron2's does.

    Its time grows with the number of versions, and the features of all versions of one picture are
    on the device at the same time.

    Args:
        model: MaskRCNN.
        score_threshold: As in `Predictor`, for each version.
        scales: Sizes of the versions, relative to the config's ``input.test_min_size``
            and ``input.test_max_size``.
        flip: Whether to add a mirrored version of each scale.
        classes: As in `Predictor`.
        thresholds: As in `Predictor`, for the merged detections.
        device: As in `Predictor`.
        dtype: As in `Predictor`.

    Raises:
        UserError: No scale is given, or one is out of range; or as in `Predictor`.

    Example:
        >>> predictor = AugmentedPredictor(model, 0.5, scales=(1, 1.5))
        >>> predictor.config.detections.score_threshold
        0.5
        >>> out = predictor("street.jpg")  # doctest: +SKIP
        >>> SCALES  # if none are given
        (0.75, 1.0, 1.25)
    """

    # The features of one picture's versions are half a gigabyte for a large model.
    _in_flight = 0
    _built = ("_detect", "_detect_boxes", "_masks_of_boxes", "_merge")

    def __init__(
        self,
        model,
        score_threshold: float | None = None,
        *,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
        classes: Sequence[int | str] | None = None,
        thresholds: Mapping[int, float] | None = None,
        device: Any = None,
        dtype: str | None = None,
    ):
        super().__init__(
            model, score_threshold, classes=classes, thresholds=thresholds, device=device, dtype=dtype
        )
        if not len(scales) or not all(0 < scale <= 10 for scale in scales):
            raise UserError(f"The scales are {list(scales)}; give at least one, above 0 and at most 10.")
        if self.config.keypoints is not None:
            raise UserError(
                "Test-time augmentation does not merge keypoints, and the model has a keypoint head; predict "
                "without it."
            )
        if (method := self.config.detections.nms_method) != "greedy":
            raise UserError(
                "Test-time augmentation drops boxes that overlap better ones, and the model's "
                f"detections.nms_method is {method!r}; set it to 'greedy', or predict without augmentation."
            )
        if self.config.semantic is not None:
            raise UserError(
                "Test-time augmentation does not merge the classes of pixels, and the model has a semantic "
                "head; predict without it."
            )
        if isinstance(self.config.mask, MaskScoringConfig):
            raise UserError(
                "Test-time augmentation does not merge the IoUs of masks, and the model's mask head predicts "
                "them (mask_scoring); predict without it."
            )
        if self.has_extra:
            raise UserError(
                "Test-time augmentation does not merge what further region heads predict, and the model has "
                "some; predict without it."
            )
        flips = (False, True) if flip else (False,)
        self._views = [View(scale, f) for scale in dict.fromkeys(map(float, scales)) for f in flips]

    def _build(self) -> None:
        super()._build()
        self._detect_boxes = self._compiled(lambda detector, batch: detector.detect_boxes(batch))
        self._masks_of_boxes = self._compiled(_masks_in_view)
        self._merge = jax.jit(self._merged)

    def _prepare(self, image, name: str) -> tuple[np.ndarray, list[Batch]]:
        pixels = read_image(image, self.config.input.pixels, name)
        batches = []
        for scale in dict.fromkeys(view.scale for view in self._views):
            config = self.config.replace(
                {
                    "input.test_min_size": max(1, round(self.config.input.test_min_size * scale)),
                    "input.test_max_size": max(1, round(self.config.input.test_max_size * scale)),
                }
            )
            batch = make_batch(config, [pixels])
            batch = stack([batch], canvas_of(batch.images.shape[1:3], config), 1)
            flips = [view.flip for view in self._views if view.scale == scale]
            batches += [_mirrored_batch(batch) if flip else batch for flip in flips]
        return pixels, batches

    def _group(self, rows: Iterable[Row]) -> Iterator[Work]:
        for row in rows:
            size = np.array([row.pixels.shape[:2]], np.int32)
            yield Work([row], row.inputs, size, size)  # boxes come back at the picture's own scale

    def _compute(self, inputs: list[Batch]) -> Detections:
        flips = jax.device_put([view.flip for view in self._views])
        sizes, original = np.concatenate([batch.image_sizes for batch in inputs]), inputs[0].original_sizes[0]
        inputs = jax.device_put(inputs)
        levels, found = zip(*(self._detect_boxes(self._state, batch) for batch in inputs), strict=True)
        merged = self._merge(found, *jax.device_put((sizes, original)))
        if self.config.mask is not None:
            masks = [
                self._masks_of_boxes(self._state, batch, level, merged, flip)
                for batch, level, flip in zip(inputs, levels, flips, strict=True)
            ]
            merged = merged._replace(masks=sum(masks) / len(masks))
        return jax.tree.map(lambda x: x[None], merged)

    def _merged(self, found: Sequence[Detections], sizes: Array, original_size: Array) -> Detections:
        return merge_views(
            found, sizes, original_size, [view.flip for view in self._views],
            nms_threshold=self.config.detections.nms_threshold, limit=self.config.detections.per_image,
        )  # fmt: skip


def merge_views(
    found: Sequence[Detections],
    sizes: Array,
    original_size: Array,
    flips: Sequence[bool],
    *,
    nms_threshold: float,
    limit: int,
) -> Detections:
    """Maps the boxes of all versions back to the picture and merges them by NMS within each class.

    Args:
        found: Detections of the V versions, each with a leading axis of one image.
        sizes: int [V, 2], height and width of the versions.
        original_size: int [2], height and width of the picture.
        flips: Whether each version is mirrored.
        nms_threshold: A box is dropped if its IoU with a box of a higher score exceeds this.
        limit: D.

    Returns:
        Detections of the picture at its own scale, best first, with D slots and ``masks=None``.
    """
    boxes = [
        box_in_picture(one.boxes[0], size, original_size, flip)
        for one, size, flip in zip(found, sizes, flips, strict=True)
    ]
    boxes = clip_boxes(jnp.concatenate(boxes), original_size)
    scores, labels, valid = (
        jnp.concatenate([getattr(one, name)[0] for one in found]) for name in ("scores", "labels", "valid")
    )
    index, kept = limited_nms(boxes, scores, labels, nms_threshold, limit, valid=valid)
    return Detections(
        boxes=jnp.where(kept[:, None], boxes[index], 0),
        scores=jnp.where(kept, scores[index], 0),
        labels=jnp.where(kept, labels[index], 0),
        masks=None,
        valid=kept,
    )


def box_in_picture(boxes: Array, size: Array, original_size: Array, flip: Array | bool) -> Array:
    """Maps boxes of a version of a picture to the picture itself.

    Args:
        boxes: [N, 4], XYXY in pixels of the version.
        size: int [2], height and width of the version.
        original_size: int [2], height and width of the picture.
        flip: Whether the version is mirrored; may be traced.

    Returns:
        float32 [N, 4].

    Example:
        >>> box_in_picture(jnp.array([[2.0, 0, 8, 4]]), (20, 40), (10, 20), True).tolist()
        [[16.0, 0.0, 19.0, 2.0]]
    """
    return mirrored(boxes, size, flip) * _ratio(original_size, size)


def box_in_view(boxes: Array, size: Array, original_size: Array, flip: Array | bool) -> Array:
    """The inverse of `box_in_picture`."""
    return mirrored(boxes * _ratio(size, original_size), size, flip)


def mirrored(boxes: Array, size: Array, flip: Array | bool) -> Array:
    """Mirrors boxes left to right in an image of size (height, width) if ``flip`` is set."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    return jnp.where(flip, jnp.stack([size[1] - x2, y1, size[1] - x1, y2], -1), boxes)


def _mirrored_batch(batch: Batch) -> Batch:
    """Mirrors a single image after it was resized, as Detectron2 does."""
    width = batch.image_sizes[0, 1]
    images = batch.images.copy()
    images[:, :, :width] = batch.images[:, :, :width][:, :, ::-1]
    return batch._replace(images=images)


def _ratio(new, old) -> Array:
    ratio = jnp.asarray(new, jnp.float32) / jnp.asarray(old, jnp.float32)
    return jnp.tile(ratio[::-1], 2)


def _masks_in_view(detector, batch: Batch, levels: list[Array], merged: Detections, flip: Any) -> Array:
    """Mask probabilities [D, M, M] of the merged boxes in one version, mirrored back."""
    size, original_size = batch.image_sizes[0], batch.original_sizes[0]
    boxes = box_in_view(merged.boxes, size, original_size, flip)[None]
    masks = detector.masks_of_boxes(batch, levels, boxes, merged.labels[None], merged.valid[None])[0]
    return jnp.where(flip, masks[..., ::-1], masks)
