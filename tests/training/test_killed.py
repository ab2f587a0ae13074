"""Runs whose process is killed with SIGKILL, and checkpoints that are damaged."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from folders import TESTS
from killable_run import run
from orbax.checkpoint import v1 as ocp


def start(workdir, cache, kind, step=0, seconds=0.0):
    """One process; returns its exit status."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    arguments = [str(workdir), str(cache), kind, str(step), str(seconds)]
    command = [sys.executable, str(TESTS / "killable_run.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


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


@pytest.mark.slow
def test_a_killed_process_ends_like_one_that_was_not(tmp_path):
    """With a step that needs no compilation; the real one is the slow test below."""
    cache = tmp_path / "cache"
    assert start(tmp_path / "killed", cache, "quick", step=8) == -signal.SIGKILL
    run(tmp_path / "killed", cache, "quick")
    run(tmp_path / "whole", cache, "quick")
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_steps_a_run_ends_bit_for_bit_the_same(seed, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    assert start(whole, cache, "real") == 0
    draw = random.Random(seed)
    for _ in range(4):
        # Anywhere: between two steps, or some time later, while a checkpoint or the model is written.
        if start(killed, cache, "real", draw.randint(1, 12), draw.choice([0.0, draw.uniform(0, 1)])) == 0:
            break
    assert start(killed, cache, "real") == 0
    assert_same(whole, killed)
