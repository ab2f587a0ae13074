"""A workdir in a store: brought, sent, gone on with on another machine, and never taken for more."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from detectors import random_model, small_config
from folders import TESTS
from restored_logging import restored_logging
from small_runs import tiny_config
from stored_run import assert_same, run

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data import write_shapes
from jaxmaskrcnn.stores import filesystem
from jaxmaskrcnn.stores.copies import local_copy
from jaxmaskrcnn.stores.filesystem import local_or_stored
from jaxmaskrcnn.training.loop import train_and_evaluate
from jaxmaskrcnn.training.mirror import Mirror
from jaxmaskrcnn.training.stored_lock import stored_lock
from jaxmaskrcnn.training.stored_workdir import local_folder, opened_workdir

AT = "memory://b/run"


@pytest.fixture
def no_pause(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(filesystem, "_PAUSE", 0.0)  # seconds, which a test need not wait


@pytest.fixture
def machines(store, tmp_path, monkeypatch):
    """Machines by name: each has its own folder for what it keeps, and there the run's local folder."""

    def on(name):
        monkeypatch.setenv("JAXMASKRCNN_HOME", str(tmp_path / name))
        return local_folder(local_or_stored(AT, "--workdir"))

    return on


def opened(address, seconds=1.0):
    return opened_workdir(address, "--workdir", seconds=seconds)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def checkpoint(step, content=b"numbers"):
    """The files of a checkpoint."""
    return {f"checkpoints/{step}/model/d/0": content, f"checkpoints/{step}/_CHECKPOINT_METADATA": b"{}"}


def stored(store):
    return {path.removeprefix("/b/run/"): store.cat(path) for path in store.find("/b/run")}


def local(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "lock.json"
    }


def test_what_a_run_writes_is_in_the_store_and_comes_to_another_machine(machines, store):
    folder = machines("one")
    files = {**checkpoint(2), **checkpoint(4), "metrics.jsonl": b"1\n", "run.json": b"{}", "log.txt": b"a"}
    files |= {
        "best/model.json": b"{}",
        "best/arrays-1/x": b"2",
        "pictures/1.png": b"p",
        "tensorboard/e": b"t",
    }
    with opened(AT) as workdir:
        assert workdir == folder
        write(folder, files)
        write(folder, {"data/a": b"1", "checkpoints/6.orbax-checkpoint-tmp/a": b"1", ".best.0/a": b"1"})
    assert stored(store) == files
    other = machines("two")
    with opened(AT):
        assert local(other) == {name: x for name, x in files.items() if not name.startswith("pictures")}
    assert stored(store) == files


def test_during_the_run_what_is_new_is_sent_and_old_checkpoints_are_removed(machines, store):
    folder = machines("one")
    with opened(AT, 0.02):
        write(folder, checkpoint(2))
        wait_for(lambda: stored(store).keys() >= checkpoint(2).keys())
        write(folder, checkpoint(4))
        for name in checkpoint(2):
            (folder / name).unlink()
        wait_for(lambda: stored(store).keys() - {"lock.json"} == checkpoint(4).keys())


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def failing(store, monkeypatch):
    """A store that refuses to take the files whose names match one of the patterns."""
    patterns, pipe, order = [], type(store).pipe_file, []

    def pipe_file(self, path, value, **options):
        if any(re.search(pattern, path) for pattern in patterns):
            raise OSError("the store is busy")
        order.append(path.removeprefix("/b/run/"))
        return pipe(self, path, value, **options)

    monkeypatch.setattr(type(store), "pipe_file", pipe_file)  # of fsspec: a store that fails
    patterns_and_order = type("Failing", (list,), {"order": order})()
    patterns.clear()
    monkeypatch.setattr(type(store), "failing_patterns", patterns, raising=False)
    patterns_and_order.patterns = patterns
    return patterns_and_order


