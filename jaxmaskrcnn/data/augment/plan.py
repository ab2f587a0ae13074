"""Draws the augmentation of every image, as a pure function of seed, step and place in the batch.

Each place of the global batch has a row of random numbers with a column for every choice, so
switching one transform on leaves the choices of the others as they are. Transforms that came later have rows
of their own, so that the rows of the earlier ones are what they were.

Shape legend: B images of a global batch.
"""

from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.augment import mosaic, photometric, pixels
from jaxmaskrcnn.data.augment.own import OwnTransform
from jaxmaskrcnn.data.augment.photometric import Distortion, draw_distortion
from jaxmaskrcnn.data.augment.pixels import PixelChange, draw_change
from jaxmaskrcnn.data.transforms import Geometry, round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.resize import output_size

# Columns of an image's random numbers; a pasted image has a row of its own.
_CROP_HEIGHT, _CROP_WIDTH, _CROP_TOP, _CROP_LEFT, _SCALE, _WINDOW, _ANGLE = range(7)
_FLIP, _SHORT_SIDE, _HAPPENS, _PARTNER, _CHOICE = range(7, 12)
_COLOURS = slice(12, 12 + photometric.DRAWS)
_COLUMNS = _COLOURS.stop
# Columns of the later rows.
_VERTICAL, _QUARTER, _OWN = range(3)
_PIXELS = slice(3, 3 + pixels.DRAWS)
_LATER_COLUMNS = _PIXELS.stop
_WHOLE = 2**30, 2**30  # a limit that cuts nothing off


class ImagePlan(NamedTuple):
    """The augmentation of one image.

    Attributes:
        index: Position in the source.
        geometry: Crop, angle, size, flip and window.
        distortion: Distortion of the colours; None where they stay.
        pixels: Change of brightness, sharpness and noise, or None.
        own: The transform of the user's, or None.
    """

    index: int
    geometry: Geometry
    distortion: Distortion | None
    pixels: PixelChange | None = None
    own: OwnTransform | None = None


class SlotPlan(NamedTuple):
    """One slot of a batch: its image and the one pasted on it.

    Attributes:
        image: The image.
        pasted: The image whose objects are pasted on it, or None.
        choice: Seed of the choice among these objects.
        beside: The three images that are put beside the image, or none.
        places: Row and column of the first pixel of the image and of each of these.
        size: Height and width of the image as a whole.
    """

    image: ImagePlan
    pasted: ImagePlan | None
    choice: int
    beside: tuple[ImagePlan, ...]
    places: tuple[tuple[int, int], ...]
    size: tuple[int, int]


def jittered_size(height: int, width: int, target: int, scale: float) -> tuple[int, int]:
    """The size that large-scale jitter resizes to (Detectron2's ``ResizeScale``).

    Args:
        height: In pixels.
        width: In pixels.
        target: Side of the square that the image fits into at scale 1.
        scale: Factor drawn from ``DataConfig.jitter_scale``.

    Returns:
        ``(height, width)``, at least one pixel each.

    Example:
        >>> jittered_size(480, 640, 1024, 0.5)
        (384, 512)
    """
    ratio = np.minimum(target * scale / height, target * scale / width)
    new_height, new_width = np.round(np.multiply((height, width), ratio)).astype(int)
    return max(int(new_height), 1), max(int(new_width), 1)


def fixed_window(size: tuple[int, int], limit: tuple[int, int], uniform: float) -> tuple[int, int, int, int]:
    """The part that is kept of an image that is larger than the limit (``FixedSizeCrop``).

    Args:
        size: ``(height, width)`` of the image.
        limit: Largest ``(height, width)``.
        uniform: Random number in [0, 1); Detectron2 uses the same one for both axes.

    Returns:
        ``(top, left, height, width)``.
    """
    spare = np.maximum(np.subtract(size, limit), 0)
    top, left = np.round(spare * uniform).astype(int)
    return int(top), int(left), min(size[0], limit[0]), min(size[1], limit[1])


