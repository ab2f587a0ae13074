"""Padded containers that travel between the parts of the detector.

Every count that varies from image to image (objects, proposals, detections) is padded to a
static size, and a boolean ``valid`` marks the slots in use. A padded slot never
changes the result of a valid one.

Shape legend: B images, G ground-truth slots, N anchors, P proposal slots, D detection slots,
H and W the height and width of the canvas, M the side of a mask head's output, V vertex slots, K keypoints.

All boxes are XYXY in pixels of the network's input, in continuous coordinates: a box that
covers only the pixel column 0 has ``x1 = 0`` and ``x2 = 1``.
"""

from typing import Any, NamedTuple

Array = Any  # numpy.ndarray or jax.Array
State = dict[str, Any]  # a training run between two steps: see training/step.py


class Category(NamedTuple):
    """One class of a detector.

    Attributes:
        id: The id that annotation and result files use for it (COCO: 1 to 90 with gaps).
        name: The name to display.

    Example:
        >>> Category(1, "person").name
        'person'
    """

    id: int
    name: str


class Skeleton(NamedTuple):
    """The keypoints of an object.

    Attributes:
        points: Their names, in the order of the annotations.
        lines: Lines that are drawn, each between the numbers of two keypoints, from 0.

    Example:
        >>> Skeleton(("head", "foot"), ((0, 1),)).points[1]
        'foot'
    """

    points: tuple[str, ...]
    lines: tuple[tuple[int, int], ...]


class Targets(NamedTuple):
    """Ground truth of one image, or of a batch with a leading axis B on every array.

    Attributes:
        boxes: float32 [B, G, 4], XYXY in pixels of the network's input.
        labels: int32 [B, G], 0 to ``num_classes - 1``; the background is not counted.
        masks: uint8 [B, G, H, ceil(W / 8)], the full-canvas masks with eight pixels of a row
            in a byte (``numpy.packbits(mask, axis=-1)``), which takes an eighth of the memory. None
            for a model without a mask head, and where every object has polygons.
        crowd: bool [B, G], regions that are neither objects to learn nor background.
        valid: bool [B, G], False in a padded slot.
        polygons: float32 [B, G, V, 4], the vertices x and y of each object's polygons and their
            rounding errors in float32, in pixels of the network's input. The first vertex of every
            polygon is repeated as its last. None unless the model's mask targets are drawn from polygons.
        polygon_parts: int32 [B, G, V], the number of the polygon that a vertex belongs to, -1 in
            a padded slot; an object that has none learns from its mask. None like ``polygons``.
        keypoints: float32 [B, G, K, 3], x and y in pixels of the network's input and COCO's visibility: 0 not
            annotated, 1 hidden, 2 seen. None for a model without a keypoint head.
        semantic: uint8 [B, H, W], the class of each pixel of the canvas: 0 for all things, from 1 on for
            stuff, and 255 where nothing is learned. None for a model without a semantic head.
        extra: Further ground truth by its name in ``config.extra``, float32: [B, G, ...] of objects, zeros
            in padded slots, or [B, ...] of images. None for a model without any.

    Example:
        >>> target = {"boxes": [[4, 8, 40, 30]], "labels": [0], "masks": np.ones((1, 48, 64), bool)}
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)], [target], max_objects=3)
        >>> batch.targets.valid.tolist(), batch.targets.masks.shape
        ([[True, False, False]], (1, 3, 64, 8))
    """

    boxes: Array
    labels: Array
    masks: Array | None
    crowd: Array
    valid: Array
    polygons: Array | None = None
    polygon_parts: Array | None = None
    keypoints: Array | None = None
    semantic: Array | None = None
    extra: dict[str, Array] | None = None


class RawImages(NamedTuple):
    """Decoded images that the device still has to resize.

    Attributes:
        pixels: uint8 RGB [B, h, w, 3], each image in the upper left corner.
        sizes: int32 [B, 2], its height and width there.
        flips: bool [B], whether it is mirrored left to right after it has been resized.

    Example:
        >>> raw = RawImages(np.zeros((2, 256, 512, 3), np.uint8), np.full((2, 2), 200), np.zeros(2, bool))
        >>> raw.pixels.shape
        (2, 256, 512, 3)
    """

    pixels: Array
    sizes: Array
    flips: Array


