"""The lock of a workdir, between processes of this machine and with other hosts."""

import json
import os
import subprocess
import sys
import threading

import pytest
from folders import TESTS

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.lock import FILE, workdir_lock

HOLDER = """
import sys, time
from jaxmaskrcnn.training.lock import workdir_lock
with workdir_lock(sys.argv[1], host="node7", interval=0.05):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_host_and_process(holder, tmp_path):
    message = f"{tmp_path} is in use by process {holder.pid} on node7; wait until .* another --workdir"
    with pytest.raises(UserError, match=message), workdir_lock(tmp_path, host="node7"):
        pass
    assert json.loads((tmp_path / FILE).read_text())["process"] == holder.pid


def test_the_lock_is_free_when_its_holder_has_ended(holder, tmp_path):
    holder.communicate("")
    assert not (tmp_path / FILE).exists()
    with workdir_lock(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
    assert not (tmp_path / FILE).exists()


def test_the_lock_of_a_killed_process_is_free_at_once(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / FILE).exists()
    with workdir_lock(tmp_path, host="node7", interval=100):
        pass


def counting(path, ended):
    """A holder on another host, of which only the file is seen."""
    count = 0
    while not ended.wait(0.02):
        count += 1
        path.with_suffix(".new").write_text(json.dumps({"host": "node8", "process": 1, "count": count}))
        os.replace(path.with_suffix(".new"), path)


def test_a_holder_on_another_host_is_seen_by_its_count(tmp_path):
    (tmp_path / FILE).write_text('{"host": "node8", "process": 1, "count": 7}')
    ended = threading.Event()
    thread = threading.Thread(target=counting, args=(tmp_path / FILE, ended))
    thread.start()
    try:
        with (
            pytest.raises(UserError, match="in use by process 1 on node8"),
            workdir_lock(tmp_path, interval=0.1),
        ):
            pass
    finally:
        ended.set()
        thread.join()


def test_a_lock_that_a_killed_process_of_another_host_left_is_taken(tmp_path):
    (tmp_path / FILE).write_text('{"host": "node8", "process": 1, "count": 7}')
    with workdir_lock(tmp_path, interval=0.02):
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "{", "null", "[1]", '{"host": 3}'])
def test_damaged_lock_files_are_taken(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with workdir_lock(tmp_path, interval=0.01):
        pass
