"""From pictures to detections, one call.

Shape legend: H, W height and width of an image, N its detections.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.inputs import read_image
from jaxmaskrcnn.inference.postprocess import MASK_FORMATS, postprocess_batch
from jaxmaskrcnn.structures import Batch, Category


class Predictor:
    """A model, ready to be called with pictures.

    Pictures are padded to one of at most five canvases, each of which is compiled when it is
    first needed. Neither the canvas nor the other pictures of a batch change a result.

    Args:
        model: MaskRCNN. Its weights are those of now; later changes of the model do not show.
        score_threshold: Detections must score higher. None: ``model.config.score_threshold``.
        batch_size: How many pictures of a list are computed at a time.

    Attributes:
        config: The model's config with this predictor's score threshold.
        categories: What ``labels`` are ids of.

    Raises:
        UserError: ``score_threshold`` or ``batch_size`` is out of range.

    Example:
        >>> predictor = Predictor(model, score_threshold=0.5)
        >>> predictor.config.score_threshold
        0.5
        >>> out = predictor("street.jpg")  # doctest: +SKIP
        >>> out["boxes"].shape, out["masks"].shape  # doctest: +SKIP
        ((7, 4), (7, 480, 640))
    """

    def __init__(self, model, score_threshold: float | None = None, *, batch_size: int = 1):
        if score_threshold is None:
            score_threshold = model.config.score_threshold
        if not 0 <= score_threshold <= 1:
            raise UserError(f"score_threshold is {score_threshold}; give a probability from 0 to 1.")
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; give 1 or more.")
        self.config: ModelConfig = dataclasses.replace(model.config, score_threshold=float(score_threshold))
        self.categories: tuple[Category, ...] = model.categories
        self._batch_size = batch_size
        graphdef, self._state = nnx.split(model)

        def detect(state, batch):
            detector = nnx.merge(graphdef, state)
            detector.config = self.config
            return detector.detect(batch)

        self._detect = jax.jit(detect)

    def __call__(self, images: Any, masks: str = "bool") -> dict[str, Any] | list[dict[str, Any]]:
        """Detects the objects in one picture or in several.

        Args:
            images: A path, a PIL image or a uint8 RGB array [H, W, 3], or a list of them. Files
                and PIL images of any mode are converted, and turned upright as EXIF says.
            masks: ``"bool"``, ``"probs"`` (probabilities) or ``"rle"`` (COCO RLE, the smallest).

        Returns:
            For a picture a dictionary, at the picture's own scale, best first: ``boxes``
            float32 [N, 4] XYXY in pixels, ``scores`` float32 [N], ``labels`` int64 [N]
            (ids of ``categories``), and with a mask head ``masks``: bool or float32
            [N, H, W], or a list of N RLE dictionaries. For a list, a list of them.

        Raises:
            UserError: A picture cannot be read, or ``masks`` is no known format.
        """
        if masks not in MASK_FORMATS:
            raise UserError(f"masks is {masks!r}; choose one of {', '.join(map(repr, MASK_FORMATS))}.")
        if not isinstance(images, (list, tuple)):
            return self([images], masks)[0]
        results: list[Any] = [None] * len(images)

        def finish(slots, batch, detections):
            outs = postprocess_batch(
                detections, batch.image_sizes, batch.original_sizes, self.config, masks=masks
            )
            for slot, out in zip(slots, outs, strict=False):  # rows beyond the slots are fill
                results[slot] = out

        previous = None
        for slots, batch in self._batches(images):
            current = slots, batch, self._detect(self._state, batch)
            # The device is busy with this batch while the host pastes the masks of the last.
            if previous is not None:
                finish(*previous)
            previous = current
        if previous is not None:
            finish(*previous)
        return results

    def _batches(self, images) -> Iterator[tuple[list[int], Batch]]:
        """Batches of pictures that share a canvas, with their places in the list."""
        open_batches: dict[tuple[int, int], list[tuple[int, Batch]]] = {}
        for slot, image in enumerate(images):
            # Alone, so that an image's extent does not depend on its company.
            batch = make_batch(self.config, [read_image(image)])
            canvas = _canvas(batch.images.shape[1:3], self.config)
            rows = open_batches.setdefault(canvas, [])
            rows.append((slot, batch))
            if len(rows) == self._batch_size:
                yield _stack(open_batches.pop(canvas), canvas, self._batch_size)
        for canvas, rows in open_batches.items():
            yield _stack(rows, canvas, self._batch_size)


def _canvas(size: tuple[int, int], config: ModelConfig) -> tuple[int, int]:
    """The smallest of five canvases (square, and two of either orientation) that holds an image."""
    short = round_up(min(config.test_min_size, config.test_max_size), config.pad_divisor)
    longest = round_up(config.test_max_size, config.pad_divisor)
    middle = round_up((short + longest) // 2, config.pad_divisor)
    longer = next((side for side in (short, middle, longest) if max(size) <= side), max(size))
    shorter = max(short, min(size))
    return (shorter, longer) if size[0] <= size[1] else (longer, shorter)


def _stack(rows, canvas, batch_size) -> tuple[list[int], Batch]:
    slots = [slot for slot, _ in rows]
    batches = [batch for _, batch in rows]
    # A list's last batch is filled up, because every size would be compiled anew.
    batches += [batches[-1]._replace(valid=np.zeros(1, bool))] * (batch_size - len(batches))
    images = np.zeros((batch_size, *canvas, 3), batches[0].images.dtype)
    for row, batch in zip(images, batches, strict=True):
        height, width = batch.images.shape[1:3]
        row[:height, :width] = batch.images[0]
    fields = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("image_sizes", "extents", "original_sizes", "index", "valid")
    }
    return slots, Batch(images=images, **fields)