class Batch(NamedTuple):
    """Images of one canvas, with what is needed to undo the preprocessing.

    Attributes:
        images: [B, H, W, 3]. float32: the network's input, normalised, zero outside the
            image. uint8: the resized image in RGB; the model normalises it on the device.
            With ``raw`` it has no channels, [B, H, W, 0]: its shape gives the canvas.
        image_sizes: int32 [B, 2], height and width of the resized image inside the canvas.
        extents: int32 [B, 2], ``image_sizes`` rounded up to the model's padding divisor (or
            larger, if the images of a batch share one extent). The area outside it has no effect.
        original_sizes: int32 [B, 2], height and width of the image before it was resized.
        index: int32 [B], position in the data source, or -1 if there is none.
        valid: bool [B], False for an image that only fills up the batch.
        targets: Ground truth, or None for prediction.
        raw: Images that the device resizes; None if the host has resized them.

    Example:
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> batch.images.shape, batch.image_sizes.tolist(), batch.extents.tolist()
        ((1, 64, 64, 3), [[48, 64]], [[64, 64]])
    """

    images: Array
    image_sizes: Array
    extents: Array
    original_sizes: Array
    index: Array
    valid: Array
    targets: Targets | None = None
    raw: RawImages | None = None


class Anchors(NamedTuple):
    """Anchors of one image.

    Attributes:
        boxes: float32 [N, 4]; they may cross the image's border.
        valid: bool [N], False where the anchor's cell lies outside the image's extent.
    """

    boxes: Array
    valid: Array


class Proposals(NamedTuple):
    """Class-agnostic boxes of the region proposal network, best first.

    Attributes:
        boxes: float32 [P, 4].
        scores: float32 [P], objectness logits (or probabilities, as the model ranks them).
        valid: bool [P].

    Example:
        >>> box = jnp.array([[4.0, 8, 40, 30], [0, 0, 0, 0]])
        >>> Proposals(box, jnp.array([2.5, 0.0]), jnp.array([True, False])).boxes.shape
        (2, 4)
    """

    boxes: Array
    scores: Array
    valid: Array


class Detections(NamedTuple):
    """Final detections at the scale of the network's input, best first.

    Attributes:
        boxes: float32 [B, D, 4].
        scores: float32 [B, D], class probabilities.
        labels: int32 [B, D], 0 to ``num_classes - 1``.
        masks: float32 [B, D, M, M], probabilities inside the box, or None without a mask head.
        valid: bool [B, D].
        keypoint_logits: float32 [B, D, K, S, S], heat-maps of the keypoints inside the box, S cells a side;
            None without a keypoint head.
        semantic_logits: float32 [B, h, w, C], the classes of the cells of the finest level, of the image and
            not of its detections; None without a semantic head.
        extra: What further region heads predict, by name, [B, D, ...] each; None without any.

    Example:
        >>> batch = jmr.make_batch(model, [np.zeros((48, 64, 3), np.uint8)])
        >>> jax.eval_shape(lambda batch: model.detect(batch), batch).masks.shape
        (1, 6, 28, 28)
    """

    boxes: Array
    scores: Array
    labels: Array
    masks: Array | None
    valid: Array
    keypoint_logits: Array | None = None
    semantic_logits: Array | None = None
    extra: dict[str, Array] | None = None


class LossTerm(NamedTuple):
    """A loss as a sum and the count that it is divided by.

    Kept apart so that losses of several devices, or of several slices of a batch, add up to
    the loss of the whole: ``sum of totals / sum of counts``.

    Attributes:
        total: float32 scalar, the sum over samples.
        count: float32 scalar, the number to divide by.

    Example:
        >>> first, second = LossTerm(6.0, 4.0), LossTerm(1.0, 1.0)
        >>> (first.total + second.total) / (first.count + second.count)
        1.4
    """

    total: Array
    count: Array
