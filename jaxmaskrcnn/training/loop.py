"""A training run from its config to its last evaluation.

A workdir holds ``config.json`` (the model), ``run.json`` (every setting), ``checkpoints/``,
``metrics.jsonl``, ``best/`` and ``model/`` (model directories), ``pictures/``, and
``detections.json`` and ``metrics.json`` of the last evaluation.
"""

import contextlib
import json
import logging
import time
from pathlib import Path

import jax
from flax import nnx

from jaxmaskrcnn import model_io
from jaxmaskrcnn.compilation_cache import release_after_compiling
from jaxmaskrcnn.config import Config, ConfigError, ModelConfig
from jaxmaskrcnn.data import Source, prefetch_to_device, train_iterator
from jaxmaskrcnn.evaluation.coco import format_metrics
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.files import write_json
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN, init_model, trainable
from jaxmaskrcnn.training.checkpoints import Checkpoints
from jaxmaskrcnn.training.distributed import is_first, stop_request
from jaxmaskrcnn.training.early_stopping import score, since_best
from jaxmaskrcnn.training.ema import weights_to_use
from jaxmaskrcnn.training.groups import check_freeze
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.nonfinite import NonFinite, RollBack, check_policy, position_behind
from jaxmaskrcnn.training.optimizer import learning_rate, make_optimizer
from jaxmaskrcnn.training.parallel import Layout, make_train_step
from jaxmaskrcnn.training.pictures import draw_pictures
from jaxmaskrcnn.training.progress import Progress
from jaxmaskrcnn.training.run_config import check_resumable, to_model_config, write_settings
from jaxmaskrcnn.training.setup import first_model, prepare_sources
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.training.validation_loss import ValidationLoss

log = logging.getLogger(__name__)


def train_and_evaluate(config: Config, workdir) -> dict:
    """Train, evaluate, and leave a model behind; continue where a run in ``workdir`` stopped.

    Args:
        config: The run's settings.
        workdir: Its folder; created when missing.

    Returns:
        The metrics of the last evaluation (``box_AP``, ``mask_AP``, ... in 0..1); empty where a
        SIGTERM ended the run before.

    Raises:
        UserError: A setting, a file or the workdir's earlier run does not fit.
        NonFiniteLossError: A UserError that names the step and the images of its batch.

    Example:
        >>> metrics = train_and_evaluate(get_config(), "runs/shapes")  # doctest: +SKIP
    """
    check_run(config)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    train_source, eval_source = prepare_sources(config, workdir)
    model_config = to_model_config(config.model, train_source.categories)
    with Checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints:
        run = _Run(config, model_config, workdir, checkpoints, train_source, eval_source)
        return run.run()


