"""Detects the objects in pictures with one call.

Shape legend: H, W height and width of an image, N its detections, K object classes.
"""

import collections
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.classes import choose_classes
from jaxmaskrcnn.inference.devices import device_name, find_device
from jaxmaskrcnn.inference.panoptic import only_categories
from jaxmaskrcnn.inference.postprocess import postprocess_batch
from jaxmaskrcnn.inference.stream import WORKERS, Prediction, StreamingPredictor, ordered_futures, readable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import check_is_detector, with_dtype
from jaxmaskrcnn.structures import Batch, Category, Detections
from jaxmaskrcnn.utils.compilation_cache import release_after_compiling
from jaxmaskrcnn.utils.compiler_options import compiler_options

_PATIENCE = 4  # after this many batches of other pictures, an incomplete batch is computed


class Row(NamedTuple):
    """A picture that is ready to be computed: its index, its pixels, and the network's input."""

    index: int
    pixels: np.ndarray
    inputs: Any


class Work(NamedTuple):
    """Pictures that are computed together.

    Attributes:
        rows: The pictures. ``inputs`` may hold more rows, which only fill up the batch.
        inputs: Inputs of the computation on the device.
        image_sizes: int [R, 2], height and width that the detections' boxes refer to.
        original_sizes: int [R, 2], height and width of the pictures themselves.
    """

    rows: list[Row]
    inputs: Any
    image_sizes: np.ndarray
    original_sizes: np.ndarray


