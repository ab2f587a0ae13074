"""The length of a run in passes through its training images, ``train.epochs``."""

import dataclasses
import logging
import math

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.data.sampler import TrainPlan

log = logging.getLogger(__name__)


def steps_of_epochs(config: Config, source, model_config) -> Config:
    """Replace ``train.epochs`` and ``optimizer.decay_epochs`` by numbers of steps.

    Args:
        config: The run's settings; not changed.
        source: The training data.
        model_config: Gives the sizes, which decide how images are put into batches.

    Returns:
        The settings with ``train.steps`` and ``optimizer.decay_steps``; unchanged if ``train.epochs`` is 0.
    """
    if not config.train.epochs:
        return config
    per_epoch = TrainPlan(source, model_config, config.data, config.train.seed).steps_per_epoch
    steps = math.ceil(config.train.epochs * per_epoch)
    optimizer = config.optimizer
    if optimizer.decay_epochs:
        decay = tuple(math.ceil(epoch * per_epoch) for epoch in optimizer.decay_epochs)
        optimizer = dataclasses.replace(optimizer, decay_steps=decay)
    log.info("Length: %g epochs of %d steps, %d steps.", config.train.epochs, per_epoch, steps)
    return dataclasses.replace(
        config, optimizer=optimizer, train=dataclasses.replace(config.train, steps=steps)
    )
