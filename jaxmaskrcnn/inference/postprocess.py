"""Converts padded detections at the network's scale to results at the scale of the original image.

This code runs on the host in NumPy. The differences between the libraries (whether boxes are clipped again,
how a mask is pasted, how its threshold is compared) follow ``detections.rescale_rule`` and
``detections.paste_rule``.

Shape legend: B images, D detection slots, N detections of one image, M the side of a mask
head's output, H and W the height and width of the original image.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from pycocotools import mask as rle_codec

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.keypoints import image_keypoints
from jaxmaskrcnn.inference.panoptic import image_panoptic
from jaxmaskrcnn.ops.masks import MaskRuns, RunWindows, mask_runs, paste_mask_windows
from jaxmaskrcnn.structures import Category, Detections

MASK_FORMATS = ("bool", "probs", "rle")


def rescale_boxes(
    boxes: np.ndarray, image_size: Sequence[int], original_size: Sequence[int], rule: str
) -> tuple[np.ndarray, np.ndarray]:
    """Converts boxes of the network's input to the scale of the original image.

    Args:
        boxes: float32 [N, 4], XYXY in pixels of the network's input.
        image_size: Height and width of the resized image, without padding.
        original_size: Height and width of the image before it was resized.
        rule: ``DetectionConfig.rescale_rule``, one of ``RESCALE_RULES``.
            "multiply": times original / resized, divided in float32 (torchvision).
            "divide": by resized / original (MMDetection).
            "multiply_and_clip": times original / resized, divided in float64, then clipped to the image;
            empty boxes are dropped (Detectron2).
            "multiply_inclusive": as "multiply", but of a box's last pixel instead of its end
            (maskrcnn-benchmark).
            "last_pixels": the first pixel to the first and the last one to the last, rounded to whole pixels;
            empty boxes are dropped (matterport).

    Returns:
        float32 [N, 4], and whether each box is kept, bool [N].

    Raises:
        ValueError: ``rule`` is unknown.

    Example:
        >>> rescale_boxes(np.float32([[0, 0, 80, 40]]), (400, 800), (200, 400), "multiply")[0]
        array([[ 0.,  0., 40., 20.]], dtype=float32)
    """
    if rule not in RESCALE_RULES:
        raise ValueError(f"rescale_boxes: rule is {rule!r}; choose one of {', '.join(RESCALE_RULES)}.")
    return RESCALE_RULES[rule](
        boxes, np.asarray(image_size, np.float64), np.asarray(original_size, np.float64)
    )


def _multiply(boxes, new, old):
    ratio = old.astype(np.float32) / new.astype(np.float32)
    return boxes * np.tile(ratio[::-1], 2), np.ones(len(boxes), bool)


def _divide(boxes, new, old):
    return boxes / np.tile((new / old).astype(np.float32)[::-1], 2), np.ones(len(boxes), bool)


def _multiply_and_clip(boxes, new, old):
    boxes = boxes * np.tile((old / new).astype(np.float32)[::-1], 2)
    limit = np.tile(old.astype(np.float32)[::-1], 2)
    boxes = np.clip(boxes, np.float32(0), limit)
    return boxes, (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _multiply_inclusive(boxes, new, old):
    last = np.array([0, 0, 1, 1], np.float32)  # from the end of a box to the index of its last pixel
    boxes, kept = _multiply(boxes - last, new, old)
    return boxes + last, kept


def _last_pixels(boxes, new, old):
    behind = np.float64([0, 0, 1, 1])  # a box ends behind its last pixel
    ratio = np.tile((old - 1)[::-1], 2) / np.tile(np.maximum(new - 1, 1)[::-1], 2)
    boxes = np.around((boxes - behind) * ratio + behind).astype(np.float32)
    return boxes, (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


RESCALE_RULES = {
    "multiply": _multiply,
    "divide": _divide,
    "multiply_and_clip": _multiply_and_clip,
    "multiply_inclusive": _multiply_inclusive,
    "last_pixels": _last_pixels,
}


def postprocess(
    detections: Detections,
    image_size: Sequence[int],
    original_size: Sequence[int],
    config: ModelConfig,
    *,
    masks: str = "bool",
    categories: Sequence[Category] = (),
    stuff: Sequence[Category] = (),
) -> dict[str, Any]:
    """Converts the detections of one image to results at its original scale.

    Args:
        detections: Detections of one image (no batch axis), device or NumPy arrays.
        image_size: Height and width of the resized image, without padding.
        original_size: Height and width of the image before it was resized.
        config: The model's config.
        masks: ``"bool"``, ``"probs"`` or ``"rle"``.
        categories: The category of each label; by default ``config.known_categories()``.
        stuff: The category of each class of stuff; by default ``config.known_stuff()``.

    Returns:
        ``boxes`` float32 [N, 4] XYXY in pixels, ``scores`` float32 [N], ``labels`` int64 [N]
        (category ids), best first, and, if the model has a mask head, ``masks``: bool
        [N, H, W], float32 [N, H, W] probabilities, or a list of N COCO RLE dictionaries; with a keypoint
        head also ``keypoints`` float32 [N, K, 3]: x, y in pixels and the score; with a semantic head also
        ``panoptic`` int32 [H, W] and ``segments``, see `image_panoptic`; with further region heads also
        ``extra``, what they predict by name, [N, ...] each.

    Raises:
        UserError: ``masks`` is not a known format.
    """
    if masks not in MASK_FORMATS:
        raise UserError(f"masks is {masks!r}; choose one of {', '.join(map(repr, MASK_FORMATS))}.")
    height, width = (int(side) for side in original_size)
    valid = np.asarray(detections.valid)
    boxes = np.asarray(detections.boxes, np.float32)[valid]
    of_network = boxes
    boxes, keep = rescale_boxes(boxes, image_size, (height, width), config.detections.rescale_rule)
    ids = np.array([c.id for c in categories or config.known_categories()], np.int64)
    result = {
        "boxes": boxes[keep],
        "scores": np.asarray(detections.scores, np.float32)[valid][keep],
        "labels": ids[np.asarray(detections.labels)[valid][keep]],
    }
    if detections.masks is not None:
        probs = np.asarray(detections.masks, np.float32)[valid][keep]
        if config.semantic is not None and detections.semantic_logits is not None:
            result["panoptic"], result["segments"] = image_panoptic(
                np.asarray(detections.semantic_logits),
                RunWindows(_runs(probs, result["boxes"], (height, width), config, rows=True), width),
                result["scores"],
                np.asarray(detections.labels)[valid][keep],
                image_size,
                (height, width),
                config.pooled_levels[0].stride,
                config.semantic,
                ids.tolist(),
                [category.id for category in stuff or config.known_stuff()],
            )
        result["masks"] = _pasted(probs, result["boxes"], (height, width), config, masks)
    if config.keypoints is not None and detections.keypoint_logits is not None:
        logits = np.asarray(detections.keypoint_logits)[valid][keep]
        result["keypoints"] = image_keypoints(
            logits, of_network[keep], image_size, (height, width), config.keypoints
        )
    if detections.extra is not None:
        result["extra"] = {name: np.asarray(x)[valid][keep] for name, x in detections.extra.items()}
    return result


def postprocess_batch(
    detections: Detections, image_sizes, original_sizes, config: ModelConfig, **options
) -> list[dict[str, Any]]:
    """Runs ``postprocess`` for every image of a batch.

    Args:
        detections: Detections with a leading batch axis B.
        image_sizes: int [B, 2], as in ``Batch``.
        original_sizes: int [B, 2], as in ``Batch``.
        config: The model's config.
        **options: ``masks`` and ``categories`` of :func:`postprocess`.

    Returns:
        B results.
    """
    detections = jax.device_get(detections)
    return [
        postprocess(jax.tree.map(lambda x, i=i: x[i], detections), new, old, config, **options)
        for i, (new, old) in enumerate(zip(image_sizes, original_sizes, strict=True))
    ]


def encode_window(window: np.ndarray, origin: tuple[int, int], image_size: tuple[int, int]) -> dict[str, Any]:
    """Encodes a mask that is given within a window and empty elsewhere as COCO RLE.

    The cost depends on the size of the window and not on the size of the image: the run lengths are
    computed from the positions at which the columns of the window change.

    Args:
        window: bool [h, w].
        origin: Row and column of the window's first pixel in the image.
        image_size: Height and width of the image; the window lies inside it.

    Returns:
        ``{"size": [H, W], "counts": str}``, the same as pycocotools' encoding of the full mask.
    """
    height = image_size[0]
    y0, x0 = origin
    # [w, h + 2]: each row is a column of the window, with an empty pixel added at both ends.
    columns = np.pad(window.T.astype(np.int8), ((0, 0), (1, 1)))
    column, row = np.nonzero(np.diff(columns))  # run starts and ends alternate
    position = (x0 + column) * height + y0 + row
    return encode_runs(position[0::2], position[1::2], image_size)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a mask of a whole image, bool [H, W], as COCO RLE; see `encode_window`."""
    return encode_window(mask, (0, 0), mask.shape)