class Predictor(StreamingPredictor):
    """A model that can be called with pictures.

    Pictures are padded to one of at most five canvases, each of which is compiled when it is
    first needed, or by `warm_up`. Neither the canvas nor the other pictures of a batch change a result.

    A predictor can be called from several threads at a time. It can be pickled, with the weights, and so
    sent to other processes (``multiprocessing`` with "spawn", joblib, Ray), which compile for themselves.

    Args:
        model: MaskRCNN, or the path of one: a model directory, a training workdir, or a checkpoint file that
            `load_model` reads without further arguments. Its present weights are taken; later changes of
            the model have no effect.
        score_threshold: Detections must score higher. None: ``model.config.detections.score_threshold``.
        max_batch: Largest number of pictures of a list that are computed at a time. Fewer are filled up to
            it, or to a smaller number that `warm_up` has prepared.
        classes: Names or ids of the categories to return; None for all. Detections of the others
            count too for the model's limit of detections per image.
        thresholds: Score thresholds of the categories by their ids, in the place of ``score_threshold``;
            `read_thresholds` gives those that are saved with a model. Categories that it lacks have none.
        device: Where to compute: a ``jax.Device``, or a platform and a number such as "cpu" or "gpu:1". None
            is JAX's default.
        dtype: "float32" or "bfloat16", in place of the model's ``compute.dtype``; results change a little.

    Attributes:
        config: The model's config with this predictor's score threshold.
        categories: The model's categories, whose ids are the ``labels`` of results.
        stuff: The categories of stuff of a panoptic model, whose segments have their ids; else ().
        has_extra: Whether the model has further region heads, whose predictions are under ``extra``.

    Raises:
        UserError: There is no model at the path, ``score_threshold`` or ``max_batch`` is out of range, a
            class or device is unknown, or the dtype of a model with replaced parts cannot be changed.

    Example:
        >>> predictor = Predictor(model, score_threshold=0.5)
        >>> predictor.config.detections.score_threshold
        0.5
        >>> out = predictor("street.jpg")  # doctest: +SKIP
        >>> out["boxes"].shape, out["masks"].shape  # doctest: +SKIP
        ((7, 4), (7, 480, 640))
    """

    # Batches that are sent to the device before waiting for the results of the oldest one.
    _in_flight = 3
    # Attributes that `_build` makes.
    _built: tuple[str, ...] = ("_detect",)

    def __init__(
        self,
        model: MaskRCNN | str | os.PathLike,
        score_threshold: float | None = None,
        *,
        max_batch: int = 1,
        classes: Sequence[int | str] | None = None,
        thresholds: Mapping[int, float] | None = None,
        device: Any = None,
        dtype: str | None = None,
    ):
        if isinstance(model, str | os.PathLike):
            # Imported here, as what reads checkpoints is of no use to a model in memory.
            from jaxmaskrcnn.checkpoints.directory import load_model

            model = load_model(model)
        check_is_detector(model, "a detector, or the folder or the file of one")
        floors = None
        if thresholds is not None:
            if score_threshold is not None:
                raise UserError("score_threshold and thresholds are both given; give one of them.")
            floors = [float(thresholds.get(category.id, 0.0)) for category in model.categories]
            score_threshold = min(floors)
        if score_threshold is None:
            score_threshold = model.config.detections.score_threshold
        if not 0 <= score_threshold <= 1:
            raise UserError(f"score_threshold is {score_threshold}; give a probability from 0 to 1.")
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; give 1 or more.")
        if dtype is not None:
            model = with_dtype(model, dtype)
        self.config: ModelConfig = model.config.replace(
            {"detections.score_threshold": float(score_threshold)}
        )
        self.categories: tuple[Category, ...] = model.categories
        self.stuff: tuple[Category, ...] = self.config.known_stuff()
        self.has_extra = len(getattr(model, "extra_heads", ())) > 0
        self._selected = self._chosen = None
        if classes is not None:
            everything = (*self.categories, *self.stuff)
            selected = choose_classes(everything, classes)
            self._selected = selected[: len(self.categories)]
            self._chosen = {c.id for c, taken in zip(everything, selected, strict=True) if taken}
        self._floors = None if floors is None else np.array(floors)
        self._max_batch, self._batches = max_batch, frozenset([max_batch])
        self._device = None if device is None else device_name(device)
        self._graphdef, self._state = nnx.split(model)
        self._build()

    def _build(self) -> None:
        """Places the weights and makes the functions that compile, which cannot be pickled."""
        if self._device is not None:
            self._state = jax.device_put(self._state, find_device(self._device))
        self._detect = self._compiled(lambda detector, batch: detector.detect(batch))

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in self._built}
        return state | {"_state": jax.tree.map(np.asarray, self._state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in (state | {"_state": jax.device_put(state["_state"])}).items():
            setattr(self, name, value)
        self._build()

    def warm_up(self, sizes: Sequence[tuple[int, int]] | None = None, *, batches: Sequence[int] = ()) -> None:
        """Compiles what pictures will need, so that the first ones do not wait for it.

        Args:
            sizes: Heights and widths of pictures in pixels; pictures of one canvas need one of them. None
                takes all five canvases.
            batches: Numbers of pictures that are computed together, up to ``max_batch``, which is always
                among them. A list of fewer pictures is then filled up to the next of these numbers.

        Raises:
            UserError: A size or number is out of range.

        Example:
            >>> predictor = jmr.Predictor("models/coco", max_batch=8)  # doctest: +SKIP
            >>> predictor.warm_up([(480, 640), (640, 480)], batches=[1])  # doctest: +SKIP
        """
        if any(len(size) != 2 or min(size) < 1 for size in sizes or ()):
            raise UserError(f"sizes is {list(sizes or ())}; give pairs of a height and a width in pixels.")
        if any(not 1 <= batch <= self._max_batch for batch in batches):
            raise UserError(
                f"batches is {list(batches)}; give numbers from 1 to max_batch, {self._max_batch}."
            )
        self._batches = self._batches | {*batches}
        for height, width in canvases(self.config) if sizes is None else sizes:
            pixels, inputs = self._prepare(
                np.zeros((height, width, self.config.input.pixels.channels), np.uint8), "the image"
            )
            for batch in sorted(self._batches):
                for work in self._group([Row(i, pixels, inputs) for i in range(batch)]):
                    jax.block_until_ready(self._compute(work.inputs))

    def _compiled(self, method):
        """Compiles a function of the model and further arguments; the model's state is passed in."""

        def call(state, *arguments):
            detector = nnx.merge(self._graphdef, state)
            detector.config = self.config
            return method(detector, *arguments)

        options = compiler_options(None if self._device is None else find_device(self._device).platform)
        return release_after_compiling(jax.jit(call, compiler_options=options))

    def _stream(self, images, masks, on_error, name="images[{}]") -> Iterator[Prediction]:
        done: dict[int, Prediction | None] = {}  # None for a picture that is left out
        following = 0

        def in_order() -> Iterator[Prediction]:
            nonlocal following
            while following in done:
                prediction = done.pop(following)
                following += 1
                if prediction is not None:
                    yield prediction

        def prepare(numbered: tuple[int, Any]) -> tuple[np.ndarray, Any]:
            index, image = numbered
            return self._prepare(image, name.format(index))

        futures = ordered_futures(prepare, enumerate(images), ahead=WORKERS + self._max_batch)
        read = readable(futures, on_error, lambda index: done.setdefault(index, None))
        rows = (Row(index, *prepared) for index, prepared in read)
        running: collections.deque = collections.deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            for work in self._group(rows):
                running.append(pool.submit(self._finish, work, self._compute(work.inputs), masks))
                while len(running) > self._in_flight:
                    done |= running.popleft().result()
                    yield from in_order()
            while running:
                done |= running.popleft().result()
                yield from in_order()

    def _prepare(self, image, name: str) -> tuple[np.ndarray, Any]:
        """Reads a picture and prepares the network's input; runs in a thread."""
        pixels = read_image(image, self.config.input.pixels, name)
        # A batch of one, so that an image's extent does not depend on other images.
        return pixels, make_batch(self.config, [pixels])

    def _group(self, rows: Iterable[Row]) -> Iterator[Work]:
        """Collects pictures that share a canvas into batches."""
        waiting: dict[tuple[int, int], list[Row]] = {}  # by canvas, the one that has waited longest first
        for row in rows:
            canvas = canvas_of(row.inputs.images.shape[1:3], self.config)
            waiting.setdefault(canvas, []).append(row)
            oldest = next(iter(waiting))
            if len(waiting[canvas]) == self._max_batch:
                yield self._work(waiting.pop(canvas), canvas)
            elif row.index - waiting[oldest][0].index >= _PATIENCE * self._max_batch:
                yield self._work(waiting.pop(oldest), oldest)
        for canvas, rows in waiting.items():
            yield self._work(rows, canvas)

    def _work(self, rows: list[Row], canvas: tuple[int, int]) -> Work:
        count = len(rows)
        batch = stack([row.inputs for row in rows], canvas, min(n for n in self._batches if n >= count))
        return Work(rows, batch, batch.image_sizes[:count], batch.original_sizes[:count])

    def _compute(self, inputs) -> Detections:
        """Starts the computation without waiting for it."""
        return self._detect(self._state, jax.device_put(inputs))

    def _finish(self, work: Work, detections: Detections, masks: str) -> dict[int, Prediction]:
        """Makes the results at the pictures' own scale, by their indices; runs in a thread."""
        count = len(work.rows)  # rows after these only fill up the batch
        detections = jax.tree.map(lambda x: x[:count], jax.device_get(detections))
        panoptic = self.config.semantic is not None
        if self._floors is not None:
            above = detections.scores > self._floors[detections.labels]
            detections = detections._replace(valid=detections.valid & above)
        if self._selected is not None and not panoptic:  # before pasting, to save the masks of other classes
            detections = detections._replace(valid=detections.valid & self._selected[detections.labels])
        outs = postprocess_batch(detections, work.image_sizes, work.original_sizes, self.config, masks=masks)
        if self._selected is not None and panoptic:  # afterwards, as the others cover pixels all the same
            outs = list(map(self._only_chosen, outs))
        return {
            row.index: Prediction(row.index, row.pixels, out)
            for row, out in zip(work.rows, outs, strict=True)
        }

    def _only_chosen(self, out: dict[str, Any]) -> dict[str, Any]:
        """The result of a panoptic model without the classes that are not asked for."""
        chosen = self._chosen or set()
        kept = np.flatnonzero(np.isin(out["labels"], sorted(chosen)))
        panoptic, segments = only_categories(out["panoptic"], out["segments"], chosen)
        of_image = {"panoptic": panoptic, "segments": segments}

        def rows(values):
            if isinstance(values, dict):  # of further heads
                return {name: rows(value) for name, value in values.items()}
            return [values[i] for i in kept] if isinstance(values, list) else values[kept]

        return {name: rows(values) for name, values in out.items() if name not in of_image} | of_image


def canvas_of(size: Sequence[int], config: ModelConfig) -> tuple[int, int]:
    """The smallest of five canvases (square, and two of either orientation) that holds an image.

    Args:
        size: Height and width of the padded image.
        config: Gives the sizes that images can have.
    """
    short, middle, longest = _sides(config)
    longer = next((side for side in (short, middle, longest) if max(size) <= side), max(size))
    shorter = max(short, min(size))
    return (shorter, longer) if size[0] <= size[1] else (longer, shorter)


def canvases(config: ModelConfig) -> list[tuple[int, int]]:
    """The five canvases (fewer, where sides are equal); arguments as in `canvas_of`."""
    short, middle, longest = _sides(config)
    tall = [(side, short) for side in (middle, longest)]
    return list(dict.fromkeys([(short, short), (short, middle), (short, longest), *tall]))


def _sides(config: ModelConfig) -> tuple[int, int, int]:
    short = round_up(min(config.input.test_min_size, config.input.test_max_size), config.input.pad_divisor)
    longest = round_up(config.input.test_max_size, config.input.pad_divisor)
    return short, round_up((short + longest) // 2, config.input.pad_divisor), longest


def stack(batches: Sequence[Batch], canvas: tuple[int, int], batch_size: int) -> Batch:
    """Joins single images into a batch on a common canvas, filled up to the batch size.

    Args:
        batches: Batches of one image each, at most ``batch_size``.
        canvas: Height and width in pixels.
        batch_size: B, always the same, because every size is compiled separately.
    """
    batches = [*batches, *[batches[-1]._replace(valid=np.zeros(1, bool))] * (batch_size - len(batches))]
    first = batches[0].images
    images = np.zeros((batch_size, *canvas, first.shape[3]), first.dtype)
    for row, batch in zip(images, batches, strict=True):
        height, width = batch.images.shape[1:3]
        row[:height, :width] = batch.images[0]
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("image_sizes", "extents", "original_sizes", "index", "valid")
    }
    return Batch(images=images, **fields)
