"""A training run, from its configuration to its last evaluation.

A workdir holds ``config.json`` (the model), ``run.json`` (every setting), ``checkpoints/``,
``metrics.jsonl``, ``best/`` and ``model/`` (model directories), ``pictures/``, and
``detections.json`` and ``metrics.json`` of the last evaluation.
"""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.config import Config
from jaxmaskrcnn.data import prefetch_to_device
from jaxmaskrcnn.evaluation.evaluate import Stopped
from jaxmaskrcnn.models.precision import check_precision
from jaxmaskrcnn.parallel.processes import is_first
from jaxmaskrcnn.training.evaluations import Evaluations, model_of
from jaxmaskrcnn.training.first_weights import fixed_at_random
from jaxmaskrcnn.training.lock import hold_workdir
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.nonfinite import NonFinite, RollBack, position_after
from jaxmaskrcnn.training.profiling import Profile
from jaxmaskrcnn.training.progress import Progress
from jaxmaskrcnn.training.run_config import all_settings, check_no_model, write_settings
from jaxmaskrcnn.training.setup import Setup, make_setup
from jaxmaskrcnn.training.step import State
from jaxmaskrcnn.training.stopping import StopRequest, stop_request
from jaxmaskrcnn.training.stored_workdir import opened_workdir
from jaxmaskrcnn.training.trackers.tracker import open_trackers
from jaxmaskrcnn.utils.checksums import with_checksum
from jaxmaskrcnn.utils.compilation_cache import release_after_compiling
from jaxmaskrcnn.utils.files import check_storable, write_json
from jaxmaskrcnn.utils.random_keys import random_key

log = logging.getLogger(__name__)


