"""From decoded images to the network's input, as each reference library prepares it.

Shape legend: B images, H, W an image's own size, h, w after resizing, G objects of an image.
The canvas is the common, padded size of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.fields.extra import EXTRA, Extra
from jaxmaskrcnn.data.fields.field import TargetImage
from jaxmaskrcnn.data.fields.image_objects import ImageObjects
from jaxmaskrcnn.data.fields.semantic import SemanticMap
from jaxmaskrcnn.data.fields.table import FIELDS
from jaxmaskrcnn.data.fields.targets import room_for, to_targets
from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.transforms import Geometry, round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.normalise import normalise_pixels
from jaxmaskrcnn.ops.resize import output_size, resize_image
from jaxmaskrcnn.structures import Batch, Targets


def eval_size(config: ModelConfig, height: int, width: int) -> tuple[int, int]:
    """The size that an image is resized to at test time, ``(height, width)`` in pixels."""
    return output_size(
        height, width, config.input.test_min_size, config.input.test_max_size, config.input.size_rule
    )


def resize_for(config: ModelConfig, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image in the preset's way.

    With the kernels "pil" and "cv2" the image stays uint8 RGB, and is normalised afterwards (on
    the device, by ``models.inputs.normalise``). With the kernel "torch" it is normalised here, before
    resizing if ``normalise_before_resize`` is set (torchvision).

    Args:
        config: Gives the kernel, channel order, mean and standard deviation.
        image: uint8 RGB [H, W, 3].
        size: ``(h, w)`` in pixels.

    Returns:
        [h, w, 3]: uint8 RGB, or float32 in the preset's channel order and normalised.
    """
    if config.input.resize_kernel != "torch":
        return resize_image(image, size, config.input.resize_kernel)
    if config.input.normalise_before_resize:
        return resize_image(normalise_pixels(image, config), size, "torch")
    return normalise_pixels(resize_image(image, size, "torch"), config)


def make_batch(
    model: Any,
    images: Sequence[Any],
    targets: Sequence[Mapping] | None = None,
    *,
    max_objects: int | None = None,
    canvas: tuple[int, int] | None = None,
) -> Batch:
    """Resizes, normalises and pads images (and their objects) as the model's preset does at test time.

    The extent of all images is the batch's largest height and width rounded up to the preset's divisor, as in
    the PyTorch libraries. The canvas is as large, unless another one is given.

    Args:
        model: A ``MaskRCNN`` or its ``ModelConfig``.
        images: Arrays of any sizes, uint8 RGB [H, W, 3] or others, paths, bytes or PIL images; see
            `data.inputs.read_image`.
        targets: One mapping per image, at the image's own scale: "boxes" [G, 4] XYXY in pixels,
            "labels" [G] in 0 to ``num_classes - 1``, "masks" bool [G, H, W] (not needed without a
            mask head), optionally "crowd" bool [G] and "polygons": of each object a list of
            flat lists x, y, x, y, ..., as in COCO's json, or None. Where the model draws its mask
            targets from polygons and every object has some, "masks" are not needed. A model with a
            keypoint head needs "keypoints" [G, K, 3], x, y and COCO's visibility, one with a semantic head
            "semantic" [H, W]: 0 for things, from 1 on for stuff, 255 where nothing is learned. A model with
            ``config.extra`` needs "extra", a mapping with [G, ...] of objects or [...] of the image by name.
        max_objects: Ground-truth slots per image; None takes the largest count, at least 1.
        canvas: Height and width of the arrays, at least as large as the extent, so that batches of other
            sizes have the same shape. Neither losses nor detections depend on it.

    Returns:
        A ``Batch`` of arrays only: images float32 and normalised, masks packed.

    Raises:
        UserError: An array has the wrong type, shape or values, or ``canvas`` does not hold the images.

    Example:
        >>> from jaxmaskrcnn.zoo.lookup import model_config
        >>> image, masks = np.zeros((48, 64, 3), np.uint8), np.ones((1, 48, 64), bool)
        >>> target = {"boxes": [[4, 8, 40, 30]], "labels": [0], "masks": masks}
        >>> batch = make_batch(model_config("jaxmaskrcnn/shapes"), [image], [target])
        >>> batch.images.shape, batch.targets.boxes[0].tolist()
        ((1, 96, 128, 3), [[8.0, 16.0, 80.0, 60.0]])
    """
    config: ModelConfig = getattr(model, "config", model)
    if not len(images):
        raise UserError("make_batch got no images; give at least one.")
    images = [read_image(image, config.input.pixels, f"images[{i}]") for i, image in enumerate(images)]
    originals = [image.shape[:2] for image in images]
    sizes = [eval_size(config, *original) for original in originals]
    extent = tuple(round_up(max(lengths), config.input.pad_divisor) for lengths in zip(*sizes, strict=True))
    canvas = _checked_canvas(extent, canvas, config)
    pixels = np.zeros((len(images), *canvas, config.input.pixels.channels), np.float32)
    for slot, image, size in zip(pixels, images, sizes, strict=True):
        resized = resize_for(config, image, size)
        if resized.dtype == np.uint8:
            resized = normalise_pixels(resized, config)
        slot[: size[0], : size[1]] = resized
    padded = None
    if targets is not None:
        padded = _targets(config, targets, originals, sizes, canvas, max_objects)
    return Batch(
        images=pixels,
        image_sizes=np.asarray(sizes, np.int32),
        extents=np.tile(np.asarray(extent, np.int32), (len(images), 1)),
        original_sizes=np.asarray(originals, np.int32),
        index=np.full(len(images), -1, np.int32),
        valid=np.ones(len(images), bool),
        targets=padded,
    )


