"""A small training run that ends its own process with SIGKILL.

    python tests/killable_run.py WORKDIR CACHE KIND STEP SECONDS

KIND is "real", or "quick" for a step that takes no compilation; STEP is before which step to set the
timer of SECONDS, 0 for never.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from detectors import random_model
from orbax.checkpoint import v1 as ocp
from small_runs import GivenScores, run_tiny, tiny_config

from jaxmaskrcnn.training.run_config import to_model_config
from jaxmaskrcnn.training.setup import prepare_sources
from jaxmaskrcnn.utils import compilation_cache


def config(cache, kind):
    """Twelve steps with all the state that a run can have."""
    return tiny_config(
        cache, train__steps=12, train__eval_every=0, train__checkpoint_every=2, train__pictures=0,
        data__min_sizes=(48, 64), optimizer__ema_decay=0.9, optimizer__groups=("*.bias:2:0",),
        data__repeat_threshold=0.9,
    )  # fmt: skip


def quick_step(state, batch, key):
    """Moves the parameters by what step, key, images and state say, in a way that does not commute."""
    draw = jax.random.uniform(jax.random.fold_in(key, state["step"]))
    memory = sum(jnp.mean(x) for x in jax.tree.leaves(state["opt_state"])) / 1000
    push = draw + batch.index.sum() + batch.image_sizes.sum() / 64 + memory
    state = {
        **state,
        "step": state["step"] + 1,
        "params": jax.tree.map(lambda x: 0.5 * x + push, state["params"]),
        "opt_state": jax.tree.map(lambda x: (0.7 * x + push).astype(x.dtype), state["opt_state"]),
    }
    metrics = {"loss": push, "learning_rate": jnp.float32(0), "finite": jnp.array(True)}
    return state, metrics


def run(workdir, cache, kind, kill_step=0, seconds=0.0, before_kill=lambda: None):
    """Train; the process ends by SIGKILL where asked to, after a call of `before_kill`."""
    settings, model, parts = config(cache, kind), None, {}
    if kind == "quick":
        source, _ = prepare_sources(settings, Path(workdir))
        model = random_model(to_model_config(settings.model, source.categories))
        parts = {"evaluator": GivenScores()}

    def killing(step):
        step = quick_step if kind == "quick" else step

        def counted(state, batch, key):
            if int(state["step"]) + 1 == kill_step:
                before_kill()
                if not seconds:
                    os.kill(os.getpid(), signal.SIGKILL)
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return step(state, batch, key)

        return counted

    run_tiny(settings, Path(workdir), model=model, around_step=killing, **parts)


def everything(workdir):
    """All numbers of the last checkpoint, by path."""
    with ocp.training.Checkpointer(Path(workdir).absolute() / "checkpoints") as checkpointer:
        assert checkpointer.latest.step == 12
        parts = checkpointer.checkpointables_metadata(12).metadata
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        arrays = {name: parts[name] for name in ("model", "train")}
        arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), arrays)
        tree = checkpointer.load_checkpointables(12, {**arrays, "data": None})
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def assert_same(a, b):
    a, b = everything(a), everything(b)
    assert a.keys() == b.keys() and len(a) > 300
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


if __name__ == "__main__":
    folder, records, sort, number, wait = sys.argv[1:]
    jax.config.update("jax_disable_most_optimizations", True)
    compilation_cache.enable(Path(records) / "xla")
    run(folder, records, sort, int(number), float(wait))
