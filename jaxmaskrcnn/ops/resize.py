"""Resizing on the host, exactly as each reference library does it.

"Bilinear" has three meanings: torchvision interpolates normalised floats, Detectron2 calls
Pillow (integer arithmetic, averages when it reduces) and MMDetection calls OpenCV (integer
arithmetic, never averages). On a photograph shrunk to half its size they differ by several grey
levels, enough to change detections, so each is reproduced.

Shape legend: H, W the image; h, w what it is resized to; C channels.
"""

import numpy as np
from PIL import Image

from jaxmaskrcnn.ops.interpolation import mix_pairs

_BLOCK_ROWS = 16  # output rows worked on at a time
_CV2_ONE = 2048  # OpenCV's fixed-point weights have 11 fractional bits


def output_size(height: int, width: int, min_size: int, max_size: int, rule: str) -> tuple[int, int]:
    """The size an image is resized to: short side ``min_size`` unless the long side gets too long.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        min_size: Target length of the short side in pixels.
        max_size: Limit of the long side in pixels.
        rule: ``InputConfig.size_rule``, one of ``SIZE_RULES``.
            "truncate": both sides times one scale, the fraction cut off (torchvision).
            "round": both sides times one scale, rounded (MMDetection).
            "round_two_steps": both sides scaled to ``min_size``, then to ``max_size`` if one is too long,
            then rounded (Detectron2). In rare cases it differs from "round" by a pixel.
            "truncate_long_side": the short side is ``min_size``, or rounded if the long side would get too
            long, and the long side in proportion to it, the fraction cut off (maskrcnn-benchmark).
            "enlarge": as "round", but images whose short side is longer than ``min_size`` are only reduced
            to ``max_size``; halves are rounded to even (matterport).

    Returns:
        ``(height, width)``, at least one pixel each.

    Raises:
        ValueError: ``rule`` is unknown.

    Example:
        >>> output_size(480, 640, 800, 1333, "truncate")
        (800, 1066)
        >>> output_size(480, 640, 800, 1333, "round")
        (800, 1067)
    """
    if rule not in SIZE_RULES:
        raise ValueError(f"size rule {rule!r} is unknown; choose one of {', '.join(SIZE_RULES)}.")
    new_height, new_width = SIZE_RULES[rule](height, width, min_size, max_size)
    return max(new_height, 1), max(new_width, 1)


def _truncate(height, width, min_size, max_size):
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return int(height * scale), int(width * scale)


