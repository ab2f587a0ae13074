"""A small training run that ends its own process with SIGKILL before a step, for workdirs in stores."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
from killable_run import quick_step
from orbax.checkpoint import v1 as ocp
from small_runs import GivenScores, run_tiny, tiny_config


def run(workdir, cache, kill_step=0, before_kill=lambda: None):
    """Train twelve quick steps; the process ends before one of them, after a call of `before_kill`."""
    settings = tiny_config(
        cache, train__steps=12, train__eval_every=0, train__checkpoint_every=2, train__pictures=0,
        data__min_sizes=(48, 64), optimizer__ema_decay=0.9, optimizer__groups=("*.bias:2:0",),
        data__repeat_threshold=0.9,
    )  # fmt: skip

    def counted(state, batch, key):
        if int(state["step"]) + 1 == kill_step:
            before_kill()
            os.kill(os.getpid(), signal.SIGKILL)
        return quick_step(state, batch, key)

    run_tiny(settings, Path(workdir), around_step=lambda _: counted, evaluator=GivenScores())


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
    """Two runs have the same numbers in their last checkpoints."""
    a, b = everything(a), everything(b)
    assert a.keys() == b.keys() and len(a) > 300
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
