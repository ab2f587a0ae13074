"""A disk that takes no more: one sentence, and nothing half-written. A limit to file sizes stands for it."""

import jax
import jax.numpy as jnp
import optax
import pytest
from detectors import random_model
from flax import nnx
from full_disk import files_of_at_most

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.data import prepare, write_shapes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.lock import workdir_lock
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.utils.files import write_json, write_problem
from jaxmaskrcnn.zoo.lookup import model_config

# Of Orbax, where it gives up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CONFIG = model_config("jaxmaskrcnn/shapes", **{"backbone.width": 8, "neck.channels": 8, "box.fc_dim": 8})


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_save_model_keeps_the_model_that_was_there(tmp_path):
    model = random_model(CONFIG)
    save_model(model, tmp_path / "m")
    before = everything(tmp_path)
    other = random_model(CONFIG, 1)
    for directory in (tmp_path / "m", tmp_path / "new"):
        with (
            files_of_at_most(5000),
            pytest.raises(UserError, match="cannot be written .File too large.; "),
        ):
            save_model(other, directory)
        assert everything(tmp_path) == before and not (tmp_path / "new").exists()
    save_model(other, tmp_path / "m")
    assert load_model(tmp_path / "m").config == CONFIG


class Position:
    def get_state(self):
        return {"step": 0}

    def set_state(self, state):
        pass


def state_at(step):
    layer = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    _, _, state = init_state(layer, nnx.Param, lambda params: optax.trace(0.9))
    noise = jax.random.normal(jax.random.key(step), (64, 64))  # which does not get smaller as it is written
    return {**jax.tree.map(lambda x: x if x.ndim < 2 else x + noise, state), "step": jnp.int32(step)}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["close", pytest.param("restore", marks=pytest.mark.slow)])
def test_a_run_goes_on_from_the_checkpoint_before_the_one_that_could_not_be_written(tmp_path, where):
    message = (
        "A checkpoint cannot be written to .*checkpoints .File too large.; make room there, and the same"
    )
    with pytest.raises(UserError, match=f"{message} command goes on from step 1"):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state_at(1), Position())
            checkpoints.restore(state_at(0), Position())
            with files_of_at_most(5000):
                checkpoints.save(state_at(2), Position())
                if where == "restore":
                    checkpoints.restore(state_at(0), Position())
                else:
                    checkpoints.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    with Checkpoints(tmp_path) as checkpoints:
        assert int(checkpoints.restore(state_at(0), Position())["step"]) == 1
        checkpoints.save(state_at(2), Position())
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 2


def test_what_a_killed_process_had_not_deleted_yet_is_deleted(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state_at(step), Position())
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest == 3
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]
    assert list((tmp_path / "checkpoints" / "2").iterdir())


@pytest.mark.slow
def test_prepare_names_its_folder_and_leaves_no_records(tmp_path):
    annotations, images = write_shapes(tmp_path, 5, 64, seed=0)
    with (
        files_of_at_most(4000),
        pytest.raises(UserError, match="records cannot be written to .*make room"),
    ):
        prepare(annotations, images, tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache" / "coco_instances").iterdir() if p.is_dir()] == []
    assert len(prepare(annotations, images, tmp_path / "cache")) == 5


@pytest.mark.slow
def test_other_files_are_named_and_the_old_ones_stay(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, [1])
    for name, write in (
        ("a.json", lambda: write_json(path, list(range(9999)))),
        ("shapes/shapes-v1-5x64px-seed0", lambda: write_shapes(tmp_path / "shapes", 5, 64, seed=0)),
    ):
        with files_of_at_most(2000), pytest.raises(OSError) as error:
            write()
        assert error.value.filename == str(tmp_path / name)
    assert path.read_text() == "[1]\n" and not list((tmp_path / "shapes").iterdir())
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_a_lock_that_cannot_be_written_is_not_left_behind(tmp_path):
    with files_of_at_most(0), pytest.raises(OSError) as error, workdir_lock(tmp_path):
        pass
    assert error.value.filename == str(tmp_path / "lock.json")
    assert list(tmp_path.iterdir()) == []


def test_only_problems_of_the_disk_are_taken_for_such():
    assert write_problem(ValueError("shapes differ")) is None
    assert write_problem(OSError(28, "No space left on device")) == "No space left on device"
    chained = RuntimeError("outer")
    chained.__cause__ = ValueError(
        "RESOURCE_EXHAUSTED: Failed to write: Disk quota exceeded [os_error_code='122']"
    )
    assert write_problem(chained) == "Disk quota exceeded"
