"""Makes the network's input from a batch's images: resizes and flips them if necessary, and normalises them.

Images that are only decoded are resized here, as products with a matrix for each axis. The host then only
decodes, and images are transferred at their own size. The rules are those of `ops/resize.py`, in float32.
Pillow and OpenCV compute in whole numbers, and where they round differently the result is one grey level off:
fewer than one pixel in a hundred for Pillow, one in ten for OpenCV.

Shape legend: B images, h, w the decoded images' canvas, H, W the network's.
"""

import functools

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.models.frames import place_images
from jaxmaskrcnn.ops.normalise import normalise_pixels
from jaxmaskrcnn.structures import Array, Batch

_CV2_ONE = 2048  # OpenCV's weights have 11 fractional bits


def network_input(batch: Batch, config: ModelConfig) -> Array:
    """Makes the network's input from the images of a batch.

    Args:
        batch: A batch with images in any form.
        config: Gives the kernel, channel order, scale, mean, standard deviation, and the image's place.

    Returns:
        float32 [B, H, W, 3], normalised; exactly zero outside of each image, unless the padding is black.
    """
    sizes, extents = jnp.asarray(batch.image_sizes), jnp.asarray(batch.extents)
    return place_images(_normalised(batch, config), sizes, extents, config)


def _normalised(batch: Batch, config: ModelConfig) -> Array:
    if batch.raw is None:
        return normalise(batch.images, batch.image_sizes, config)
    canvas, kernel = batch.images.shape[1:3], config.input.resize_kernel
    resize = functools.partial(_resized, canvas=canvas, kernel=kernel)
    images = jax.vmap(resize)(*batch.raw, batch.image_sizes)
    return normalise(images, batch.image_sizes, config, finished=False)


def normalise(images: Array, image_sizes: Array, config: ModelConfig, *, finished: bool = True) -> Array:
    """Normalises padded uint8 images on the device; float32 images already are.

    Transferring uint8 images and normalising them on the device moves a quarter of the bytes.

    Args:
        images: uint8 RGB [B, H, W, 3], or float32, returned unchanged.
        image_sizes: int [B, 2], height and width of each image inside the canvas.
        config: Gives the channel order, scale, mean and standard deviation.
        finished: False if float32 images are RGB grey levels that must be normalised too.

    Returns:
        float32 [B, H, W, 3], exactly zero outside of the image (not minus the mean). Compilers replace
        divisions by products with reciprocals, so the last bit can differ from ``make_batch``'s.
    """
    if images.dtype != jnp.uint8 and finished:
        return images
    inside_rows = jnp.arange(images.shape[1])[None] < image_sizes[:, :1]  # [B, H]
    inside_columns = jnp.arange(images.shape[2])[None] < image_sizes[:, 1:]  # [B, W]
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return jnp.where(inside[..., None], normalise_pixels(images, config), 0.0)


def _resized(pixels, size, flip, new_size, canvas, kernel):
    """One image: uint8 [h, w, 3] -> grey levels float32 [H, W, 3]; zero outside of the new size."""
    rows = resize_matrix(size[0], new_size[0], pixels.shape[0], canvas[0], kernel)
    columns = resize_matrix(size[1], new_size[1], pixels.shape[1], canvas[1], kernel)
    column = jnp.arange(canvas[1])
    mirrored = columns[jnp.where(column < new_size[1], new_size[1] - 1 - column, column)]
    columns = jnp.where(flip, mirrored, columns)

    def to_grey_levels(x):
        return x if kernel == "torch" else jnp.clip(jnp.floor(x + 0.5), 0, 255)

    # Pillow resizes along x first, and rounds before it resizes along y.
    wide = jnp.einsum("xw,hwc->hxc", columns, pixels.astype(jnp.float32), precision="highest")
    wide = to_grey_levels(wide) if kernel == "pil" else wide
    return to_grey_levels(jnp.einsum("yh,hxc->yxc", rows, wide, precision="highest"))


def resize_matrix(length: Array, new_length: Array, pixels: int, new_pixels: int, kernel: str) -> Array:
    """Resizing along one axis as a matrix: ``new column = matrix @ column``.

    Args:
        length: Length of the image on this axis, a scalar; may be traced.
        new_length: Length after resizing, likewise.
        pixels: Number of input pixels, static; those from ``length`` on are ignored.
        new_pixels: Number of output pixels, static; those from ``new_length`` on are zero.
        kernel: ``InputConfig.resize_kernel``: "torch", "pil" or "cv2".

    Returns:
        float32 [new_pixels, pixels].

    Raises:
        ValueError: ``kernel`` is unknown.

    Example:
        >>> resize_matrix(2, 3, 2, 3, "torch").round(2).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    if kernel not in ("torch", "pil", "cv2"):
        raise ValueError(f"resize kernel {kernel!r} is unknown; use torch, pil or cv2.")
    new_pixel, pixel = jnp.arange(new_pixels)[:, None], jnp.arange(pixels)[None]
    scale = jnp.asarray(length, jnp.float32) / jnp.asarray(new_length, jnp.float32)
    position = scale * (new_pixel + 0.5) - 0.5  # of the output pixel, in input pixels
    if kernel == "pil":
        # A triangle kernel with the radius of an output pixel, cut off at the borders.
        weights = jnp.maximum(1 - jnp.abs(pixel - position) / jnp.maximum(scale, 1), 0)
        weights = jnp.where(pixel < length, weights, 0)
        weights = weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-6)
    else:
        position = jnp.clip(position, 0, length - 1)
        low = jnp.floor(position)
        weights = jnp.where(pixel == low, low + 1 - position, 0)
        weights = weights + jnp.where(pixel == low + 1, position - low, 0)
        if kernel == "cv2":
            weights = jnp.round(weights * _CV2_ONE) / _CV2_ONE
    return jnp.where(new_pixel < new_length, weights, 0)