def test_the_file_that_makes_a_checkpoint_complete_is_sent_last(machines, store, failing):
    folder = machines("one")
    with opened(AT):
        write(folder, {**checkpoint(2), "metrics.jsonl": b"1\n", "best/model.json": b"{}", "best/a/x": b"1"})
    order = [name for name in failing.order if name != "lock.json"]
    assert set(order[:2]) == {"checkpoints/2/model/d/0", "best/a/x"}
    assert order[2:] == ["best/model.json", "metrics.jsonl", "checkpoints/2/_CHECKPOINT_METADATA"]


def test_a_half_sent_checkpoint_is_not_taken_and_removed(machines, store, failing, no_pause):
    write(folder := machines("one"), {})
    with opened(AT):
        write(folder, {**checkpoint(2), "metrics.jsonl": b"1\n"})
    failing.patterns.append("checkpoints/4/_CHECK")
    with pytest.raises(jmr.UserError, match=r"the store is busy.*; all of the run is in .*one/workdirs/run-"):
        with opened(AT):
            write(folder, checkpoint(4))
    assert "checkpoints/4/model/d/0" in stored(store)
    failing.patterns.clear()
    other = machines("two")
    with opened(AT):
        assert local(other) == {**checkpoint(2), "metrics.jsonl": b"1\n"}
    assert stored(store) == {**checkpoint(2), "metrics.jsonl": b"1\n"}


def test_a_store_that_fails_for_a_while_gets_everything_later(machines, store, failing, no_pause, caplog):
    folder = machines("one")
    with opened(AT, 0.02):
        failing.patterns.append("checkpoints")
        write(folder, checkpoint(2))
        wait_for(lambda: "The run goes on, and sending is tried again" in caplog.text)
        failing.patterns.clear()
        wait_for(lambda: stored(store).keys() >= checkpoint(2).keys())


def test_what_could_not_be_sent_is_sent_by_the_same_command(machines, store, failing, no_pause):
    folder = machines("one")
    failing.patterns.append("checkpoints")
    with pytest.raises(jmr.UserError, match="the same command on this machine sends it"):
        with opened(AT):
            write(folder, {**checkpoint(2), "run.json": b"{}"})
    failing.patterns.clear()
    with opened(AT):
        assert local(folder).keys() >= checkpoint(2).keys()
    assert stored(store) == {**checkpoint(2), "run.json": b"{}"}


def test_the_exception_of_the_run_is_told_and_what_there_is_is_sent(machines, store):
    folder = machines("one")
    with pytest.raises(KeyboardInterrupt), opened(AT):
        write(folder, checkpoint(2))
        raise KeyboardInterrupt
    assert stored(store) == checkpoint(2)


def test_a_store_that_went_further_is_taken(machines, store):
    folder = machines("one")
    with opened(AT):
        write(folder, {**checkpoint(2), "metrics.jsonl": b"1\n"})
    machines("two")
    store.pipe({f"/b/run/{name}": x for name, x in checkpoint(4, b"later").items()})
    store.rm("/b/run/checkpoints/2", recursive=True)
    machines("one")
    with opened(AT):
        assert local(folder) == {**checkpoint(4, b"later"), "metrics.jsonl": b"1\n"}
        assert not (folder / "checkpoints" / "2").exists()


def test_a_run_that_was_removed_from_the_store_begins_anew(machines, store):
    folder = machines("one")
    with opened(AT):
        write(folder, checkpoint(2))
    store.rm("/b/run", recursive=True)
    with opened(AT):
        assert local(folder) == {}
    left = [path for path in folder.parent.iterdir() if ".left-" in path.name]
    assert len(left) == 1 and local(left[0]) == checkpoint(2)


def test_a_file_is_no_workdir(machines, store, capsys):
    machines("one")
    store.pipe("/b/run", b"1")
    with pytest.raises(jmr.UserError, match="the workdir is memory://b/run, which is a file; give a folder"):
        train_and_evaluate(tiny_config("cache"), AT)
    with restored_logging():
        assert main(["train", f"--workdir={AT}"]) == 2
    assert "train: --workdir is memory://b/run, which is a file; give a folder." in capsys.readouterr().err


