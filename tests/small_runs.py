"""Whole training runs in small: a tiny model on a few generated pictures."""

import contextlib
import dataclasses
import logging
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from detectors import random_model

from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, ShapesConfig, TrainConfig
from jaxmaskrcnn.training.loop import train
from jaxmaskrcnn.training.run_config import model_section, to_model_config
from jaxmaskrcnn.training.setup import make_setup, prepare_sources


def tiny_config(cache, architecture=None, **changes) -> Config:
    """A fresh config of six steps.

    Args:
        cache: Folder of the prepared records.
        architecture: Settings of the model by path.
        **changes: Other settings, such as ``train__steps=3``.
    """
    config = Config(
        model=model_section(
            "jaxmaskrcnn/shapes",
            **{
                "input.test_min_size": 64,
                "input.test_max_size": 64,
                "backbone.width": 8,
                "backbone.norm": "bn",
                "neck.norm": "none",
                "neck.channels": 8,
                "rpn.pre_nms_train": 40,
                "rpn.pre_nms_test": 40,
                "rpn.post_nms_train": 20,
                "rpn.post_nms_test": 20,
                "rpn.batch_size": 16,
                "regions.batch_size": 8,
                "regions.positive_fraction": 0.5,
                "box.fc_dim": 8,
                "mask.dim": 8,
                "mask.convs": 1,
                "detections.per_image": 5,
                "detections.score_threshold": 0.0,
            },
        ),
        data=DataConfig(
            source="shapes",
            cache_dir=str(cache),
            batch_size=2,
            eval_batch_size=2,
            min_sizes=(64,),
            max_size=64,
            shapes=ShapesConfig(train_images=7, eval_images=3, size=64),
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.01, reference_batch_size=0, warmup_steps=2, schedule="cosine", clip_norm=5.0
        ),
        train=TrainConfig(steps=6, log_every=2, eval_every=3, checkpoint_every=3, pictures=2),
    )
    config.model.architecture = config.model.architecture.replace(architecture or {})
    for name, value in changes.items():
        section, field = name.split("__")
        setattr(getattr(config, section), field, value)
    return config


def run_tiny(config, workdir, *, model=None, around_step=None, **parts):
    """`train_and_evaluate` with parts of its setup replaced.

    Args:
        config: Of the run.
        workdir: Its folder.
        model: To start from; None takes random weights that need no compilation.
        around_step: Called with the real step, which is not compiled yet; returns what is run in its place.
        **parts: Fields of the setup.
    """
    config.check()
    with Checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints:
        resuming = checkpoints.latest is not None
        if model is None and not resuming:
            source, _ = prepare_sources(config, Path(workdir))
            model = random_model(to_model_config(config.model, source.categories))
        setup = make_setup(config, Path(workdir), resuming=resuming, model=model)
        setup = dataclasses.replace(setup, **parts)
        step = around_step(setup.make_step()) if around_step else None
        return train(setup, checkpoints, step)


class GivenScores:
    """In place of the evaluator: the same APs for boxes and for masks, one number an evaluation."""

    categories = ()

    def __init__(self, scores=()):
        self._scores = iter(scores)

    def run(self, *states, stop=None):
        score = next(self._scores, 0.0)
        names = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large".split()
        return {f"{what}_{name}": score for what in ("box", "mask") for name in names} | {"per_class": {}}, []


class CountingStep:
    """In place of the train step: adds 1 to every parameter, and is not finite at given calls.

    Attributes:
        seen: int [B], positions of the images of every call.
        steps: Completed steps before every call.
    """

    def __init__(self, bad_calls=()):
        self.bad_calls, self.seen, self.steps = set(bad_calls), [], []

    def __call__(self, state, batch, key):
        self.seen.append(np.asarray(batch.index).tolist())
        self.steps.append(int(state["step"]))
        bad = len(self.seen) in self.bad_calls
        params = state["params"] if bad else jax.tree.map(lambda x: x + 1, state["params"])
        loss = jnp.float32(np.nan if bad else 1.0)
        metrics = {"loss": loss, "loss_mask": loss, "learning_rate": jnp.float32(0.1)}
        metrics["finite"] = jnp.isfinite(loss)
        return {**state, "step": state["step"] + 1, "params": params}, metrics


@contextlib.contextmanager
def compilations():
    """Collects the names of the functions that jit compiles, or takes from the cache on disk, inside."""
    names = []

    class Collect(logging.Handler):
        def emit(self, record):
            if found := re.match(r"Compiling jit\((.*?)\) with", record.getMessage()):
                names.append(found[1])

    handler, logger = Collect(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(handler)
