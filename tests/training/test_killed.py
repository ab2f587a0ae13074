"""Runs whose process is killed with SIGKILL, and checkpoints that are damaged."""

import os
import random
import signal
import subprocess
import sys

import pytest
from folders import TESTS
from killable_run import assert_same, run


def start(workdir, cache, kind, step=0, seconds=0.0):
    """One process; returns its exit status."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    arguments = [str(workdir), str(cache), kind, str(step), str(seconds)]
    command = [sys.executable, str(TESTS / "killable_run.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


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
