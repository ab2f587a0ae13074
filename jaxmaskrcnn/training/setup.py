"""Makes all parts of a run before its first step; a dry run uses the same setup."""

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from jaxmaskrcnn.checkpoints.fit import check_fits_config
from jaxmaskrcnn.config import Config, DataConfig, ModelConfig
from jaxmaskrcnn.convert.choice import count_classes
from jaxmaskrcnn.data import (
    Source,
    prepare,
    train_iterator,
    write_figures,
    write_landscapes,
    write_shapes,
)
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.holding_out import hold_out
from jaxmaskrcnn.data.records.joined import JoinedSource
from jaxmaskrcnn.data.repeat_factors import class_image_counts
from jaxmaskrcnn.data.stored import local_data
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import zero_model
from jaxmaskrcnn.models.precision import check_precision
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.parallel.processes import is_first
from jaxmaskrcnn.training.batch_size import with_batch_size
from jaxmaskrcnn.training.compiled_step import check_compile_sooner, make_train_step
from jaxmaskrcnn.training.epochs import steps_of_epochs
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.training.groups import check_freeze
from jaxmaskrcnn.training.optimizer import learning_rate, make_optimizer
from jaxmaskrcnn.training.run_config import check_resumable, pixel_config, to_model_config
from jaxmaskrcnn.training.step import State, init_state
from jaxmaskrcnn.training.validation_loss import ValidationLoss
from jaxmaskrcnn.utils.addresses import local_path

log = logging.getLogger(__name__)

_WRITERS = {"shapes": write_shapes, "figures": write_figures, "landscapes": write_landscapes}


@dataclasses.dataclass
class Setup:
    """The parts of a run.

    Attributes:
        config: Every setting.
        model_config: Configuration of the model, with the training data's categories.
        workdir: The run's folder.
        train_source: Training data, of one json or several.
        eval_source: Evaluation data.
        layout: The devices, and how they share a batch.
        schedule: Learning rate by step.
        graphdef: The model's structure.
        optimizer: Optimizer of the parameters that are trained.
        state: The first state, placed on the devices; None after `take_state`.
        evaluator: Scores the model on the evaluation data.
        validation: Computes the losses over the evaluation data; None unless ``train.eval_loss``.
    """

    config: Config
    model_config: ModelConfig
    workdir: Path
    train_source: Source | JoinedSource
    eval_source: Source
    layout: Layout
    schedule: optax.Schedule
    graphdef: nnx.GraphDef
    optimizer: optax.GradientTransformation
    state: State | None
    evaluator: Evaluator
    validation: ValidationLoss | None

    def take_state(self) -> State:
        """Returns the first state and drops it, so that its memory is freed when another is restored."""
        state, self.state = self.state, None
        return state

    def batches(self) -> Any:
        """The training batches of this process, on the host, from the first step on."""
        return train_iterator(
            self.train_source, self.model_config, self.config.data, seed=self.config.train.seed,
            process_index=jax.process_index(), process_count=jax.process_count(),
        )  # fmt: skip

    def make_step(self) -> Callable:
        """The training step, see `make_train_step`; not compiled yet."""
        return make_train_step(
            self.graphdef, self.optimizer, self.schedule, self.layout,
            batch_size=self.config.data.batch_size, device_batch=self.config.train.device_batch,
            compile_sooner=self.config.train.compile_sooner,
        )  # fmt: skip


def make_setup(
    config: Config,
    workdir: Path,
    *,
    resuming: bool = False,
    data_directory: Path | None = None,
    model: MaskRCNN | None = None,
) -> Setup:
    """Makes everything that a run needs, so that mistakes are found before the first step.

    Args:
        config: The run's settings, checked by `Config.check`.
        workdir: The run's folder.
        resuming: Whether weights come from a checkpoint; ``model.weights`` is then not read.
        data_directory: Folder of generated images and prepared records, see `prepare_sources`; by default
            the workdir.
        model: Starts from this model instead of ``model.weights``; its config must match the settings.

    Returns:
        The setup.

    Raises:
        UserError: A setting, a file or the workdir's earlier run does not fit.
    """
    # What follows is checked before the data are prepared, which may take long.
    check_precision(config.model.architecture)
    layout = Layout(config.train.parallel)
    if config.train.compile_sooner:
        check_compile_sooner(layout)
    train_source, eval_source = prepare_sources(config, data_directory or workdir)
    image_counts = class_image_counts(train_source)
    model_config = to_model_config(
        config.model, train_source.categories, train_source.skeleton, image_counts, train_source.stuff
    )
    model_config = model_config.replace({"input.pixels": pixel_config(config)})
    config = with_batch_size(config, workdir, train_source, model_config, layout)
    if resuming:
        check_resumable(workdir, model_config, config)
    config = steps_of_epochs(config, train_source, model_config)
    layout.check_batch(config.data.batch_size)
    device, count = layout.devices[0], len(layout.devices)
    several = f", {count} of them, by {layout.mode}" if count > 1 else ""
    log.info("Device: %s (%s)%s.", device.device_kind, device.platform, several)
    schedule = learning_rate(config.optimizer, config.data.batch_size, config.train.steps)
    if model is not None:
        _check_model(model, model_config)
    elif resuming:
        model = zero_model(model_config)
    else:
        model = first_model(
            model_config, config.model.weights, config.train.seed, in_part=config.model.weights_in_part
        )
    check_freeze(model, config.optimizer.freeze)
    graphdef, optimizer, state = init_state(
        model,
        trainable(model, tuple(config.optimizer.freeze)),
        lambda params: make_optimizer(
            config.optimizer, schedule, params, model_config, seed=config.train.seed
        ),
    )
    if not jax.tree.leaves(state["params"]):
        raise UserError("optimizer.freeze leaves no parameter to train; shorten its list of patterns.")
    trained, fixed = (sum(x.size for x in jax.tree.leaves(state[name])) / 1e6 for name in ("params", "rest"))
    log.info("Model: %.2f million values are trained, %.2f million are fixed.", trained, fixed)
    evaluator = Evaluator(
        model_config, graphdef, eval_source, config.data, layout=layout, progress=is_first()
    )
    validation = None
    if config.train.eval_loss:
        validation = ValidationLoss(model_config, graphdef, eval_source, config.data)
    return Setup(
        config=config, model_config=model_config, workdir=workdir, train_source=train_source,
        eval_source=eval_source, layout=layout, schedule=schedule, graphdef=graphdef, optimizer=optimizer,
        state=layout.place_state(state), evaluator=evaluator, validation=validation,
    )  # fmt: skip


