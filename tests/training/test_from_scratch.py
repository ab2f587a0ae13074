"""The recipe without weights, narrow and on generated pictures: group norm, nothing is fixed."""

import dataclasses

import jax
import numpy as np
import pytest
from folders import ROOT

from jaxmaskrcnn.config import ShapesConfig
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.training.setup import make_setup
from jaxmaskrcnn.utils.random_keys import random_key

NARROW = (
    "model.backbone.width=32 model.neck.channels=32 model.mask.dim=16 model.mask.convs=1 model.box.fc_dim=32 "
    "model.regions.batch_size=16 model.rpn.pre_nms_train=50 model.rpn.post_nms_train=50 "
    "model.input.test_min_size=64 model.input.test_max_size=64 data.source=shapes data.batch_size=2 "
    "data.min_sizes=64 data.max_size=64 optimizer.warmup_steps=10 train.steps=60"
).split()


@pytest.mark.slow  # a ResNet-18 is compiled and trained
@pytest.mark.usefixtures("quick_compilation")
def test_it_learns_from_random_weights(tmp_path):
    """All values are finite and the losses fall, though most regions are padding in the first steps."""
    config = find_config(str(ROOT / "configs" / "from_scratch.py")).load()
    override(config, [f"--config.{setting}" for setting in NARROW])
    config.data.shapes = ShapesConfig(train_images=8, eval_images=1, size=64)
    part = config.model.architecture
    assert (part.backbone.norm, part.neck.norm) == ("gn",) * 2
    assert part.backbone.freeze_at == 0 and not config.model.weights
    step = None
    for seed in (0, 1):
        train = dataclasses.replace(config.train, seed=seed)
        setup = make_setup(dataclasses.replace(config, train=train), tmp_path)
        batches, state, history = setup.batches(), setup.take_state(), []
        step, key = step or setup.make_step(), setup.layout.replicate(random_key(seed))
        for _ in range(60):
            state, metrics = step(state, setup.layout.place_batch(next(batches)), key)
            history.append({name: float(value) for name, value in metrics.items()})
        batches.close()
        losses = {name: [entry[name] for entry in history] for name in history[0] if "loss" in name}
        assert all(entry["finite"] for entry in history) and np.isfinite(list(losses.values())).all()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state["params"])))
        first, last = (np.mean(losses["loss"][part]) for part in (slice(0, 10), slice(50, 60)))
        assert last < 0.8 * first, (first, last)
