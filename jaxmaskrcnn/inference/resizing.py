"""Resizing as a part of the compiled prediction: images come at their own sizes, boxes go back to them.

Shapes: B images, h and w of the arrays that hold them, H and W of the network's canvas.
"""

import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Array, Batch, Detections, RawImages

# The rules of `ops.resize.SIZE_RULES` that are one scale of both sides, and what is added before truncation.
_HALVES = {"truncate": 0, "round": 1, "round_two_steps": 1}
_KERNELS = ("torch", "pil", "cv2")
_RESCALE_RULES = ("multiply", "divide", "multiply_and_clip")


def check_resizable(config: ModelConfig) -> None:
    """Refuses models whose way of resizing has no form that compiles.

    Raises:
        UserError: The rule for sizes, the kernel or the rule for boxes is another one.
    """
    for name, value, known in (
        ("input.size_rule", config.input.size_rule, _HALVES),
        ("input.resize_kernel", config.input.resize_kernel, _KERNELS),
        ("detections.rescale_rule", config.detections.rescale_rule, _RESCALE_RULES),
    ):
        if value not in known:
            raise UserError(
                f"resize is True, and the model's {name} is {value!r}, which is not compiled; resize images "
                "before the call."
            )


def compiled_size(image_sizes: Array, config: ModelConfig) -> Array:
    """The sizes that images are resized to, in whole numbers.

    Args:
        image_sizes: int32 [..., 2], heights and widths; may be traced.
        config: Gives the sizes and the rule.

    Returns:
        int32 [..., 2]. The exact result of the rule, of which `ops.resize.output_size` can be one pixel off
        where its own floats round.
    """
    short = image_sizes.min(-1, keepdims=True)
    long = image_sizes.max(-1, keepdims=True)
    least, most = config.input.test_min_size, config.input.test_max_size
    by_long = least * long > most * short
    numerator, denominator = jnp.where(by_long, most, least), jnp.where(by_long, long, short)
    half = _HALVES[config.input.size_rule]
    return jnp.maximum((2 * image_sizes * numerator + half * denominator) // (2 * denominator), 1)


def resized_batch(images: Array, image_sizes: Array, canvas: tuple[int, int], config: ModelConfig) -> Batch:
    """A batch whose images are resized by the model.

    Args:
        images: uint8 [B, h, w, 3], in the upper left corner of their arrays.
        image_sizes: int32 [B, 2], their own heights and widths.
        canvas: H and W of the network's input.
        config: Gives the sizes.

    Returns:
        The batch; an image that is larger than the canvas once it is resized is not valid.
    """
    count, divisor = images.shape[0], max(config.input.pad_divisor, 1)
    sizes = compiled_size(image_sizes, config)
    return Batch(
        images=jnp.zeros((count, *canvas, 0), jnp.uint8),  # its shape alone counts
        image_sizes=jnp.minimum(sizes, jnp.array(canvas)),
        extents=jnp.minimum(round_up(sizes, divisor), jnp.array(canvas)),
        original_sizes=image_sizes,
        index=jnp.full(count, -1),
        valid=(sizes <= jnp.array(canvas)).all(-1),
        raw=RawImages(images, image_sizes, jnp.zeros(count, bool)),
    )


def to_original(found: Detections, batch: Batch, config: ModelConfig) -> Detections:
    """Detections with their boxes in pixels of the images before they were resized.

    What is in images that are not valid, and boxes that the rule leaves empty, is no longer valid.
    """
    new = batch.image_sizes.astype(jnp.float32)[:, None, ::-1]
    old = batch.original_sizes.astype(jnp.float32)[:, None, ::-1]
    ratio = jnp.tile(old / new, 2)  # [B, 1, 4]
    boxes, valid = found.boxes * ratio, found.valid & batch.valid[:, None]
    if config.detections.rescale_rule == "multiply_and_clip":
        boxes = jnp.clip(boxes, 0, jnp.tile(old, 2))
        valid &= (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return found._replace(boxes=jnp.where(valid[..., None], boxes, 0), valid=valid)
