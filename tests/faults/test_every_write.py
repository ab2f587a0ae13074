"""Every write of every command fails once: one sentence, nothing half-written, and it works again."""

import json
import os
import subprocess
import sys

import pytest
from faults.shim import MISSING, can_fail
from folders import TESTS

pytestmark = pytest.mark.skipif(not can_fail(), reason=MISSING)


def results(tmp_path, *options):
    """What came of each write, from a process of its own, as ``LD_PRELOAD`` asks for."""
    file = tmp_path / "results.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, str(TESTS / "faults"), f"--json={file}", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and file.exists(), done.stderr[-3000:]
    return json.loads(file.read_text())


def faults(rows):
    """The rows in which something is wrong."""
    return [row for row in rows if row["faults"]]


def test_some_writes(tmp_path):
    rows = results(tmp_path, "--cases=plot,import", "--errors=ENOSPC", "--every=3")
    assert not faults(rows) and len(rows) > 7
    assert {row["operation"] for row in rows} >= {"create", "write", "rename"}
    assert {row["end"] for row in rows} == {"refused"}


@pytest.mark.slow
def test_a_clock_that_goes_back_changes_nothing(tmp_path):
    """By an hour, again and again: neither the lock nor the order of checkpoints goes by it."""
    rows = results(tmp_path, "--cases=train,checkpoint,prepare,evaluate,save_model", "--clock=3600")
    assert not faults(rows) and len(rows) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--errors=ENOSPC,EIO"], ["--errors=ENOSPC", "--full"],
                                     ["--errors=EROFS", "--read_only"]])  # fmt: skip
def test_all_writes(tmp_path, options):
    rows = results(tmp_path, *options)
    assert not faults(rows) and len(rows) > 300
