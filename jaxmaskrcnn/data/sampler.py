"""Decides which images make up each step, at which size, and on which canvas.

Everything is a pure function of the seed and the global step, so a run that resumes at any step,
on any number of processes, continues with exactly the data it would have had.

Shape legend: N images of the data set, U images in use, B images of a global batch.
"""

import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.augment.plan import AugmentPlan, SlotPlan
from jaxmaskrcnn.data.repeat_factors import epoch_length, repeated, source_factors
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.ops.resize import output_size

log = logging.getLogger(__name__)


class StepPlan(NamedTuple):
    """The images of one global batch and what happens to them.

    Attributes:
        index: int64 [B], position in the source; -1 fills up the last batch of an evaluation.
        sizes: int32 [B, 2], height and width to resize to, in pixels.
        flip: bool [B], whether to mirror left to right.
        canvas: Height and width that all images of the batch are padded to.
        augment: B entries that replace ``sizes`` and ``flip``; none without augmentation.
    """

    index: np.ndarray
    sizes: np.ndarray
    flip: np.ndarray
    canvas: tuple[int, int]
    augment: tuple[SlotPlan, ...] = ()

    def part(self, process_index: int, process_count: int) -> "StepPlan":
        """The rows that one process loads: an equal, contiguous share."""
        share = len(self.index) // process_count
        rows = slice(process_index * share, (process_index + 1) * share)
        return StepPlan(self.index[rows], self.sizes[rows], self.flip[rows], self.canvas, self.augment[rows])


def resized_sizes(sizes: np.ndarray, min_size: int, max_size: int, rule: str) -> np.ndarray:
    """``output_size`` for many images.

    Args:
        sizes: int [N, 2], height and width in pixels.
        min_size: Target length of the short side.
        max_size: Limit of the long side.
        rule: ``InputConfig.size_rule``.

    Returns:
        int32 [N, 2].
    """
    # Data sets repeat a few sizes, and the rules are scalar arithmetic that must stay exact.
    distinct, inverse = np.unique(np.asarray(sizes).reshape(-1, 2), axis=0, return_inverse=True)
    new = [output_size(int(h), int(w), min_size, max_size, rule) for h, w in distinct]
    return np.asarray(new, np.int32).reshape(-1, 2)[inverse.reshape(-1)]


def choose_canvases(extents: np.ndarray, max_canvases: int) -> list[tuple[int, int]]:
    """Picks a few canvas shapes that hold all images with little padding.

    The step is compiled once for every canvas, so there should be few. Starts with one canvas per
    distinct extent and repeatedly joins the two whose union adds the least padded area.

    Args:
        extents: int [N, 2], heights and widths rounded up to the padding divisor, in pixels.
        max_canvases: How many to return at most.

    Returns:
        ``(height, width)`` of each, by ascending area.

    Example:
        >>> choose_canvases(np.array([[800, 1088], [1088, 800], [800, 1056]]), 2)
        [(800, 1088), (1088, 800)]
    """
    shapes, counts = np.unique(np.asarray(extents, np.int64).reshape(-1, 2), axis=0, return_counts=True)
    while len(shapes) > max(max_canvases, 1):
        union = np.maximum(shapes[:, None], shapes[None])  # [K, K, 2]
        area = shapes.prod(axis=-1) * counts
        added = union.prod(axis=-1) * (counts[:, None] + counts[None]) - area[:, None] - area[None]
        np.fill_diagonal(added, np.iinfo(np.int64).max)
        a, b = np.unravel_index(np.argmin(added), added.shape)
        shapes[a], counts[a] = union[a, b], counts[a] + counts[b]
        shapes, counts = np.delete(shapes, b, axis=0), np.delete(counts, b)
    shapes = np.unique(shapes, axis=0)
    order = np.argsort(shapes.prod(axis=-1), kind="stable")
    return [(int(h), int(w)) for h, w in shapes[order]]