def _check_model(model: MaskRCNN, config: ModelConfig) -> None:
    if model.config != config:
        raise UserError(
            "The config of the model to train differs from the one that config.model gives with the training "
            "data's categories; make it with to_model_config of training.run_config."
        )
    check_fits_config(model)  # before the run, not only when the model is saved after the last step


def prepare_sources(config: Config, workdir: Path) -> tuple[Source | JoinedSource, Source]:
    """The training and the evaluation data of a run.

    Args:
        config: The run's settings, whose ``data`` section gives the files, or the generated shapes.
        workdir: Generated images and prepared records are written to ``<workdir>/data``; if
            ``data.cache_dir`` is set, the records are written there instead.

    Returns:
        Training and evaluation source.

    Raises:
        UserError: A path is not given, or a file has a problem.
    """
    data = config.data
    cache = local_path(data.cache_dir, "data.cache_dir") if data.cache_dir else workdir / "data"
    if data.source != "coco":
        shapes, write = data.shapes, _WRITERS[data.source]
        # Different seeds, so that no image is in both.
        paths = [
            write(workdir / "data", count, shapes.size, 2 * shapes.seed + i)
            for i, count in enumerate((shapes.train_images, shapes.eval_images))
        ]
    else:
        paths = [
            local_data(
                getattr(data, f"{part}_annotations"),
                getattr(data, f"{part}_images"),
                (f"data.{part}_annotations", f"data.{part}_images"),
            )
            for part in _given_parts(data)
        ]
        if data.eval_fraction:
            jsons = hold_out(Path(paths[0][0]), workdir / "data", data.eval_fraction)
            paths = [(json, paths[0][1]) for json in jsons]
        names = ("data.more_annotations", "data.more_images")
        more = [
            local_data(*pair, names) for pair in zip(data.more_annotations, data.more_images, strict=True)
        ]
        paths = [paths[0], *more, paths[1]]
    semantic = config.model.architecture.semantic
    stuff = {
        part: local_path(given, f"data.{part}_stuff") if given else ""
        for part, given in (("train", data.train_stuff), ("eval", data.eval_stuff))
    }
    *trained, evaluation = (
        prepare(
            annotations,
            images,
            cache,
            data.on_error,
            masks=config.model.architecture.mask is not None,
            keypoints=config.model.architecture.keypoints is not None,
            reading=Reading(
                data.crowd,
                data.class_name,
                data.allow_outside,
                os.fspath(stuff[part]),
                semantic.stuff if semantic is not None and stuff[part] else (),
            ),
            pixels=pixel_config(config),
            # of the evaluation's data, only the validation losses read it
            extra=config.model.architecture.extra if part == "train" or config.train.eval_loss else (),
        )  # fmt: skip
        for part, (annotations, images) in zip((*["train"] * (len(paths) - 1), "eval"), paths, strict=True)
    )
    train = trained[0]
    if len(trained) > 1 or data.weights:
        train = JoinedSource(trained, data.weights or (1.0,) * len(trained))
    for part, source in (("train", train), ("eval", evaluation)):
        if config.model.architecture.semantic is not None and source.stuff is None:
            raise UserError(
                f"model.semantic is set, but {source.annotations} has no segments to learn stuff from; give "
                f"COCO's panoptic json as data.{part}_annotations, or the stuff as data.{part}_stuff, or set "
                "config.model.semantic to None."
            )
    for name, source in (("Training", train), ("Evaluation", evaluation)):
        classes = count_classes(len(source.categories))
        log.info(
            "%s data: %d images with %d objects of %s, from %s.",
            name, len(source), source.object_counts.sum(), classes, source.annotations,
        )  # fmt: skip
    return train, evaluation


def _given_parts(data: DataConfig) -> tuple[str, ...]:
    """The parts of the data, once it is certain that annotations and image folder of each are given."""
    parts = ("train",) if data.eval_fraction else ("train", "eval")
    for field, path, content in (
        ("train_annotations", data.train_annotations, "a COCO-format json"),
        ("train_images", data.train_images, "the folder of its images"),
        ("eval_annotations", data.eval_annotations, "a COCO-format json"),
        ("eval_images", data.eval_images, "the folder of its images"),
    ):
        if not path and field.partition("_")[0] in parts:
            raise UserError(f"data.{field} is not set; give {content}: --config.data.{field}=PATH.")
    return parts
