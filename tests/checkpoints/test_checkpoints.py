"""Checkpoints on a small state: what comes back, what is kept, what is never read."""

import gc
import json
import os
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.progress import duration, progress_line
from jaxmaskrcnn.training.step import init_state


class Net(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=nnx.Rngs(i)) for i in range(2)])
        self.mean = nnx.BatchStat(jnp.zeros(3))


class Position:
    """A data iterator's position."""

    def __init__(self, step):
        self.step = step

    def get_state(self):
        return {"step": self.step}

    def set_state(self, state):
        self.step = int(state["step"])


def state_at(step, value):
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.trace(0.9), optax.scale_by_schedule(lambda s: s)
    )
    trained = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("bias")))
    _, _, state = init_state(Net(), trained, lambda params: optimizer)
    state = jax.tree.map(lambda x: jnp.full_like(x, value), state)
    return {**state, "step": jnp.int32(step)}


def test_everything_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 9, x.dtype), state_at(3, 0)) | {
        "step": jnp.int32(3)
    }
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        checkpoints.save(state, Position(3))
    position = Position(0)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3
        restored = checkpoints.restore(state_at(0, 0), position)
    assert position.step == 3
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_the_state_may_be_donated_while_it_is_written(tmp_path):
    grow = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = state_at(0, 0)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for _ in range(3):
            state = grow(state)
            checkpoints.save(state, Position(int(state["step"])))
            state = grow(state)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        restored = checkpoints.restore(state_at(0, 0), Position(0))
    assert {float(x.min()) for x in jax.tree.leaves(restored)} == {5.0}


def test_only_the_latest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(state_at(step, step), Position(step))
        checkpoints.save(state_at(4, 4), Position(4))  # there already
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["3", "4"]


def test_a_half_written_checkpoint_is_never_read(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(1, 1.0), Position(1))
    # What a process that is killed while it writes leaves behind.
    complete = tmp_path / "checkpoints" / "1"
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    (half / "model").mkdir(parents=True)
    (half / "_CHECKPOINT_METADATA").write_bytes((complete / "_CHECKPOINT_METADATA").read_bytes())
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 1
        checkpoints.save(state_at(2, 2.0), Position(2))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 2


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two")
    with Checkpoints(workdir) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state_at(step, float(step)), Position(step))
    return workdir


def files_of_the_newest(workdir):
    newest = workdir / "checkpoints" / "2"
    return [p.relative_to(newest) for p in sorted(newest.rglob("*")) if p.is_file()]


def restored_from(workdir, strict=False):
    """The value of every array of `two_checkpoints` after restoring them, and the position in the data."""
    position = Position(0)
    with Checkpoints(workdir) as checkpoints:
        restored = checkpoints.restore(state_at(0, 0), position, strict=strict)
        assert checkpoints.latest == position.step
    assert {float(x.min()) for x in jax.tree.leaves(restored)} == {float(position.step)}
    assert {float(x.max()) for x in jax.tree.leaves(restored)} == {float(position.step)}
    return position.step


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # of Orbax, where it gives up
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(two_checkpoints, tmp_path, caplog, both):
    set_aside = []
    for i, name in enumerate(files_of_the_newest(two_checkpoints)):
        for keep in (0.5, None) if both else ((0.5, None)[i % 2],):  # cut off, and gone
            workdir = tmp_path / f"{i} {keep}"
            shutil.copytree(two_checkpoints, workdir)
            path = workdir / "checkpoints" / "2" / name
            content = path.read_bytes()
            path.unlink() if keep is None else path.write_bytes(content[: int(len(content) * keep)])
            caplog.clear()
            # Some files hold nothing that is needed; what is restored is then the whole checkpoint 2,
            # or, where Orbax sees by the file that 2 is not complete, the whole checkpoint 1.
            step = restored_from(workdir)
            renamed = workdir / "checkpoints" / "damaged-2"
            if renamed.exists():
                assert step == 1 and sum(1 for p in renamed.rglob("*") if p.is_file()) >= (
                    len(files_of_the_newest(two_checkpoints)) - 1
                )
                (error,) = [r for r in caplog.records if r.name.startswith("jaxmaskrcnn")]
                assert error.levelname == "ERROR" and "\n" not in error.getMessage()
                assert f"checkpoints{os.sep}2 " in error.getMessage() and str(renamed) in error.getMessage()
                assert "goes on from step 1" in error.getMessage()
                set_aside.append(name)
                assert restored_from(workdir) == 1  # the next start finds it as it was left
    assert {name.parent.name for name in set_aside} >= {"d", "model" if both else "train"}
    time.sleep(1)  # so that the complaints of Orbax's unfinished reads fall into this test
    gc.collect()