def given_canvases(flat: Sequence[int], divisor: int) -> list[tuple[int, int]]:
    """``DataConfig.canvases`` as pairs.

    Args:
        flat: h0, w0, h1, w1, ... in pixels.
        divisor: The model's padding divisor.

    Raises:
        UserError: The canvases are not pairs of positive multiples of the divisor.
    """
    if len(flat) % 2 or any(length <= 0 or round_up(length, divisor) != length for length in flat):
        raise UserError(
            f"data.canvases is {tuple(flat)}; give pairs of height and width, each a positive multiple "
            f"of the model's input.pad_divisor {divisor}."
        )
    pairs = set(zip(flat[::2], flat[1::2], strict=True))
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair))


def assign_canvases(extents: np.ndarray, canvases: Sequence[tuple[int, int]]) -> np.ndarray:
    """The smallest canvas that holds each image.

    Args:
        extents: int [N, 2], height and width in pixels.
        canvases: ``(height, width)`` of each, by ascending area.

    Returns:
        int [N], index into ``canvases``; -1 where none is large enough.
    """
    fits = (extents[:, None] <= np.asarray(canvases)[None]).all(axis=-1)  # [N, canvases]
    return np.where(fits.any(axis=1), fits.argmax(axis=1), -1)


class TrainPlan:
    """The order of training: a ``StepPlan`` for every global step.

    An epoch visits every image in use at least once. Images are grouped by canvas, so that
    portrait and landscape do not share a batch; a group's last batch is filled up with other
    images of the group; then the batches of all groups are shuffled. With
    ``data.repeat_threshold`` images of rare classes come several times.

    Args:
        source: The data set (``sizes``, ``object_counts``, ``image_labels``, ``file_names``,
            ``annotations``).
        model: Gives the size rule, the padding divisor and the test size.
        data: Gives the batch size, sizes, flip probability and canvases.
        seed: Seed of the order, the sizes, the flips and the augmentation.

    Attributes:
        canvases: The canvas shapes in use.
        counts: Number of images on each canvas in an epoch.
        steps_per_epoch: Number of global batches in an epoch.

    Raises:
        UserError: No image can be used, or one fits no canvas.
    """

    def __init__(self, source, model: ModelConfig, data: DataConfig, seed: int):
        data.check()
        if not data.batch_size:
            raise UserError(
                "data.batch_size is 0, which a run replaces by the number that fits; give a number of images."
            )
        self._batch, self._flip, self._seed = data.batch_size, data.flip, seed
        used = np.arange(len(source))
        if not data.keep_empty:
            used = np.flatnonzero(np.asarray(source.object_counts) > 0)
        if not len(used):
            raise UserError(
                f"{source.annotations} has no image to train on (of {len(source)}, none has objects); "
                "annotate objects or set data.keep_empty."
            )
        if model.keypoints is not None and model.keypoints.min_per_image:
            used = used[source.counts["keypoint_counts"][used] >= model.keypoints.min_per_image]
            if not len(used):
                raise UserError(
                    f"{source.annotations} has no image with {model.keypoints.min_per_image} annotated "
                    "keypoints or more, so there is nothing to train on; annotate keypoints or lower "
                    "model.keypoints.min_per_image."
                )
        max_size = data.max_size or model.input.test_max_size
        min_sizes = [size or model.input.test_min_size for size in data.min_sizes]
        self._augment = None
        if data.augments:
            self._augment = AugmentPlan(source, model, data, min_sizes, max_size, seed)
        original = np.asarray(source.sizes)[used]
        # [U, scales, 2]; the largest short side gives the largest image under every size rule
        self._sizes = np.stack(
            [resized_sizes(original, m, max_size, model.input.size_rule) for m in min_sizes], axis=1
        )
        extents = round_up(self._sizes.max(axis=1), model.input.pad_divisor)
        if data.quarter_turns:
            extents = np.maximum(extents, extents[:, ::-1])  # turned or not, an image fits its canvas
        if data.jitter_size:
            extents = np.full((len(used), 2), data.jitter_size)  # whatever the scale, one canvas
        self.canvases, group = _group(extents, model, data, [source.file_names[i] for i in used])
        self._used = used
        self._groups = [np.flatnonzero(group == g) for g in range(len(self.canvases))]
        self._factors = source_factors(source, used, data.repeat_threshold, data.repeat_rule)
        self.counts = [
            len(members) if self._factors is None else epoch_length(self._factors[members])
            for members in self._groups
        ]
        self.steps_per_epoch = sum(-(-count // self._batch) for count in self.counts)
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_batches)

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch_batches)

    def _epoch_batches(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Members [steps, B] (positions among the used images) and canvas [steps] of an epoch."""
        rng = np.random.default_rng([self._seed, 0, epoch])
        batches, canvas = [], []
        for g, members in enumerate(self._groups):
            if self._factors is None:
                order = rng.permutation(members)
            else:
                order = repeated(members, self._factors[members], rng)
            count = -(-self.counts[g] // self._batch)
            # np.resize repeats from the start: those images are not in the batch being filled.
            batches.append(np.resize(order, (count, self._batch)))
            canvas += [g] * count
        shuffle = rng.permutation(self.steps_per_epoch)
        return np.concatenate(batches)[shuffle], np.asarray(canvas)[shuffle]

    def __call__(self, step: int) -> StepPlan:
        """The plan of one global step, counted from 0."""
        epoch, position = divmod(int(step), self.steps_per_epoch)
        batches, canvas = self._epoch(epoch)
        members = batches[position]
        rng = np.random.default_rng([self._seed, 1, int(step)])
        scale = rng.integers(self._sizes.shape[1], size=self._batch)
        plan = StepPlan(
            index=self._used[members],
            sizes=self._sizes[members, scale],
            flip=rng.random(self._batch) < self._flip,
            canvas=self.canvases[canvas[position]],
        )
        if self._augment is None:
            return plan
        return plan._replace(augment=self._augment(step, plan.index, scale, plan.flip, plan.canvas))


def eval_plans(source, model: ModelConfig, data: DataConfig) -> list[StepPlan]:
    """Every image once at test size, in batches of one canvas each.

    Args:
        source: The data set.
        model: Gives the size rule, the padding divisor and the test size.
        data: Gives ``eval_batch_size`` and the canvases. Given canvases that do not hold the images at
            test size are replaced by derived ones, which is logged.

    Returns:
        Plans whose last batch per canvas is filled up with index -1.
    """
    if not len(source):
        return []
    sizes = resized_sizes(
        source.sizes, model.input.test_min_size, model.input.test_max_size, model.input.size_rule
    )
    extents = round_up(sizes, model.input.pad_divisor)
    try:
        canvases, group = _group(extents, model, data, source.file_names)
    except UserError as error:
        if not data.canvases:
            raise
        log.info("evaluation derives its own canvases: %s", error)
        canvases = choose_canvases(extents, data.max_canvases)
        group = assign_canvases(extents, canvases)
    plans, batch = [], data.eval_batch_size
    for g, canvas in enumerate(canvases):
        members = np.flatnonzero(group == g)
        for start in range(0, len(members), batch):
            index = np.full(batch, -1, np.int64)
            chosen = members[start : start + batch]
            index[: len(chosen)] = chosen
            batch_sizes = np.zeros((batch, 2), np.int32)
            batch_sizes[: len(chosen)] = sizes[chosen]
            plans.append(StepPlan(index, batch_sizes, np.zeros(batch, bool), canvas))
    return plans


def check_processes(batch_size: int, process_count: int, field: str) -> None:
    """Raises a ``UserError`` unless every process gets an equal share of the global batch."""
    if batch_size % process_count:
        raise UserError(
            f"data.{field} is {batch_size}, which {process_count} processes cannot share equally; make "
            f"it a multiple of {process_count}."
        )


def _group(extents, model: ModelConfig, data: DataConfig, names) -> tuple[list[tuple[int, int]], np.ndarray]:
    if data.canvases:
        canvases = given_canvases(data.canvases, model.input.pad_divisor)
    else:
        canvases = choose_canvases(extents, data.max_canvases)
    group = assign_canvases(extents, canvases)
    too_large = np.flatnonzero(group < 0)
    if len(too_large):
        height, width = extents[too_large[0]]
        raise UserError(
            f"image {names[too_large[0]]} needs a canvas of {height} x {width} (height x width) and "
            f"data.canvases has none that large; add one, or leave data.canvases empty ({len(too_large)} "
            "images do not fit)."
        )
    return canvases, group
