"""From decoded images to the network's input, as each reference library prepares it.

Shape legend: B images, H, W an image's own size, h, w after resizing, G objects of an image.
The canvas is the common, padded size of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.polygons import place_polygons, vertex_slots
from jaxmaskrcnn.data.transforms import round_up, scale_boxes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.masks import pack_masks
from jaxmaskrcnn.ops.normalise import normalise_pixels
from jaxmaskrcnn.ops.resize import output_size, resize_image, resize_mask
from jaxmaskrcnn.structures import Batch, Targets


def eval_size(config: ModelConfig, height: int, width: int) -> tuple[int, int]:
    """The size an image has at test time, ``(height, width)`` in pixels."""
    return output_size(height, width, config.test_min_size, config.test_max_size, config.size_rule)


def resize_for(config: ModelConfig, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image in the preset's way.

    With the kernels "pil" and "cv2" the image stays uint8 RGB, and is normalised afterwards (on
    the device, by ``models.inputs.normalise``). With the kernel "torch" it is normalised here, before
    resizing where ``normalise_before_resize`` says so (torchvision).

    Args:
        config: Kernel, channel order, mean and standard deviation.
        image: uint8 RGB [H, W, 3].
        size: ``(h, w)`` in pixels.

    Returns:
        [h, w, 3]: uint8 RGB, or float32 in the preset's channel order and normalised.
    """
    if config.resize_kernel != "torch":
        return resize_image(image, size, config.resize_kernel)
    if config.normalise_before_resize:
        return resize_image(normalise_pixels(image, config), size, "torch")
    return normalise_pixels(resize_image(image, size, "torch"), config)


def make_batch(
    model: Any,
    images: Sequence[np.ndarray],
    targets: Sequence[Mapping] | None = None,
    *,
    max_objects: int | None = None,
) -> Batch:
    """Resizes, normalises and pads images (and their objects) as the model's preset does at test time.

    The canvas is the batch's largest height and width rounded up to the preset's divisor; all
    images share that extent, as in the PyTorch libraries.

    Args:
        model: A ``MaskRCNN`` or its ``ModelConfig``.
        images: uint8 RGB arrays [H, W, 3], of any sizes.
        targets: One mapping per image, at the image's own scale: "boxes" [G, 4] XYXY in pixels,
            "labels" [G] in 0 to ``num_classes - 1``, "masks" bool [G, H, W] (not needed without a
            mask head), optionally "crowd" bool [G] and "polygons": of each object a list of
            flat lists x, y, x, y, ..., as in COCO's json, or None. Where the model draws its mask
            targets from polygons and every object has some, "masks" are not needed.
        max_objects: Ground-truth slots per image; None takes the largest count, at least 1.

    Returns:
        A ``Batch`` of arrays only: images float32 and normalised, masks packed.

    Raises:
        UserError: An array has the wrong type, shape or values.

    Example:
        >>> from jaxmaskrcnn.presets import model_config
        >>> image, masks = np.zeros((48, 64, 3), np.uint8), np.ones((1, 48, 64), bool)
        >>> target = {"boxes": [[4, 8, 40, 30]], "labels": [0], "masks": masks}
        >>> batch = make_batch(model_config("jaxmaskrcnn/shapes"), [image], [target])
        >>> batch.images.shape, batch.targets.boxes[0].tolist()
        ((1, 96, 128, 3), [[8.0, 16.0, 80.0, 60.0]])
    """
    config: ModelConfig = getattr(model, "config", model)
    if not len(images):
        raise UserError("make_batch got no images; give at least one.")
    images = [_checked_image(image, i) for i, image in enumerate(images)]
    originals = [image.shape[:2] for image in images]
    sizes = [eval_size(config, *original) for original in originals]
    canvas = tuple(round_up(max(lengths), config.pad_divisor) for lengths in zip(*sizes, strict=True))
    pixels = np.zeros((len(images), *canvas, 3), np.float32)
    for slot, image, size in zip(pixels, images, sizes, strict=True):
        resized = resize_for(config, image, size)
        if resized.dtype == np.uint8:
            resized = normalise_pixels(resized, config)
        slot[: size[0], : size[1]] = resized
    if targets is not None:
        targets = _targets(config, targets, originals, sizes, canvas, max_objects)
    return Batch(
        images=pixels,
        image_sizes=np.asarray(sizes, np.int32),
        extents=np.tile(np.asarray(canvas, np.int32), (len(images), 1)),
        original_sizes=np.asarray(originals, np.int32),
        index=np.full(len(images), -1, np.int32),
        valid=np.ones(len(images), bool),
        targets=targets,
    )


def _checked_image(image, i: int) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"image {i} is {image.dtype} {list(image.shape)}; give a uint8 RGB array [height, width, 3]."
        )
    return image