def flip_bits(path, positions):
    content = bytearray(path.read_bytes())
    for position in positions:
        content[position // 8] ^= 1 << position % 8
    path.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # of Orbax, where it gives up
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_a_flipped_bit_of_a_checkpoint_never_goes_into_the_model(two_checkpoints, tmp_path, seed):
    rng = np.random.default_rng(seed)
    names = files_of_the_newest(two_checkpoints)
    steps = []
    for i in range(8):
        workdir = tmp_path / str(i)
        shutil.copytree(two_checkpoints, workdir)
        path = workdir / "checkpoints" / "2" / names[rng.integers(len(names))]
        if path.stat().st_size:
            flip_bits(path, [int(rng.integers(8 * path.stat().st_size))])
        steps.append(restored_from(workdir))  # whole, whichever it is
        assert (workdir / "checkpoints" / "damaged-2").exists() == (steps[-1] == 1)
    assert 1 in steps
    time.sleep(1)
    gc.collect()


def test_the_message_names_checkpoint_and_array(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            state = state_at(step, step)
            checkpoints.save(state, Position(step))
    changed = jax.tree.map(lambda x: x + 1, state)["params"]
    # Another value under the same checksums, as after a change that storage did not notice.
    with Checkpoints(tmp_path / "other") as checkpoints:
        checkpoints.save({**state, "params": changed}, Position(2))
    folder = tmp_path / "checkpoints" / "2"
    shutil.rmtree(folder / "model")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "2" / "model", folder / "model")
    with pytest.raises(
        UserError, match=r"2 is damaged: its array model\.layers\.0\.kernel and 1 more differ "
    ):
        restored_from(tmp_path, strict=True)
    assert folder.exists()  # nothing is renamed by a strict run
    assert restored_from(tmp_path) == 1


def test_a_damaged_checkpoint_that_is_the_only_one_is_an_error_and_stays(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(2, 2.0), Position(2))
    for path in (tmp_path / "checkpoints" / "2" / "train").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    for _ in range(2):  # again at every start: a run with a checkpoint never begins anew unasked
        with pytest.raises(UserError, match="There is no other one; start anew in another --workdir"):
            restored_from(tmp_path)


def test_a_damaged_checkpoint_can_be_deleted(two_checkpoints, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(two_checkpoints, workdir)
    shutil.rmtree(workdir / "checkpoints" / "2")
    position = Position(0)
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest == 1
        checkpoints.restore(state_at(0, 0), position)
    assert position.step == 1


def test_no_model_where_there_is_no_run(tmp_path):
    assert latest_model(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    assert latest_model(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert latest_model(tmp_path) is None


def test_metrics_lines_beyond_the_resumed_step_are_dropped(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": np.float32(0.5), "bad": float("nan"), "none": None})
        writer.write(2, {"eval/box_AP": 0.25})
        writer.write(3, {"loss": 0.25})
        writer.write(4, {"eval/box_AP": 0.5})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 5, "lo')
    with MetricsWriter(tmp_path, step=3) as writer:
        assert writer.evaluations == {2: {"step": 2, "eval/box_AP": 0.25}}
        writer.write(4, {"loss": 1.0})
        # Flushed: a reader need not wait for the end of the run.
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"step": 1, "loss": 0.5, "bad": None, "none": None},
        {"step": 2, "eval/box_AP": 0.25},
        {"step": 3, "loss": 0.25},
        {"step": 4, "loss": 1.0},
    ]


def test_progress_line():
    metrics = {
        "loss": 1.5, "loss_objectness": 0.1, "loss_rpn_box_reg": 0.2, "loss_classifier": 0.3,
        "loss_box_reg": 0.4, "loss_mask": 0.5, "learning_rate": 0.02,
    }  # fmt: skip
    assert progress_line(120, 1000, metrics, 12.34, 201.0) == (
        "step  120/1000  loss 1.500 (objectness 0.100 rpn_box 0.200 classifier 0.300 box 0.400 mask 0.500)  "
        "lr 0.02  12.3 images/s  ETA 0:03:21"
    )
    del metrics["loss_mask"]  # Faster R-CNN
    assert "mask" not in progress_line(1, 10, metrics, 1.0, 0.0)
    assert [duration(s) for s in (0, 59.6, 3600 * 30 + 61)] == ["0:00:00", "0:01:00", "30:01:01"]