def train_and_evaluate(config: Config, workdir) -> dict:
    """Train, evaluate and save the model; continue where a run in ``workdir`` stopped.

    Args:
        config: The run's settings.
        workdir: The run's folder, created when missing; or an address in a store (``gs://``, ``s3://``), to
            which what the run writes is sent, see `stored_workdir`.

    Returns:
        The metrics of the last evaluation (``box_AP``, ``mask_AP``, ... in 0..1); empty if SIGTERM or SIGHUP
        ended the run before that.

    Raises:
        KeyboardInterrupt: Ctrl-C (SIGINT) ended the run; its state is saved, as it is after SIGTERM.
        UserError: A setting, a file or the workdir's earlier run does not fit.
        NonFiniteLossError: A UserError that names the step and the images of its batch.

    Example:
        >>> metrics = train_and_evaluate(get_config(), "runs/shapes")  # doctest: +SKIP
    """
    config.check()
    check_precision(config.model.architecture)
    with opened_workdir(workdir, "the workdir") as opened:
        check_storable(opened)
        folder = Path(os.path.abspath(opened))  # wherever the process goes later, as Orbax does too
        check_no_model(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with (
            hold_workdir(folder),
            Checkpoints(folder, keep=config.train.keep_checkpoints) as checkpoints,
        ):
            setup = make_setup(config, folder, resuming=checkpoints.latest is not None)
            return train(setup, checkpoints)


def train(setup: Setup, checkpoints: Checkpoints, step_function: Callable | None = None) -> dict:
    """Trains from the latest checkpoint, or else from the setup's state, to the end of the run.

    Args:
        setup: From `make_setup`; its first state is donated.
        checkpoints: Checkpoints of the run's workdir.
        step_function: ``(state, batch, key) -> (state, metrics)``; by default ``setup.make_step()``.

    Returns:
        The metrics of the last evaluation; empty if SIGTERM or SIGHUP ended the run before that.

    Raises:
        KeyboardInterrupt: Ctrl-C (SIGINT) ended the run, after its state was saved.
        NonFiniteLossError: A step's loss or gradient is not finite, and ``train.on_nonfinite`` is "stop".
    """
    config, workdir, layout = setup.config.train, setup.workdir, setup.layout
    train_step = release_after_compiling(step_function or setup.make_step())
    batches = prefetch_to_device(setup.batches(), device=layout.place_batch)
    state = setup.take_state()
    continued = checkpoints.latest is not None
    if continued:
        state = checkpoints.restore(state, batches, strict=config.strict_resume)
        log.info("Continuing from step %d in %s.", checkpoints.latest, workdir)
    key = layout.replicate(random_key(config.seed))
    step = int(state["step"])
    if continued and config.steps <= step:
        log.warning(
            "The run in %s has ended: %d of %d steps are done, and nothing is trained. Set train.steps to a "
            "larger number to go on, or give another --workdir for a new run.", workdir, step, config.steps,
        )  # fmt: skip
    if is_first():
        model_json = json.loads(model_directory.config_to_json(setup.model_config))
        write_json(workdir / "config.json", with_checksum(model_json), indent=1, durable=True)
        write_settings(workdir, setup.model_config, setup.config, continued=continued)
    names = (*config.trackers, *(("tensorboard",) if config.tensorboard else ()))
    settings = all_settings(setup.model_config, setup.config)
    cause = fixed_at_random(setup.config.model.weights, setup.model_config)
    trackers = open_trackers(names, workdir, step, settings) if is_first() else ()
    with (
        MetricsWriter(workdir, step=step, trackers=trackers, write=is_first()) as writer,
        contextlib.closing(batches),
        stop_request() as request,
        Profile(workdir, config.profile_steps) as profile,
        Progress(writer, setup.config, NonFinite(config, workdir, setup.train_source, cause)) as progress,
    ):
        evaluations = Evaluations(setup, writer)
        if config.on_nonfinite == "rollback" and checkpoints.latest is None:
            checkpoints.save(state, batches)  # so that there is a checkpoint to go back to
        # If the run was stopped between a checkpoint and its evaluation, the evaluation is done now.
        if evaluations.is_due(step):
            try:
                evaluations.run(step, state, request.at_once)
            except Stopped:
                return _stopped(request, step)
        while step < config.steps and not evaluations.out_of_patience():
            step += 1
            profile.before(step)
            batch = progress.next_batch(batches)
            try:
                with progress.compiling(batch):
                    state, metrics = train_step(state, batch, key)
                profile.after(step, state)
                progress.step(step, batch.index, metrics)
                stop = request.after(step)
                if stop or step == config.steps or step % config.checkpoint_every == 0:
                    progress.flush()  # so that no state is saved after a non-finite step
                    with progress.pause():
                        checkpoints.save(state, batches)
                if stop:
                    return _stopped(request, step)
                if evaluations.is_due(step):
                    progress.flush()
                    with progress.pause():
                        evaluations.run(step, state, request.at_once)
                        if evaluations.out_of_patience():
                            checkpoints.save(state, batches)
            except Stopped:
                checkpoints.save(state, batches)  # the evaluation is done when the run goes on
                return _stopped(request, step)
            except RollBack as bad:
                state = _roll_back(checkpoints, state, batches, step, bad.step)
                step = int(state["step"])
                progress.rewind(step)
        if step < config.steps:
            log.info(
                "Ended after step %d: the last %d evaluations were no better (train.patience).",
                step, config.patience,
            )  # fmt: skip
        model_directory.save_model(model_of(setup, state), workdir / "model")
        log.info("The model is in %s, the best one in %s.", workdir / "model", workdir / "best")
    # All processes wait in save_model for the first one, which has written this file by then.
    return json.loads((workdir / "metrics.json").read_text(encoding="utf-8"))


def _stopped(request: StopRequest, step: int) -> dict:
    """Ends a run that was asked to stop, once its state is being saved."""
    log.info("Stopped by %s after step %d; the same command continues.", request.name, step)
    if request.signal == signal.SIGINT:
        raise KeyboardInterrupt
    return {}


def _roll_back(checkpoints: Checkpoints, state: State, batches, step: int, bad_step: int) -> State:
    """Restores the latest checkpoint; the data continue after the batch that was not finite."""
    position = position_after(batches.get_state(), step, bad_step)
    state = checkpoints.restore(state, batches)
    batches.set_state(position)
    log.info("Continuing from step %d with the data of step %d.", state["step"], position["step"] + 1)
    return state