def crop_window(size: tuple[int, int], smallest: float, uniform: np.ndarray) -> tuple[int, int, int, int]:
    """A random crop (Detectron2's ``RandomCrop`` of the type "relative_range").

    Args:
        size: ``(height, width)`` of the image in pixels.
        smallest: Smallest share of each side that is kept.
        uniform: Four random numbers in [0, 1): height, width, top, left.

    Returns:
        ``(top, left, height, width)``.
    """
    shares = np.float32(smallest) + uniform[:2] * (1 - np.float32(smallest))
    height, width = (max(int(n * share + 0.5), 1) for n, share in zip(size, shares, strict=True))
    top, left = (int((n - m + 1) * u) for n, m, u in zip(size, (height, width), uniform[2:], strict=True))
    return top, left, height, width


def turned(flip: bool, vertical: float, quarter: float, data: DataConfig) -> tuple[bool, int]:
    """The horizontal flip and the quarter turns that make up all flips and turns of an image.

    Args:
        flip: Whether it is mirrored left to right.
        vertical: Random number in [0, 1) of the vertical flip, which is a horizontal one and half a turn.
        quarter: Random number in [0, 1) of the quarter turns: one, two or three with equal probabilities.
        data: Gives the probabilities.

    Returns:
        Whether the image is mirrored, and the number of quarter turns that follow.

    Example:
        >>> turned(True, 0.1, 0.9, DataConfig(flip_vertical=0.5, quarter_turns=0.5))  # both flips
        (False, 2)
    """
    turns = 0
    if vertical < data.flip_vertical:
        flip, turns = not flip, 2
    if quarter < data.quarter_turns:
        turns += 1 + int(3 * quarter / data.quarter_turns)
    return flip, turns % 4