def test_a_run_that_lives_is_refused_and_one_that_does_not_is_taken_over(store):
    place = local_or_stored(AT, "--workdir")
    with stored_lock(place, host="a", interval=0.05):
        assert json.loads(store.cat("/b/run/lock.json"))["host"] == "a"
        with pytest.raises(jmr.UserError, match=rf"{AT} is in use by process {os.getpid()} on a; wait until"):
            with stored_lock(place, host="b", interval=0.05):
                pass
    assert not store.exists("/b/run/lock.json")
    store.pipe("/b/run/lock.json", b'{"host": "a", "process": 1, "run": "x", "count": 3}')
    with stored_lock(place, host="b", interval=0.01):
        assert json.loads(store.cat("/b/run/lock.json"))["host"] == "b"


def test_a_run_whose_lock_was_taken_over_sends_nothing_more(machines, store):
    with stored_lock(local_or_stored(AT, "--workdir"), host="a", interval=0.01) as lock:
        store.pipe("/b/run/lock.json", b'{"host": "b", "process": 1, "run": "x", "count": 3}')
        wait_for(lambda: lock.holder)
    assert json.loads(store.cat("/b/run/lock.json"))["host"] == "b"


def test_a_checkpoint_that_is_removed_while_it_is_sent_is_never_complete_in_the_store(
    machines, store, monkeypatch
):
    folder = machines("one")
    write(folder, {**checkpoint(2), **checkpoint(4)})
    mirror = Mirror(folder, local_or_stored(AT, "--workdir"))
    mirror.bring()
    pipe = type(store).pipe_file

    def pipe_file(self, path, value, **options):
        if path.endswith("checkpoints/2/model/d/0"):
            shutil.rmtree(folder / "checkpoints" / "2")  # as Orbax removes an old one
        assert not path.endswith("checkpoints/2/_CHECKPOINT_METADATA")
        return pipe(self, path, value, **options)

    monkeypatch.setattr(type(store), "pipe_file", pipe_file)  # when something happens is part of the case
    mirror.send()
    assert stored(store).keys() == {*checkpoint(4), "checkpoints/2/model/d/0"}
    mirror.send()
    assert stored(store) == checkpoint(4)


STORE = '''
"""A store in a folder: what fsspec's file system of this machine does, under a scheme of its own."""
import os
import fsspec
from fsspec.implementations.local import LocalFileSystem


class Folder(LocalFileSystem):
    protocol = ("folder",)

    def __init__(self, *args, **options):
        super().__init__(*args, **{**options, "auto_mkdir": True})

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path)
        return os.path.join(os.environ["FOLDER_STORE"], path[9:]) if path.startswith("folder://") else path


fsspec.register_implementation("folder", Folder)
'''
RUN = """
import glob, os, sys, time
import folder_store
from stored_run import assert_same, run
from jaxmaskrcnn.training.stored_workdir import opened_workdir


def sent():
    end = time.monotonic() + 60
    while not glob.glob(os.environ["FOLDER_STORE"] + "/bucket/run/checkpoints/*/_CHECKPOINT_METADATA"):
        assert time.monotonic() < end
        time.sleep(0.01)


address, cache, kill_step = sys.argv[1:]
with opened_workdir(address, "--workdir", seconds=0.1) as folder:
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, cache, int(kill_step), before_kill=sent)
"""