def _checked_canvas(extent, canvas, config: ModelConfig) -> tuple[int, int]:
    if canvas is None:
        return extent
    height, width = canvas
    divisor = config.input.pad_divisor
    if height < extent[0] or width < extent[1] or height % divisor or width % divisor:
        raise UserError(
            f"canvas is {height} x {width}, and the images take {extent[0]} x {extent[1]} pixels; give a "
            f"canvas that holds them, with sides that are multiples of {divisor}."
        )
    return height, width


def _targets(config, targets, originals, sizes, canvas, max_objects) -> Targets:
    if len(targets) != len(originals):
        raise UserError(f"{len(originals)} images came with {len(targets)} targets; give one per image.")
    given = [_objects(config, t, i, o) for i, (t, o) in enumerate(zip(targets, originals, strict=True))]
    largest = max(map(len, given))
    if max_objects is None:
        max_objects = max(largest, 1)
    elif largest > max_objects:
        raise UserError(
            f"an image has {largest} objects but max_objects is {max_objects}; raise max_objects or "
            "leave it None."
        )
    counts = dict.fromkeys((name for field in FIELDS for name in field.COUNTS), 0)
    for objects in given:
        for field in objects.fields.values():
            counts |= {name: max(count, counts[name]) for name, count in field.counts().items()}
    resized = [
        objects.transform(Geometry.resize(original, size), config)
        for objects, original, size in zip(given, originals, sizes, strict=True)
    ]
    return to_targets(resized, max_objects, canvas, room_for(counts, config), config.extra)


def _objects(config: ModelConfig, target: Mapping, i: int, original: tuple[int, int]) -> ImageObjects:
    """The checked objects of the target of image ``i``, which has the size ``original``."""
    known = ["labels", "crowd", *(field.name for field in FIELDS), "semantic", EXTRA]
    if not isinstance(target, Mapping):
        raise UserError(
            f"the target of image {i} is a {type(target).__name__}; give a mapping with {', '.join(known)}."
        )
    if unknown := [key for key in target if key not in known]:
        raise UserError(
            f"the target of image {i} has {unknown[0]!r}, which is none of {', '.join(known)}; rename it or "
            "leave it out."
        )
    required = ["labels", *(field.name for field in FIELDS if field.is_required(target, config))]
    for key in required:
        if key not in target:
            raise UserError(f"the target of image {i} has no {key!r}; give {', '.join(required)}.")
    labels = np.asarray(target["labels"])
    count = labels.size
    if labels.ndim != 1 or (count and not np.issubdtype(labels.dtype, np.integer)):
        raise UserError(
            f"the target of image {i} has {labels.dtype} labels {list(labels.shape)}; give whole numbers [G]."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= config.num_classes))
    if len(wrong):
        raise UserError(
            f"label {wrong[0]} of image {i} is {labels[wrong[0]]}; the model's labels are 0 to "
            f"{config.num_classes - 1}, without the background."
        )
    crowd = np.asarray(target.get("crowd", np.zeros(count, bool))).astype(bool)
    if crowd.shape != (count,):
        raise UserError(f"the target of image {i} has crowd {list(crowd.shape)}; give bool [{count}].")
    image, fields = TargetImage(i, original, crowd, config), {}
    for field in FIELDS:
        value = field.from_target(target, image, fields)
        if value is not None:
            fields[field.name] = value
    semantic = SemanticMap.from_target(target, i, original, config)
    extra = Extra.from_target(target, i, count, config.extra)
    return ImageObjects(labels, crowd, None, fields, semantic, extra)
