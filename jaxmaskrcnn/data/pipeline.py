"""Batches for training and evaluation, loaded ahead by Grain."""

import logging
import weakref
from collections.abc import Iterator

import grain
import jax
import numpy as np
from absl import flags

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data import sampler
from jaxmaskrcnn.data.augment import mosaic
from jaxmaskrcnn.data.load_batch import LoadBatch
from jaxmaskrcnn.data.records.source import Source
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Batch

log = logging.getLogger(__name__)

_END = 2**40  # steps; practically endless, as a Grain range needs an end


class _LoadStep:
    """Loads this process's part of the batch of a given step."""

    def __init__(self, plan: sampler.TrainPlan, load: LoadBatch, process_index: int, process_count: int):
        self._plan, self._load = plan, load
        self._process = process_index, process_count

    def __call__(self, step: int) -> Batch:
        plan = self._plan(step)
        return self._load(plan.part(*self._process), plan)


class TrainIterator:
    """Endless training batches from a given step on, loaded ahead by a Grain pipeline.

    Its state is the number of the next step and nothing else, so it can be restored with another
    number of threads or processes, on another machine, and into another batch size's run.

    Attributes:
        plan: The order of the data; ``plan.steps_per_epoch``, ``plan.canvases``.
        max_objects: Ground-truth slots per image.
    """

    def __init__(
        self, load: _LoadStep, plan: sampler.TrainPlan, data: DataConfig, max_objects: int, step: int
    ):
        self.plan, self.max_objects = plan, max_objects
        self._load, self._data, self._step = load, data, step
        self._iterator = None

    def __iter__(self) -> "TrainIterator":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._start()
            # Workers left running when the interpreter exits make it hang or print tracebacks.
            self._stop = weakref.finalize(self, self._iterator.close)
        batch = next(self._iterator)
        if self._data.processes > 0:
            # Workers hand batches over in shared memory, which should not outlive the workers.
            batch = jax.tree.map(np.array, batch)
        self._step += 1
        return batch

    def _start(self):
        data = self._data
        threads, processes = max(data.threads, 0), max(data.processes, 0)
        steps = grain.MapDataset.range(self._step, _END).map(self._load)
        if not processes:
            # Whole batches are loaded in parallel: fewer in flight than threads would idle threads.
            ahead = max(data.prefetch, threads) if threads else 0
            return iter(steps.to_iter_dataset(grain.ReadOptions(threads, ahead)))
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags, which a library has not parsed
        ahead = max(data.prefetch // processes, 1)
        options = grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=ahead)
        return iter(steps.to_iter_dataset(grain.ReadOptions(1, 1)).mp_prefetch(options))

    def get_state(self) -> dict[str, int]:
        """The position: ``{"step": number of the step that comes next}``."""
        return {"step": self._step}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues with the step that a state from ``get_state`` names."""
        self.close()
        self._step = int(state["step"])

    def close(self) -> None:
        """Stops the workers; the next batch starts new ones."""
        if self._iterator is not None:
            self._stop()
            self._iterator = None


def train_iterator(
    source: Source,
    model_config: ModelConfig,
    data_config: DataConfig,
    *,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainIterator:
    """Endless, shuffled, augmented training batches on the host.

    Args:
        source: From ``prepare``.
        model_config: Gives the resizing, the padding divisor, the size rule and whether there is a mask head.
        data_config: Gives the batch size, scales, flips, canvases and workers.
        seed: Seed of the order and the augmentation.
        start_step: Global step that the first batch is for.
        process_index: This process's number.
        process_count: Number of processes; each gets ``batch_size / process_count`` images of
            every global batch.

    Returns:
        An iterator of ``Batch`` (NumPy), with ``get_state``, ``set_state`` and ``close``.

    Raises:
        UserError: The data set and the configuration do not match.

    Example:
        >>> from jaxmaskrcnn.data import prepare, write_shapes
        >>> from jaxmaskrcnn.zoo.lookup import model_config
        >>> source = prepare(*write_shapes("data", 10, 64, seed=0), "cache")
        >>> data = DataConfig(batch_size=2, min_sizes=(96, 128), max_size=128)
        >>> batches = train_iterator(source, model_config("jaxmaskrcnn/shapes"), data, seed=0)
        >>> next(batches).images.shape
        (2, 128, 128, 3)
        >>> batches.close()
    """
    sampler.check_processes(data_config.batch_size, process_count, "batch_size")
    _check_labels(source, model_config)
    if model_config.mask is not None and not source.has_masks:
        raise UserError(
            f"{source.annotations} was prepared without masks; prepare it with masks, or train without "
            "the mask head (--config.model.mask=none)."
        )
    check_skeleton(source, model_config)
    if data_config.device_resize and model_config.input.resize_kernel == "skimage":
        raise UserError(
            "data.device_resize is True, but the device has no input.resize_kernel 'skimage'; set "
            "data.device_resize to False."
        )
    plan = sampler.TrainPlan(source, model_config, data_config, seed)
    objects = _object_slots(source, data_config)
    if data_config.device_resize and process_count > 1 and not data_config.exact_decode:
        raise UserError(
            "data.device_resize and data.exact_decode=False can be combined in one process only, and there "
            f"are {process_count}, which do not know each other's decoded sizes; leave one of them out."
        )
    load = LoadBatch(
        source, model_config, objects, augmented=data_config.cuts_objects, exact=data_config.exact_decode,
        raw=data_config.device_resize,
    )  # fmt: skip
    load = _LoadStep(plan, load, process_index, process_count)
    return TrainIterator(load, plan, data_config, objects, start_step)


class EvalBatches:
    """Every image of a source once, at test size; can be iterated repeatedly.

    Attributes:
        plans: The plan of each global batch.
    """

    def __init__(self, load: LoadBatch, plans: list[sampler.StepPlan], parts, data: DataConfig):
        self.plans, self._parts, self._load, self._data = plans, parts, load, data

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        if not self._parts:
            return
        threads = max(self._data.threads, 1)
        ahead = max(self._data.prefetch, threads)
        steps = grain.MapDataset.source(self._parts).map(self._load)
        iterator = iter(steps.to_iter_dataset(grain.ReadOptions(threads, ahead)))
        try:
            yield from iterator
        finally:
            iterator.close()


def eval_batches(
    source: Source,
    model_config: ModelConfig,
    data_config: DataConfig,
    *,
    process_index: int = 0,
    process_count: int = 1,
    targets: bool = False,
) -> EvalBatches:
    """Batches that visit every image exactly once.

    Each process gets as many batches as the others, on the same canvases, so that all run the same
    steps. Rows that only fill up a batch have ``valid`` False and ``index`` -1.

    Args:
        source: From ``prepare``.
        model_config: Gives the resizing, the padding divisor and the test size.
        data_config: ``eval_batch_size`` (over all processes), canvases, threads.
        process_index: This process's number.
        process_count: Number of processes.
        targets: Whether to load the objects, for losses.

    Returns:
        An iterable of ``Batch`` (NumPy) with a length; ``index`` refers to the source.
    """
    sampler.check_processes(data_config.eval_batch_size, process_count, "eval_batch_size")
    plans = sampler.eval_plans(source, model_config, data_config)
    parts = [plan.part(process_index, process_count) for plan in plans]
    objects = _object_slots(source, data_config) if targets else None
    return EvalBatches(LoadBatch(source, model_config, objects), plans, parts, data_config)


def _check_labels(source: Source, model_config: ModelConfig) -> None:
    if len(source.categories) > model_config.num_classes:
        raise UserError(
            f"{source.annotations} has {len(source.categories)} categories but the model's num_classes is "
            f"{model_config.num_classes}; set model.num_classes to {len(source.categories)}."
        )


def check_skeleton(source: Source, model_config: ModelConfig) -> None:
    """Checks that a model can learn the keypoints of a data set.

    Args:
        source: The data set.
        model_config: The model's configuration.

    Raises:
        UserError: The model has a keypoint head and the objects have no keypoints, or another number of them.
    """
    if model_config.keypoints is None:
        return
    count, found = len(model_config.keypoints.points), source.skeleton
    if found is None:
        raise UserError(
            f"{source.annotations} has no keypoints, or was prepared without; add keypoints to the "
            "annotations and their names to 'categories', or train without the keypoint head "
            "(--config.model.keypoints=none)."
        )
    if len(found.points) != count:
        raise UserError(
            f"the objects of {source.annotations} have {len(found.points)} keypoints and the model {count}; "
            "set model.keypoints.points to the names of the data's keypoints."
        )


def _object_slots(source: Source, data_config: DataConfig) -> int:
    counts = np.asarray(source.object_counts) + np.asarray(source.crowd_counts)
    if data_config.mosaic:
        counts = counts + (mosaic.COUNT - 1) * counts.max(initial=0)
    if data_config.copy_paste:
        counts = counts + np.asarray(source.object_counts).max(initial=0)
    largest = int(counts.max(initial=0))
    if not data_config.max_objects:
        slots = round_up(max(largest, 1), 4)
        log.info("ground-truth slots per image: %d (at most %d objects in an image)", slots, largest)
        return slots
    crowded = int((counts > data_config.max_objects).sum())
    if crowded:
        log.warning(
            "%d images of %s have more than data.max_objects=%d objects (up to %d); the largest are kept",
            crowded,
            source.annotations,
            data_config.max_objects,
            largest,
        )
    return data_config.max_objects
