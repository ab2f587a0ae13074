"""Reports what a run would do without training: data, schedule, canvases, and one compiled step."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxmaskrcnn.config import Config, OptimizerConfig
from jaxmaskrcnn.data import Source
from jaxmaskrcnn.data.sampler import TrainPlan, eval_plans
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Batch
from jaxmaskrcnn.training.run_config import check_no_model, check_resumable
from jaxmaskrcnn.training.setup import make_setup
from jaxmaskrcnn.training.stored_workdir import settings_folder
from jaxmaskrcnn.utils.random_keys import random_key

_CLASSES = 40  # lines of the table


class Compiled(NamedTuple):
    """A compiled step, with its cost.

    Attributes:
        seconds: Time that the compilation took.
        state: Bytes of the arguments: parameters, optimizer state and one batch. None if the backend does
            not report memory.
        temporary: Bytes that the step needs in addition, or None likewise.
        executable: The compiled step, called like the step.
    """

    seconds: float
    state: int | None
    temporary: int | None
    executable: Callable | None = None


def dry_run(
    config: Config, workdir, *, model: MaskRCNN | None = None, compiler: Callable | None = None
) -> str:
    """Check everything that can be checked before the first step; nothing is written to ``workdir``.

    Args:
        config: The run's settings.
        workdir: The run's folder or its address in a store, which need not exist. Records go into
            ``data.cache_dir`` if that is set, and are kept there; otherwise into a temporary folder.
        model: Starts from this model instead of ``model.weights``.
        compiler: Called instead of `compile_step`, with the same arguments.

    Returns:
        The report, several lines.

    Raises:
        UserError: A problem that would end the run before its first step.

    Example:
        >>> print(dry_run(get_config(), "runs/shapes"))  # doctest: +SKIP
    """
    config.check()
    workdir = settings_folder(workdir, "the workdir")
    check_no_model(workdir)
    with tempfile.TemporaryDirectory(prefix="jaxmaskrcnn-", ignore_cleanup_errors=True) as temporary:
        setup = make_setup(config, workdir, data_directory=Path(temporary), model=model)
        check_resumable(workdir, setup.model_config, setup.config)
        batches = setup.batches()
        plan = batches.plan
        evaluation = eval_plans(setup.eval_source, setup.model_config, config.data)
        largest = max(range(plan.steps_per_epoch), key=lambda step: np.prod(plan(step).canvas))
        batches.set_state({"step": largest})
        batch = next(batches)
        batches.close()
        key = setup.layout.replicate(random_key(config.train.seed))
        compiled = (compiler or compile_step)(
            setup.make_step(), setup.take_state(), setup.layout.place_batch(batch), key
        )
    before = "a run to continue" if (workdir / "run.json").exists() else "nothing yet"
    statements = dict.fromkeys(setup.train_source.statements() + setup.eval_source.statements())
    lines = [f"Note: {sentence}." for sentence in statements] + [""] * bool(statements)
    lines += [f"Workdir: {workdir} ({before}); this dry run writes nothing there.", ""]
    lines += schedule_lines(setup.config, setup.schedule, plan.steps_per_epoch)
    lines += ["", *_canvas_lines(plan, batches.max_objects, {p.canvas for p in evaluation})]
    lines += ["", *class_lines(setup.train_source, setup.eval_source)]
    height, width = batch.images.shape[1:3]
    images = f"{setup.config.data.batch_size} images of {height} x {width}"
    lines += ["", f"One step with {images}: {_describe(compiled)}"]
    return "\n".join(lines)


def compile_step(step, state, batch: Batch, key: jax.Array | None = None) -> Compiled:
    """Compile a train step without running it.

    Args:
        step: A step from ``make_train_step``.
        state: State of the step.
        batch: A batch; only its shapes matter.
        key: The run's key. If it is placed as in a run, the run finds the compiled step in the disk cache.
    """
    start = time.monotonic()
    compiled = step.lower(state, batch, jax.random.key(0) if key is None else key).compile()
    seconds = time.monotonic() - start
    memory = compiled.memory_analysis()
    if memory is None:
        return Compiled(seconds, None, None, compiled)
    return Compiled(seconds, memory.argument_size_in_bytes, memory.temp_size_in_bytes, compiled)


def _describe(compiled: Compiled) -> str:
    text = f"compiled in {compiled.seconds:.1f} s"
    if compiled.state is not None:
        text += (
            f"; {compiled.state / 2**20:.0f} MiB of state and batch, "
            f"{compiled.temporary / 2**20:.0f} MiB more while it runs"
        )
    return f"{text}."


def interesting_steps(config: OptimizerConfig, steps: int) -> list[int]:
    """The numbers of completed steps at which a schedule begins, changes and ends.

    Example:
        >>> interesting_steps(OptimizerConfig(warmup_steps=10, decay_steps=(60,)), 90)
        [0, 10, 59, 60, 89]
    """
    found = {0, config.warmup_steps, steps - 1}
    if config.schedule == "step":
        found |= {step - k for step in config.decay_steps for k in (0, 1)}
    elif config.schedule != "constant":
        found |= {steps * k // 4 for k in (1, 2, 3)}
    return sorted(step for step in found if 0 <= step < steps)


def schedule_lines(config: Config, schedule: Callable, steps_per_epoch: int) -> list[str]:
    """The learning rate at the steps where it changes, and the length of the run in epochs.

    Args:
        config: Configuration of the run.
        schedule: Learning rate by completed steps.
        steps_per_epoch: Number of steps in an epoch of the training plan.
    """
    steps = config.train.steps
    lines = [
        f"Schedule: {steps} steps of {config.data.batch_size} images, "
        f"{steps / steps_per_epoch:.2f} epochs of {steps_per_epoch} steps.",
        f"{'step':>10}  {'epoch':>8}  learning rate",
    ]
    lines += [
        f"{step:10d}  {step / steps_per_epoch:8.2f}  {float(schedule(step)):.6g}"
        for step in interesting_steps(config.optimizer, steps)
    ]
    return lines


def _canvas_lines(plan: TrainPlan, objects: int, evaluation: set[tuple[int, int]]) -> list[str]:
    lines = [f"Canvases (height x width), with {objects} ground-truth slots per image:"]
    lines += [
        f"{height:6d} x {width:<6d} {count} images per epoch"
        for (height, width), count in zip(plan.canvases, plan.counts, strict=True)
    ]
    return [*lines, "  evaluation: " + ", ".join(f"{h} x {w}" for h, w in sorted(evaluation))]


def class_lines(train: Source, evaluation: Source) -> list[str]:
    """The number of images with an object of each class, the rarest class first.

    Args:
        train: Training data.
        evaluation: Evaluation data.
    """
    counts = np.bincount(train.learned_labels[:, 1], minlength=len(train.categories))
    eval_counts = np.bincount(evaluation.learned_labels[:, 1], minlength=len(evaluation.categories))
    by_id = {category.id: eval_counts[i] for i, category in enumerate(evaluation.categories)}
    order = np.argsort(counts, kind="stable")
    lines = ["Images with each class:", f"{'train':>8}  {'eval':>8}  class"]
    for i in order[:_CLASSES]:
        category = train.categories[i]
        none = "  (no training data)" if not counts[i] else ""
        lines.append(f"{counts[i]:8d}  {by_id.get(category.id, 0):8d}  {category.name}{none}")
    if len(order) > _CLASSES:
        lines.append(f"  and {len(order) - _CLASSES} classes with {counts[order[_CLASSES]]} images or more")
    return lines
