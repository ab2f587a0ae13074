"""The coordinates in which the network has its boxes, where these are not those of the image.

A batch has every image in the upper left corner of its canvas, and boxes outside of the network are XYXY in
pixels of the image, with the edge behind the last pixel. A model with ``input.placement`` "centre" moves the
image to the middle of its extent, and one with ``box_edges`` "last_pixel" has boxes that end one pixel
earlier: matterport's divides such boxes by the canvas's side minus 1, which changes neither overlaps nor
deltas.

Shapes: B images, N boxes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.structures import Array, Batch


class Frame(NamedTuple):
    """The network's coordinates of a batch.

    Attributes:
        offset: float32 [B, 4], what is added to a box of the image.
        image: float32 [B, 4], the image as a box of the network, XYXY.
        canvas: float32 [B, 4], the image with its padding, likewise.
    """

    offset: Array
    image: Array
    canvas: Array

    def to_network(self, boxes: Array) -> Array:
        """Turn boxes of the image into the network's, [B, N, 4]."""
        return boxes + self.offset[:, None]

    def to_image(self, boxes: Array) -> Array:
        """Turn boxes of the network into the image's, [B, N, 4]."""
        return boxes - self.offset[:, None]


def frame_of(batch: Batch, config: ModelConfig) -> Frame | None:
    """Return the network's coordinates of a batch.

    Args:
        batch: Gives extents and image sizes.
        config: Gives ``input.placement`` and ``box_edges``.

    Returns:
        The frame; None if they are those of the images.

    Example:
        >>> config = jmr.model_config("matterport/mask_rcnn_coco")
        >>> batch = jmr.make_batch(config, [np.zeros((600, 800, 3), np.uint8)])
        >>> batch.image_sizes.tolist(), frame_of(batch, config).image.tolist()
        ([[768, 1024]], [[0.0, 128.0, 1023.0, 895.0]])
    """
    if config.input.placement == "corner" and config.box_edges == "outer":
        return None
    sizes, extents = (jnp.asarray(x) for x in (batch.image_sizes, batch.extents))
    first = places(sizes, extents, config)[:, ::-1].astype(jnp.float32)
    shorter = 1.0 if config.box_edges == "last_pixel" else 0.0
    width_first = (sizes[:, ::-1].astype(jnp.float32), extents[:, ::-1].astype(jnp.float32))
    size, extent = (x - shorter for x in width_first)
    return Frame(
        offset=jnp.concatenate([first, first - shorter], 1),
        image=jnp.concatenate([first, first + size], 1),
        canvas=jnp.concatenate([jnp.zeros_like(extent), extent], 1),
    )


def proposal_limits(batch: Batch, config: ModelConfig) -> Array:
    """Return where the proposals of each image end.

    Args:
        batch: Gives extents and image sizes.
        config: Gives ``rpn.clip``, and the frame as in `frame_of`.

    Returns:
        int [B, 2], height and width, or windows, float32 [B, 4] XYXY.
    """
    canvas, frame = config.rpn.clip == "canvas", frame_of(batch, config)
    if frame is not None:
        return frame.canvas if canvas else frame.image
    return batch.extents if canvas else batch.image_sizes


def places(sizes: Array, extents: Array, config: ModelConfig) -> Array:
    """Row and column of each image's first pixel within the network.

    Args:
        sizes: int [B, 2], heights and widths of the images.
        extents: int [B, 2], of the images with their padding.
        config: Gives ``input.placement``.

    Returns:
        int [B, 2].
    """
    return (extents - sizes) // 2 if config.input.placement == "centre" else jnp.zeros_like(extents)


def place_images(images: Array, sizes: Array, extents: Array, config: ModelConfig) -> Array:
    """Move images from the corner to their place, and fill their padding.

    Args:
        images: float32 [B, H, W, 3], normalised, each in the upper left corner.
        sizes: As in `places`.
        extents: As in `places`.
        config: Gives ``input.placement`` and ``input.padding``.

    Returns:
        float32 [B, H, W, 3], zero outside of the extents.
    """
    options = config.input
    if options.placement == "corner" and options.padding == "zero":
        return images

    def place(image, size, extent, first):
        row, column = (jnp.arange(length) for length in image.shape[:2])

        def within(start, length):
            rows = (row >= start[0]) & (row < start[0] + length[0])
            columns = (column >= start[1]) & (column < start[1] + length[1])
            return (rows[:, None] & columns[None])[..., None]

        moved = jnp.roll(image, (first[0], first[1]), (0, 1))
        beside = jnp.where(within(jnp.zeros_like(first), extent), fill, 0)
        return jnp.where(within(first, size), moved, beside)

    mean, std = (jnp.asarray(x, jnp.float32) for x in (options.pixel_mean, options.pixel_std))
    fill = -mean / std if options.padding == "black" else jnp.zeros(3)
    return jax.vmap(place)(images, sizes, extents, places(sizes, extents, config))
