"""Targets of the mask head from bitmaps: RoIAlign of packed masks.

On CPUs and GPUs only the pixels that a region covers are unpacked, tile by tile: on a CPU 128 regions take
39 ms of processor time instead of 139 ms (docs/benchmarks.md). On TPUs, which were not measured, whole masks
are unpacked, a few at a time.

Shape legend: G ground-truth masks, P regions, H and W the height and width of the masks, M the side of a
target. Boxes are XYXY in pixels.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxmaskrcnn.ops.bfloat16_parts import bfloat16_parts
from jaxmaskrcnn.ops.masks.packing import unpack_masks
from jaxmaskrcnn.ops.roi_align import tiles_batched, tiles_cpu
from jaxmaskrcnn.ops.roi_align.axis import AxisSamples, axis_matrix, axis_samples, window_taps
from jaxmaskrcnn.ops.roi_align.regions import RegionTaps, merge_batch
from jaxmaskrcnn.ops.shapes import Pair, check_shapes
from jaxmaskrcnn.ops.static import check_numbers, check_type, check_whole

# Number of mask pixels that are unpacked at a time: 32 MB of float32.
_CHUNK_PIXELS = 2**23


def mask_targets(
    packed: ArrayLike,
    width: int,
    index: Array,
    boxes: ArrayLike,
    size: int,
    *,
    rule: str,
    image_size: Pair | None = None,
    implementation: str | None = None,
) -> Array:
    """Targets of the mask head from bitmaps: each region's object, cropped and resampled.

    Both rules are RoIAlign of the full-image mask with the adaptive number of samples.

    Args:
        packed: uint8 [G, H, ceil(W / 8)], from :func:`pack_masks`.
        width: W, static.
        index: int [P], the object that each region was matched with.
        boxes: [P, 4], XYXY in pixels of the masks.
        size: M, the side of the targets, static.
        rule: "soft" keeps the covered share of each cell, 0 to 1 (torchvision, not aligned);
            "threshold" binarises it at 0.5 (Detectron2 with bitmasks, MMDetection, aligned).
        image_size: [2], (h, w) of the image inside the canvas, where RoIAlign's border rule
            applies; may be traced. None: (H, W).
        implementation: None for the fastest on the platform that a program is compiled for, or the name of
            one: "tiles_cpu", "tiles_batched" or "whole". All give the same result except for rounding.

    Returns:
        float32 [P, M, M]; zeros for an empty region with "threshold".

    Raises:
        ValueError: ``rule`` or ``implementation`` is unknown, ``width`` or ``size`` is no whole number of at
            least 1, or an array has another shape or type.

    Example:
        >>> mask = np.zeros((1, 8, 8), bool)
        >>> mask[0, :, :4] = True
        >>> box = jnp.array([[0.0, 0, 8, 8]])
        >>> packed, index = jmr.ops.pack_masks(mask), jnp.array([0])
        >>> mask_targets(packed, 8, index, box, 2, rule="threshold")[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    if rule not in ("soft", "threshold"):
        raise ValueError(f'mask_targets: rule is {rule!r}; choose "soft" or "threshold".')
    if implementation not in (None, *IMPLEMENTATIONS):
        known = ", ".join(f'"{name}"' for name in IMPLEMENTATIONS)
        raise ValueError(f"mask_targets: implementation is {implementation!r}; choose {known} or None.")
    check_whole("mask_targets", 1, width=width, size=size)
    check_numbers("mask_targets", 0, image_size=() if image_size is None else image_size)
    check_shapes(
        "mask_targets",
        packed=(packed, f"G H {-(-width // 8)}"),
        index=(index, "P"),
        boxes=(boxes, "P 4"),
        image_size=(image_size, "2"),
    )
    check_type("mask_targets", "uint8", packed=packed)
    check_type("mask_targets", "int", index=index)
    packed = jnp.asarray(packed)
    height = packed.shape[1]
    h, w = (height, width) if image_size is None else (image_size[0], image_size[1])
    h, w = jnp.asarray(h, jnp.float32), jnp.asarray(w, jnp.float32)
    boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
    if boxes.shape[0] == 0 or packed.shape[0] == 0:
        return jnp.zeros((boxes.shape[0], size, size), jnp.float32)

    y, x = (axis_samples(boxes[:, i], boxes[:, i + 2], size, 0, aligned=rule == "threshold") for i in (1, 0))
    extents = jnp.broadcast_to(h, index.shape), jnp.broadcast_to(w, index.shape)
    arrays = packed, jnp.asarray(index, jnp.int32), y, x, extents
    crops = {name: functools.partial(crop, size, width) for name, crop in IMPLEMENTATIONS.items()}
    if implementation is not None:
        targets = crops[implementation](*arrays)
    else:
        targets = jax.lax.platform_dependent(
            *arrays, cpu=crops["tiles_cpu"], tpu=crops["whole"], default=crops["tiles_batched"]
        )
    return targets if rule == "soft" else (targets >= 0.5).astype(jnp.float32)


def crop_whole(size, width, packed, index, y, x, extents, chunk_pixels=_CHUNK_PIXELS):
    """RoIAlign of whole masks, a few unpacked at a time, as products with a matrix for each axis.

    Args:
        size: M, static.
        width: W, static.
        packed: uint8 [G, H, ceil(W / 8)].
        index: int [P].
        y: Samples [P] from `axis_samples` on the vertical axis.
        x: Samples on the horizontal axis.
        extents: (h, w), float32 [P], where the border rule applies.
        chunk_pixels: Mask pixels that are unpacked at a time.

    Returns:
        float32 [P, M, M].
    """
    height = packed.shape[1]

    def crop(region: tuple[Array, AxisSamples, AxisSamples, tuple[Array, Array]]):
        object_index, y, x, (h, w) = region
        mask = unpack_masks(packed[object_index], width).astype(jnp.bfloat16)
        # Zeros and ones are exact in bfloat16, so three parts of the weights do what float32 takes six for.
        columns = jnp.concatenate(bfloat16_parts(axis_matrix(*x, size, w, width), 3))
        half = jnp.einsum("hw,nw->hn", mask, columns, preferred_element_type=jnp.float32)  # [H, 3 * M]
        parts = jnp.matmul(axis_matrix(*y, size, h, height), half, precision="highest")
        return parts.reshape(size, 3, size).sum(1)

    chunk = max(1, chunk_pixels // (height * width))
    return jax.lax.map(crop, (index, y, x, extents), batch_size=min(chunk, index.shape[0]))


def crop_tiles_cpu(size, width, packed, index, y, x, extents):
    """Like :func:`crop_whole`, but unpacks only the pixels that a region covers, region by region."""
    return _crop_tiles(
        functools.partial(tiles_cpu.pool_bits, width=width), size, packed, index, y, x, extents
    )


def crop_tiles_batched(size, width, packed, index, y, x, extents, **limit):
    """Like :func:`crop_whole`, but unpacks only the pixels that a region covers, many tiles at a time.

    ``limit`` may be the ``batch_bytes`` of `tiles_batched.pool_bits`.
    """
    pool_bits = functools.partial(tiles_batched.pool_bits, **limit)
    return _crop_tiles(pool_bits, size, packed, index, y, x, extents)


def _crop_tiles(pool_bits, size, packed, index, y: AxisSamples, x: AxisSamples, extents):
    @merge_batch
    def crop(maps, regions):
        return pool_bits(*maps, regions)

    rows, columns = window_taps(*y, size, extents[0]), window_taps(*x, size, extents[1])
    return crop((packed,), RegionTaps(jnp.zeros_like(index), index, rows, columns))[..., 0]


IMPLEMENTATIONS = {"tiles_cpu": crop_tiles_cpu, "tiles_batched": crop_tiles_batched, "whole": crop_whole}