def _round(height, width, min_size, max_size):
    scale = min(max_size / max(height, width), min_size / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _round_two_steps(height, width, min_size, max_size):
    scale = min_size / min(height, width)
    if height < width:
        exact_height, exact_width = min_size, scale * width
    else:
        exact_height, exact_width = scale * height, min_size
    if max(exact_height, exact_width) > max_size:
        scale = max_size / max(exact_height, exact_width)
        exact_height, exact_width = exact_height * scale, exact_width * scale
    return int(exact_height + 0.5), int(exact_width + 0.5)


def _truncate_long_side(height, width, min_size, max_size):
    short, long = min(height, width), max(height, width)
    if long / short * min_size > max_size:
        min_size = round(max_size * short / long)
    new_long = int(min_size * long / short)
    return (min_size, new_long) if height <= width else (new_long, min_size)


def _enlarge(height, width, min_size, max_size):
    scale = max(1, min_size / min(height, width))
    if round(max(height, width) * scale) > max_size:
        scale = max_size / max(height, width)
    return round(height * scale), round(width * scale)


SIZE_RULES = {
    "truncate": _truncate,
    "round": _round,
    "round_two_steps": _round_two_steps,
    "truncate_long_side": _truncate_long_side,
    "enlarge": _enlarge,
}


def resize_image(image: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    """Resizes an image with the bilinear kernel of one reference library.

    Args:
        image: [H, W, C]. uint8 for all kernels but "torch", which takes any number type.
        size: ``(h, w)`` in pixels.
        kernel: ``InputConfig.resize_kernel``.
            "pil": Pillow's BILINEAR, which averages when it shrinks (Detectron2).
            "cv2": OpenCV's INTER_LINEAR to the last bit (MMDetection).
            "torch": ``interpolate(mode="bilinear", align_corners=False)`` in float32, without
            averaging (torchvision).
            "skimage": scikit-image's ``resize(order=1, mode="constant")`` without averaging, which blends the
            outermost pixels with black; fractions are cut off (matterport).

    Returns:
        [h, w, C]; float32 from "torch", uint8 from the others.

    Raises:
        TypeError: Another kernel than "torch" got an image that is not uint8.
    """
    if kernel == "torch":
        return _torch_bilinear(np.asarray(image, np.float32), size)
    if image.dtype != np.uint8:
        raise TypeError(f"the {kernel!r} kernel resizes uint8 images, not {image.dtype}.")
    if image.shape[:2] == tuple(size):
        return image.copy()
    if kernel == "pil":
        if image.shape[2] != 3:  # two and four channels would be taken for transparent colours, and mixed
            return np.stack([_pil_bilinear(image[..., c], size) for c in range(image.shape[2])], axis=-1)
        return _pil_bilinear(image, size)
    if kernel == "cv2":
        return _cv2_bilinear(image, size)
    if kernel == "skimage":
        return _skimage_bilinear(image, size)
    raise ValueError(f"resize kernel {kernel!r} is unknown; use torch, pil, cv2 or skimage.")


def _pil_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's filter for a picture [H, W] or RGB [H, W, 3]."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_mask(mask: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    """Resizes masks by the nearest-neighbour rule that goes with an image kernel.

    Args:
        mask: bool (or any type) [..., H, W].
        size: ``(h, w)`` in pixels.
        kernel: ``InputConfig.resize_kernel``; see ``nearest_index``.

    Returns:
        [..., h, w] of the same type.
    """
    rows = nearest_index(mask.shape[-2], size[0], kernel)
    columns = nearest_index(mask.shape[-1], size[1], kernel)
    return np.take(np.take(mask, rows, axis=-2), columns, axis=-1)


def nearest_index(length: int, new_length: int, kernel: str) -> np.ndarray:
    """The index of the input row (or column) that each output row is taken from.

    torch's "nearest" and OpenCV's INTER_NEAREST start from pixel corners, ``floor(i * in / out)``,
    in float32 and in float64, respectively; Pillow's NEAREST starts from pixel centres. SciPy's ``zoom``,
    which goes with scikit-image's kernel, maps the first and last pixel's centres to themselves.

    Args:
        length: Input length in pixels.
        new_length: Output length in pixels.
        kernel: ``InputConfig.resize_kernel``.

    Returns:
        int [new_length], not decreasing.
    """
    if kernel == "torch":
        position = np.arange(new_length, dtype=np.float32) * np.float32(length / new_length)
    elif kernel == "cv2":
        position = np.arange(new_length) * (1.0 / (new_length / length))
    elif kernel == "pil":
        # Pillow accumulates the step in floating point; letting it resize the indices reproduces that.
        ramp = Image.fromarray(np.arange(length, dtype=np.int32)[None])
        return np.asarray(ramp.resize((new_length, 1), Image.Resampling.NEAREST))[0].astype(np.intp)
    elif kernel == "skimage":
        position = np.arange(new_length) * ((length - 1) / max(new_length - 1, 1)) + 0.5
    else:
        raise ValueError(f"resize kernel {kernel!r} is unknown; use torch, pil, cv2 or skimage.")
    return np.minimum(np.floor(position).astype(np.intp), length - 1)


def _torch_weights(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower index, upper index and weight of the upper one, as torch computes them in float32."""
    scale = np.float32(length) / np.float32(new_length)
    position = scale * (np.arange(new_length, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    low = np.minimum(position.astype(np.intp), length - 1)
    return low, np.minimum(low + 1, length - 1), position - low.astype(np.float32)


def _torch_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == tuple(size):
        return image.copy()
    left, right, weight = _torch_weights(image.shape[1], size[1])
    column_weights = [_for_channels(w, image) for w in (1 - weight, weight)]
    top, bottom, weight = _torch_weights(image.shape[0], size[0])
    low, high = (1 - weight)[:, None, None], weight[:, None, None]
    out = np.empty((*size, image.shape[2]), np.float32)
    for block, source in _blocks(top, bottom):
        rows = mix_pairs(image[source], left, right, *column_weights, axis=1)
        mixed = np.take(rows, top[block] - source.start, axis=0)
        mixed *= low[block]
        lower = np.take(rows, bottom[block] - source.start, axis=0)
        lower *= high[block]
        np.add(mixed, lower, out=out[block])
    return out


def _blocks(top: np.ndarray, bottom: np.ndarray):
    """Slices of a few output rows, each with the slice of input rows that it needs.

    The intermediate values of a block stay in the processor's cache, which makes resizing several times
    faster.
    """
    for start in range(0, len(top), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        yield block, slice(int(top[block].min()), int(bottom[block].max()) + 1)


def _for_channels(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Repeat [w] to [w, C]: NumPy then multiplies whole rows at once; with [w, 1] it goes pixel by pixel."""
    return np.repeat(weights[:, None], image.shape[2], axis=1)


def _skimage_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """scikit-image (0.19 and later) calls SciPy's ``zoom`` with these arguments, and clips the result."""
    from scipy import ndimage  # takes time to import

    factors = [new / old for new, old in zip(size, image.shape[:2], strict=True)]
    pixels = image.astype(np.float64)
    out = np.empty((*size, image.shape[2]))
    for i in range(image.shape[2]):
        ndimage.zoom(
            pixels[..., i], factors, out[..., i], order=1, mode="grid-constant", cval=0, grid_mode=True
        )
    # Pixels that are blended with black at the border are not darker than the darkest one, but for black.
    out[out != 0] = np.clip(out[out != 0], pixels.min(), pixels.max())
    return out.astype(np.uint8)


def _cv2_weights(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower index (which can be -1 or ``length - 1``) and weight of the upper one, float32."""
    position = ((np.arange(new_length) + 0.5) * (length / new_length) - 0.5).astype(np.float32)
    low = np.floor(position)
    return low.astype(np.intp), position - low


def _cv2_fixed(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one = np.float32(_CV2_ONE)
    return np.rint((1 - weight) * one).astype(np.int32), np.rint(weight * one).astype(np.int32)


def _cv2_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    left, weight = _cv2_weights(width, size[1])
    # OpenCV moves positions beyond the border onto it before it rounds weights, but only along x.
    weight = np.where((left < 0) | (left >= width - 1), np.float32(0), weight)
    left = np.clip(left, 0, width - 1)
    right = np.minimum(left + 1, width - 1)
    column_weights = [_for_channels(w, image) for w in _cv2_fixed(weight)]
    top, weight = _cv2_weights(height, size[0])
    low, high = (w[:, None, None] for w in _cv2_fixed(weight))
    top, bottom = np.clip(top, 0, height - 1), np.clip(top + 1, 0, height - 1)
    out = np.empty((*size, image.shape[2]), np.uint8)
    for block, source in _blocks(top, bottom):
        rows = mix_pairs(image[source].astype(np.int32), left, right, *column_weights, axis=1)
        # Dropping four bits keeps the products below 2^27, and is part of the exact result.
        rows >>= 4
        mixed = np.take(rows, top[block] - source.start, axis=0)
        mixed *= low[block]
        mixed >>= 16
        lower = np.take(rows, bottom[block] - source.start, axis=0)
        lower *= high[block]
        lower >>= 16
        mixed += lower
        mixed += 2
        mixed >>= 2
        out[block] = np.clip(mixed, 0, 255)
    return out