def _targets(config, targets, originals, sizes, canvas, max_objects) -> Targets:
    if len(targets) != len(originals):
        raise UserError(f"{len(originals)} images came with {len(targets)} targets; give one per image.")
    checked = [
        _checked_target(config, t, i, o) for i, (t, o) in enumerate(zip(targets, originals, strict=True))
    ]
    largest = max(len(target["labels"]) for target in checked)
    if max_objects is None:
        max_objects = max(largest, 1)
    elif largest > max_objects:
        raise UserError(
            f"an image has {largest} objects but max_objects is {max_objects}; raise max_objects or "
            "leave it None."
        )
    rings = [_rings(target, o, s) for target, o, s in zip(checked, originals, sizes, strict=True)]
    longest = max((len(parts) for image in rings for _, parts in image), default=0)
    out = empty_targets(
        len(checked),
        max_objects,
        canvas,
        masks=config.mask_head and (not longest or any("masks" in target for target in checked)),
        vertices=vertex_slots(longest) if longest else 0,
    )
    for i, (target, original, size) in enumerate(zip(checked, originals, sizes, strict=True)):
        count = len(target["labels"])
        out.boxes[i, :count] = scale_boxes(target["boxes"], original, size)
        out.labels[i, :count] = target["labels"]
        out.crowd[i, :count] = target["crowd"]
        out.valid[i, :count] = True
        for g, (vertices, parts) in enumerate(rings[i]):
            out.polygons[i, g, : len(parts)] = vertices
            out.polygon_parts[i, g, : len(parts)] = parts
        if "masks" in target:
            padded = np.zeros((count, *canvas), bool)
            padded[:, : size[0], : size[1]] = resize_mask(target["masks"], size, config.resize_kernel)
            out.masks[i, :count] = pack_masks(padded)
    return out


def _rings(target: dict, original: tuple[int, int], size: tuple[int, int]) -> list:
    """Vertices and parts of each object's polygons at the resized image's scale."""
    return [place_polygons(polygons, original, size) for polygons in target["polygons"]]


def empty_targets(
    batch: int, objects: int, canvas: tuple[int, int], *, masks: bool, vertices: int = 0
) -> Targets:
    """Targets with every slot free, to be filled in.

    Args:
        batch: Number of images.
        objects: Slots per image.
        canvas: Height and width in pixels.
        masks: Whether there is room for masks.
        vertices: Vertex slots of an object's polygons; 0 for no room for any.
    """
    height, width = canvas
    return Targets(
        boxes=np.zeros((batch, objects, 4), np.float32),
        labels=np.zeros((batch, objects), np.int32),
        masks=np.zeros((batch, objects, height, -(-width // 8)), np.uint8) if masks else None,
        crowd=np.zeros((batch, objects), bool),
        valid=np.zeros((batch, objects), bool),
        polygons=np.zeros((batch, objects, vertices, 4), np.float32) if vertices else None,
        polygon_parts=np.full((batch, objects, vertices), -1, np.int32) if vertices else None,
    )


def _checked_target(config: ModelConfig, target: Mapping, i: int, original: tuple[int, int]) -> dict:
    drawn = config.mask_head and config.mask_targets == "polygon" and "polygons" in target
    needed = ("boxes", "labels", "masks") if config.mask_head and not drawn else ("boxes", "labels")
    for key in needed:
        if key not in target:
            raise UserError(f"the target of image {i} has no {key!r}; give {', '.join(needed)}.")
    boxes, labels = np.asarray(target["boxes"]), np.asarray(target["labels"])
    count = labels.size
    if boxes.shape != (count, 4) and not (count == 0 and boxes.size == 0):
        raise UserError(
            f"the target of image {i} has boxes {list(boxes.shape)} for {count} labels; give [{count}, 4]."
        )
    boxes = boxes.reshape(-1, 4).astype(np.float32)
    if labels.ndim != 1 or (count and not np.issubdtype(labels.dtype, np.integer)):
        raise UserError(
            f"the target of image {i} has {labels.dtype} labels {list(labels.shape)}; give whole numbers [G]."
        )
    for g, (x1, y1, x2, y2) in enumerate(boxes):
        if not (x2 > x1 and y2 > y1 and np.isfinite(boxes[g]).all()):
            raise UserError(
                f"box {g} of image {i} is [{x1:g}, {y1:g}, {x2:g}, {y2:g}]; give finite x1, y1, x2, y2 "
                "with x2 > x1 and y2 > y1."
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
    polygons = _checked_polygons(target["polygons"], crowd, i) if drawn else []
    checked = {"boxes": boxes, "labels": labels, "crowd": crowd, "polygons": polygons}
    bare = [g for g, p in enumerate(polygons) if not (p or crowd[g])]
    if bare and "masks" not in target:
        raise UserError(f"object {bare[0]} of image {i} has neither polygons nor masks; give one of them.")
    if config.mask_head and (bare or not drawn):
        masks = np.asarray(target["masks"])
        if count == 0 and masks.size == 0:
            masks = np.zeros((0, *original), bool)
        if masks.shape != (count, *original) or masks.dtype not in (np.dtype(bool), np.dtype(np.uint8)):
            raise UserError(
                f"the target of image {i} has {masks.dtype} masks {list(masks.shape)}; give bool "
                f"[{count}, {original[0]}, {original[1]}], at the image's own size."
            )
        checked["masks"] = masks.astype(bool)
    return checked


def _checked_polygons(polygons, crowd: np.ndarray, i: int) -> list:
    """Each object's polygons; none of crowd regions, which have no target."""
    if len(polygons) != len(crowd):
        raise UserError(
            f"the target of image {i} has polygons of {len(polygons)} objects for {len(crowd)} labels; give "
            "a list for each object, empty where there is none."
        )
    polygons = [[] if is_crowd else list(p or []) for p, is_crowd in zip(polygons, crowd, strict=True)]
    for g, of_object in enumerate(polygons):
        for polygon in map(np.asarray, of_object):
            numbers = np.issubdtype(polygon.dtype, np.number)
            if polygon.ndim != 1 or polygon.size < 6 or polygon.size % 2 or not numbers:
                raise UserError(
                    f"object {g} of image {i} has a polygon of {polygon.dtype} {list(polygon.shape)}; give "
                    "at least three points as one flat list x, y, x, y, ..."
                )
            if not np.isfinite(polygon).all():
                raise UserError(f"object {g} of image {i} has a polygon with a value that is not finite.")
    return polygons