class _Run:
    """What the parts of a run share."""

    def __init__(
        self,
        config: Config,
        model_config: ModelConfig,
        workdir: Path,
        checkpoints: Checkpoints,
        train_source: Source,
        eval_source: Source,
    ):
        self.config, self.model_config, self.workdir = config, model_config, workdir
        self.checkpoints, self.train_source, self.eval_source = checkpoints, train_source, eval_source
        resuming = checkpoints.latest is not None
        if resuming:
            check_resumable(workdir, model_config, config)
        self.layout = Layout(config.train.parallel)
        self.layout.check_batch(config.data.batch_size)
        device = self.layout.devices[0]
        log.info(
            "Device: %s (%s)%s.", device.device_kind, device.platform,
            f", {self.layout.mesh.size} of them, by {self.layout.kind}" if self.layout.mesh.size > 1 else "",
        )  # fmt: skip
        self.schedule = learning_rate(config.optimizer, config.data.batch_size, config.train.steps)
        if resuming:
            model = init_model(model_config, config.train.seed)
        else:
            model = first_model(model_config, config.model.weights, config.train.seed)
        check_freeze(model, config.optimizer.freeze)
        self.graphdef, self.optimizer, self.state = init_state(
            model,
            trainable(model, tuple(config.optimizer.freeze)),
            lambda params: make_optimizer(config.optimizer, self.schedule, params, model_config),
        )
        # Bound to the device as a restored state is: else a resumed run's programs would differ from
        # a fresh run's, and compile again.
        self.state = self.layout.replicate(self.state)
        trained, fixed = (
            sum(x.size for x in jax.tree.leaves(self.state[name])) / 1e6 for name in ("params", "rest")
        )
        log.info("Model: %.2f million numbers are trained, %.2f million are fixed.", trained, fixed)
        # Made before training, so that annotations that do not fit are found now.
        self.evaluator = Evaluator(
            model_config, self.graphdef, eval_source, config.data, layout=self.layout, progress=is_first()
        )
        self.validation = None
        if config.train.eval_loss:
            self.validation = ValidationLoss(model_config, self.graphdef, eval_source, config.data)
        batches = train_iterator(
            train_source, model_config, config.data, seed=config.train.seed,
            process_index=jax.process_index(), process_count=jax.process_count(),
        )  # fmt: skip
        self.batches = prefetch_to_device(batches, device=self.layout.place_batch)
        if resuming:
            self.state = checkpoints.restore(self.state, self.batches)
            log.info("Continuing from step %d in %s.", checkpoints.latest, workdir)
        self.start = int(self.state["step"])
        if is_first():
            write_json(workdir / "config.json", json.loads(model_io.config_to_json(model_config)), indent=1)
            write_settings(workdir, model_config, config)

    def run(self) -> dict:
        train = self.config.train
        step_fn = release_after_compiling(make_train_step(
            self.graphdef, self.optimizer, self.schedule, self.layout,
            batch_size=self.config.data.batch_size, device_batch=train.device_batch,
        ))  # fmt: skip
        key = self.layout.replicate(jax.random.key(train.seed))
        with (
            MetricsWriter(
                self.workdir, step=self.start, tensorboard=train.tensorboard, write=is_first()
            ) as self.writer,
            contextlib.closing(self.batches),
            stop_request() as is_to_stop,
        ):
            progress = Progress(self.writer, self.config, NonFinite(train, self.workdir, self.train_source))
            if train.on_nonfinite == "rollback" and self.checkpoints.latest is None:
                self.checkpoints.save(self.state, self.batches)  # something to go back to
            # A run that was stopped between a checkpoint and its evaluation makes up for it.
            if self._evaluation_is_due(self.start):
                self._evaluate(self.start)
            step = self.start
            while step < train.steps and not self._out_of_patience():
                step += 1
                batch = progress.next_batch(self.batches)
                try:
                    with progress.compiling(batch):
                        self.state, metrics = step_fn(self.state, batch, key)
                    progress.step(step, batch.index, metrics)
                    stop = is_to_stop(step)
                    if stop or step == train.steps or step % train.checkpoint_every == 0:
                        progress.flush()  # what is saved has been looked at
                        with progress.pause():
                            self.checkpoints.save(self.state, self.batches)
                    if stop:
                        log.info("Stopped by SIGTERM after step %d; the same command continues.", step)
                        return {}
                    if self._evaluation_is_due(step):
                        progress.flush()
                        with progress.pause():
                            self._evaluate(step)
                            if self._out_of_patience():
                                self.checkpoints.save(self.state, self.batches)
                except RollBack as bad:
                    step = self._roll_back(step, bad.step)
                    progress.rewind(step)
            if step < train.steps:
                log.info(
                    "Ended after step %d: the last %d evaluations were no better (train.patience).",
                    step, train.patience,
                )  # fmt: skip
            model_io.save_model(self._model(), self.workdir / "model")
            log.info("The model is in %s, the best one in %s.", self.workdir / "model", self.workdir / "best")
        # The first process has written it before the others got past the saved model.
        return json.loads((self.workdir / "metrics.json").read_text(encoding="utf-8"))

    def _roll_back(self, step: int, bad_step: int) -> int:
        """Go back to the latest checkpoint, with the data from behind the bad batch on."""
        position = position_behind(self.batches.get_state(), step, bad_step)
        self.state = self.checkpoints.restore(self.state, self.batches)
        self.batches.set_state(position)
        log.info(
            "Continuing from step %d with the data of step %d.", self.state["step"], position["step"] + 1
        )
        return int(self.state["step"])

    def _model(self) -> MaskRCNN:
        return nnx.merge(self.graphdef, weights_to_use(self.state), self.state["rest"])

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and since_best(self.writer.evaluations) >= patience

    def _evaluation_is_due(self, step: int) -> bool:
        train = self.config.train
        regular = train.eval_every and step and step % train.eval_every == 0
        return bool(regular or step == train.steps) and step not in self.writer.evaluations

    def _evaluate(self, step: int) -> None:
        """Score the model, keep it if it is the best so far, and draw some pictures."""
        start = time.monotonic()
        metrics, detections = self.evaluator.run(weights_to_use(self.state), self.state["rest"])
        seconds = time.monotonic() - start
        scores = ", ".join(
            f"{name} AP {metrics[f'{name}_AP'] or 0.0:.3f}"
            for name in ("box", "mask")
            if f"{name}_AP" in metrics
        )
        log.info("Evaluation after step %d in %.1f s: %s.", step, seconds, scores)
        losses = (
            self.validation.run(weights_to_use(self.state), self.state["rest"]) if self.validation else {}
        )
        if losses:
            log.info("Loss over the evaluation data after step %d: %.3f.", step, losses["loss"])
        if step == self.config.train.steps:
            log.info("%s", format_metrics(metrics))
        best = max((score(line, "eval/") for line in self.writer.evaluations.values()), default=-1.0)
        if score(metrics) > best:
            model_io.save_model(self._model(), self.workdir / "best")
        if is_first():
            write_json(self.workdir / "detections.json", detections)
            write_json(self.workdir / "metrics.json", metrics, indent=1)
            draw_pictures(
                self.workdir / "pictures", self.eval_source, detections,
                self.evaluator.categories, self.config.train.pictures,
            )  # fmt: skip
        # Last, because this line says that the evaluation of this step is complete.
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) or v is None} | losses
        self.writer.write(step, {f"eval/{k}": v for k, v in numbers.items()})


def check_run(config: Config) -> None:
    """Refuse settings of ``config.train`` that cannot work.

    Raises:
        ConfigError: Names the field.
    """
    for field, least in (
        ("steps", 0), ("log_every", 1), ("eval_every", 0), ("checkpoint_every", 1), ("keep_checkpoints", 1),
        ("pictures", 0), ("patience", 0), ("device_batch", 0),
    ):  # fmt: skip
        value = getattr(config.train, field)
        if value < least:
            raise ConfigError(f"train.{field} is {value}; it is at least {least}.")
    if config.train.patience and not config.train.eval_every:
        raise ConfigError("train.patience counts evaluations, but train.eval_every is 0; set both.")
    check_policy(config.train)