def encode_runs(starts: np.ndarray, ends: np.ndarray, image_size: tuple[int, int]) -> dict[str, Any]:
    """Encodes the runs of one mask down the columns of an image as COCO RLE; see `encode_masks`.

    Args:
        starts: int [R], positions of the runs' first pixels, counted column by column, ascending.
        ends: int [R], positions after their last pixels; a run may begin where another ends.
        image_size: Height and width of the image.

    Returns:
        ``{"size": [H, W], "counts": str}``.
    """
    return encode_masks(MaskRuns(starts, ends, np.array([0, len(starts)])), image_size)[0]


def encode_masks(runs: MaskRuns, image_size: tuple[int, int]) -> list[dict[str, Any]]:
    """Encodes masks, given as runs down the columns of an image, as COCO RLE.

    Args:
        runs: The runs of N masks.
        image_size: Height and width of the image.

    Returns:
        N dictionaries ``{"size": [H, W], "counts": str}``, the same as pycocotools' encodings of the masks.

    Example:
        >>> encode_masks(MaskRuns(np.array([1, 3]), np.array([2, 5]), np.array([0, 2])), (3, 4))
        [{'size': [3, 4], 'counts': '11116'}]
    """
    height, width = image_size
    starts, ends, splits = (np.asarray(part, np.int64) for part in runs)
    first = np.zeros(len(starts) + 1, bool)
    first[splits[:-1]] = True
    # A run that reaches the bottom and one that begins at the top of the next column are one run.
    first = first[:-1]
    apart = first | (starts != np.concatenate([[-1], ends[:-1]]))
    splits = np.concatenate([[0], np.cumsum(apart)])[splits]
    ends, starts, first = ends[np.append(apart[1:], True)[: len(ends)]], starts[apart], first[apart]
    before = np.where(first, 0, np.concatenate([[0], ends[:-1]])[: len(ends)])
    counts = np.stack([starts - before, ends - starts], 1).ravel()
    objects = []
    for begin, end in itertools.pairwise(splits.tolist()):
        rest = height * width - (int(ends[end - 1]) if end > begin else 0)
        own = counts[2 * begin : 2 * end]
        objects.append({"size": [height, width], "counts": np.append(own, rest) if rest else own})
    encoded = rle_codec.frPyObjects(objects, height, width) if objects else []
    return [{"size": [height, width], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def _runs(probs, boxes, image_size, config: ModelConfig, *, rows: bool) -> MaskRuns:
    rule = config.detections.paste_rule
    # torchvision leaves the threshold to its user; its reference evaluation uses > 0.5.
    strict = rule.startswith("whole_pixels")
    threshold = config.detections.mask_threshold
    return mask_runs(probs, boxes, image_size, threshold, strict=strict, convention=rule, rows=rows)


def _pasted(probs, boxes, image_size, config, form):
    if form == "rle":
        return encode_masks(_runs(probs, boxes, image_size, config, rows=False), image_size)
    if form == "probs":
        windows = paste_mask_windows(probs, boxes, image_size, convention=config.detections.paste_rule)
    else:
        windows = RunWindows(_runs(probs, boxes, image_size, config, rows=True), image_size[1])
    result = np.zeros((len(probs), *image_size), np.float32 if form == "probs" else bool)
    for canvas, (window, (y0, x0)) in zip(result, windows, strict=True):
        h, w = window.shape
        canvas[y0 : y0 + h, x0 : x0 + w] = window
    return result