@pytest.mark.slow
def test_killed_and_gone_on_with_on_another_machine_a_run_ends_bit_for_bit_the_same(tmp_path):
    (tmp_path / "folder_store.py").write_text(STORE)
    store = tmp_path / "store" / "bucket" / "run"

    def start(home, workdir, kill_step=0):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS, tmp_path))),
            "JAXMASKRCNN_HOME": str(tmp_path / home),
            "FOLDER_STORE": str(tmp_path / "store"),
        }
        command = [sys.executable, "-c", RUN, workdir, str(tmp_path / "cache"), str(kill_step)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    killed = start("one", "folder://bucket/run", 8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (store / "lock.json").is_file() and not (store / "checkpoints" / "12").exists()
    done = start("two", "folder://bucket/run")
    assert done.returncode == 0 and not (store / "lock.json").exists(), done.stderr
    whole = start("two", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    assert_same(tmp_path / "whole", store)


@pytest.mark.slow
def test_stopped_and_gone_on_with_on_another_machine_a_run_ends_bit_for_bit_the_same(machines, tmp_path):
    """In one process; one that is killed is the slow test above."""

    def fails():
        raise KeyboardInterrupt

    for name, stop in (("one", 8), ("two", 0)):
        machines(name)
        with contextlib.suppress(KeyboardInterrupt), opened(AT) as folder:
            run(folder, tmp_path / "cache", stop, before_kill=fails)
    assert not (machines("one") / "checkpoints" / "12").exists()
    run(tmp_path / "whole", tmp_path / "cache")
    assert_same(tmp_path / "whole", local_copy(AT, "--workdir"))


def test_load_model_reads_a_workdir_in_a_store(machines, store):
    folder = machines("one")
    with opened(AT):
        jmr.save_model(random_model(small_config()), folder / "best")
        write(folder, {**checkpoint(2), "config.json": b"{}"})
    machines("two")
    assert jmr.load_model(AT).config == small_config()
    copies = (folder.parents[2] / "two").rglob("*")  # of the best model, and not of the checkpoints
    assert not any("checkpoints" in path.parts for path in copies)


RECIPE = """
from small_runs import tiny_config


def get_config():
    return tiny_config("", train__steps=4, train__eval_every=2, train__checkpoint_every=2)
"""


@pytest.mark.slow
def test_commands_with_a_store_in_every_place(tmp_path):
    (tmp_path / "folder_store.py").write_text(STORE)
    (tmp_path / "store" / "b").mkdir(parents=True)
    (tmp_path / "store" / "b" / "recipe.py").write_text(RECIPE)
    write_shapes(tmp_path / "store" / "b", 4, 64, seed=0)
    data = f"folder://b/{next((tmp_path / 'store' / 'b').glob('shapes*')).name}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
        "JAXMASKRCNN_HOME": str(tmp_path / "home"),
        "FOLDER_STORE": str(tmp_path / "store"),
    }

    def command(*words):
        whole = [sys.executable, "-m", "jaxmaskrcnn", *words, "--import=folder_store"]
        done = subprocess.run(whole, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run = ["train", "--config=folder://b/recipe.py", "--workdir=folder://b/run"]
    assert "All of the run is in folder://b/run." in command(*run)
    workdir = tmp_path / "store" / "b" / "run"
    assert (workdir / "model" / "model.json").is_file() and not (workdir / "data").exists()
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"2", "4"}
    assert "4 of 4 steps are done" in command(*run)
    assert "Workdir: folder://b/run (a run to continue)" in command(*run, "--dry_run").replace(
        str(tmp_path / "home" / "stores" / "folder"), "folder:/"
    )
    places = [f"--annotations={data}/annotations.json", "--checkpoint=folder://b/run"]
    said = command("evaluate", *places, f"--images={data}/images", "--output=folder://b/scores")
    assert "metrics.json and detections.json are in folder://b/scores" in said
    scores = json.loads((tmp_path / "store" / "b" / "scores" / "metrics.json").read_bytes())
    assert 0 <= scores["box_AP"] <= 1
    command("predict", f"{data}/images", *places[1:], "--output=folder://b/found", "--score_threshold=0")
    found = json.loads((tmp_path / "store" / "b" / "found" / "predictions.json").read_bytes())
    assert found["images"][0]["file_name"].startswith(f"{data}/images/")
    results = f"{tmp_path}/store/b/scores/detections.json"
    command(
        "report", results, f"{data}/annotations.json", f"--images={data}/images", "--output=folder://b/page"
    )
    assert "folder://b/" in (tmp_path / "store" / "b" / "page" / "report.html").read_text()
    command("export", "folder://b/run", "folder://b/a.npz", "--format=detectron2")
    assert (tmp_path / "store" / "b" / "a.npz").is_file()
    command("plot", "folder://b/run")
    assert (workdir / "metrics.png").is_file()
    assert not [path.name for path in tmp_path.iterdir() if ":" in path.name]