class AugmentPlan:
    """The augmentation of a global batch.

    Args:
        source: The data set (``sizes``, ``object_counts``, ``has_masks``, ``annotations``).
        model: Gives the size rule and the padding divisor.
        data: Gives the augmentation and the sizes.
        min_sizes: Short sides to draw from, in pixels.
        max_size: Limit of the long side in pixels.
        seed: Seed of all choices.

    Raises:
        UserError: A setting has a value that cannot be used.
    """

    def __init__(self, source, model: ModelConfig, data: DataConfig, min_sizes, max_size: int, seed: int):
        _check(source, model, data)
        self._sizes, self._rule, self._seed = source.sizes, model.input.size_rule, seed
        self._data, self._min_sizes, self._max_size = data, min_sizes, max_size
        self._partners = np.flatnonzero(np.asarray(source.object_counts) > 0)

    def __call__(self, step: int, index, scale, flip, canvas: tuple[int, int]) -> tuple[SlotPlan, ...]:
        """The plans of one global step.

        Args:
            step: Counted from 0.
            index: int [B], positions in the source.
            scale: int [B], index of each image's short side in ``min_sizes``.
            flip: bool [B].
            canvas: Height and width that the batch is padded to.
        """
        shape = len(index), 2
        uniform = np.concatenate(
            [
                np.random.default_rng([self._seed, 2, int(step)]).random((*shape, _COLUMNS)),
                np.random.default_rng([self._seed, 3, int(step)]).random((*shape, _LATER_COLUMNS)),
            ],
            axis=-1,
        )
        tiles = [None] * len(index)
        if self._data.mosaic:
            # Of the first row, only two columns are used: where the images meet.
            shape = len(index), mosaic.COUNT, _COLUMNS + _LATER_COLUMNS
            tiles = np.random.default_rng([self._seed, 4, int(step)]).random(shape)
        rows = zip(index, scale, flip, uniform, tiles, strict=True)
        return tuple(self._slot(*row, canvas) for row in rows)

    def _slot(self, index, scale, flip, uniform: np.ndarray, tiles: np.ndarray | None, canvas) -> SlotPlan:
        first, second = uniform
        beside, places = (), ((0, 0),)
        if tiles is not None and tiles[0][_HAPPENS] < self._data.mosaic and len(self._partners):
            image, beside, places = self._mosaic(index, scale, bool(flip), first, tiles, canvas)
        else:
            image = self._image(index, scale, bool(flip), first, canvas, canvas)
        size = canvas if beside else image.geometry.result
        pasted = None
        if first[_HAPPENS] < self._data.copy_paste and len(self._partners):
            # Cropped to the image that it is pasted on, so that the pasted objects are visible.
            pasted = self._partner(second, canvas, size)
        return SlotPlan(image, pasted, int(second[_CHOICE] * 2**32), beside, places, size)

    def _mosaic(self, index, scale, flip: bool, uniform: np.ndarray, tiles: np.ndarray, canvas):
        """The plan of an image, those of the images beside it, and where they lie."""
        images = [self._image(index, scale, flip, uniform, canvas, _WHOLE)]
        images += [self._partner(row, canvas, _WHOLE) for row in tiles[1:]]
        point = mosaic.meeting_point(canvas, tiles[0][[_CROP_TOP, _CROP_LEFT]])
        placed = [
            mosaic.place_tile(image.geometry, corner, point, canvas) for corner, image in enumerate(images)
        ]
        image, *beside = (
            image._replace(geometry=geometry) for image, (geometry, _) in zip(images, placed, strict=True)
        )
        return image, tuple(beside), tuple(place for _, place in placed)

    def _partner(self, uniform: np.ndarray, canvas, limit) -> ImagePlan:
        """Another image with objects, which a row of random numbers chooses and transforms."""
        partner = self._partners[int(uniform[_PARTNER] * len(self._partners))]
        side = int(uniform[_SHORT_SIDE] * len(self._min_sizes))
        mirrored = bool(uniform[_FLIP] < self._data.flip)
        return self._image(partner, side, mirrored, uniform, canvas, limit)

    def _image(self, index, scale, flip: bool, uniform: np.ndarray, canvas, limit) -> ImagePlan:
        data, later = self._data, uniform[_COLUMNS:]
        height, width = map(int, self._sizes[index])
        flip, turns = turned(flip, later[_VERTICAL], later[_QUARTER], data)
        if turns % 2:  # before it is turned, the image has to fit what is turned back
            canvas, limit = canvas[::-1], limit[::-1]
        crop = (0, 0, height, width)
        if data.crop < 1:
            crop = crop_window((height, width), data.crop, uniform[_CROP_HEIGHT : _CROP_LEFT + 1])
        angle = float(data.rotate * (2 * uniform[_ANGLE] - 1))
        if data.jitter_size:
            low, high = data.jitter_scale
            drawn = low + (high - low) * uniform[_SCALE]
            size = jittered_size(*crop[2:], data.jitter_size, drawn)
        else:
            size = output_size(*crop[2:], self._min_sizes[scale], self._max_size, self._rule)
            # A crop can have a longer aspect ratio than its image, and a partner can have any.
            excess = max(size[0] / canvas[0], size[1] / canvas[1])
            if excess > 1:
                size = tuple(max(int(n / excess), 1) for n in size)
        window = fixed_window(size, limit, uniform[_WINDOW])
        distortion = draw_distortion(uniform[_COLOURS], data.photometric) if data.photometric else None
        change = draw_change(later[_PIXELS], data.gain, data.offset, data.gamma, data.blur, data.noise)
        own = OwnTransform(data.transform, int(later[_OWN] * 2**32)) if data.transform else None
        geometry = Geometry(crop, angle, size, flip, window, turns)
        return ImagePlan(int(index), geometry, distortion, change, own)


def _check(source, model: ModelConfig, data: DataConfig) -> None:
    size, divisor = data.jitter_size, model.input.pad_divisor
    if size != round_up(size, divisor):
        raise UserError(
            f"data.jitter_size is {size}; give a positive multiple of the model's input.pad_divisor "
            f"{divisor}, or 0 for no large-scale jitter."
        )
    if data.copy_paste and not source.has_masks:
        raise UserError(
            f"data.copy_paste needs masks and {source.annotations} was prepared without; prepare it with "
            "masks, or set data.copy_paste to 0."
        )
