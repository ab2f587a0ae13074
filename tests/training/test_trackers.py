"""What shows a run beside its log: stand-ins record what they are given; the real packages, if installed."""

import logging
import sys
import types

import numpy as np
import pytest
from quick_training import recorded, train

from jaxmaskrcnn.config import Config, ConfigError
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.metrics import MetricsWriter
from jaxmaskrcnn.training.profiling import Profile
from jaxmaskrcnn.training.trackers.tracker import TRACKERS, open_trackers, stored_id

SETTINGS = {"data.batch_size": 2, "train.parallel": "auto"}
PICTURE = np.full((4, 6, 3), 7, np.uint8)


class Recorder:
    """Remembers every call of a package by its name; what is called returns the recorder."""

    def __init__(self, name, **attributes):
        self.calls, self._name = [], name
        vars(self).update(attributes)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*values, **options):
            self.calls.append((name, values, options))
            return self

        return call

    def of(self, name):
        return [(values, options) for called, values, options in self.calls if called == name]


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the packages, and the modules that use them imported anew."""
    run = types.SimpleNamespace(run_id="abc")
    found = {"tensorboardX": Recorder("tensorboardX"), "wandb": Recorder("wandb", id="abc"),
             "mlflow": Recorder("mlflow", info=run)}  # fmt: skip
    for name, recorder in found.items():
        module = types.ModuleType(name)
        module.__getattr__ = recorder.__getattr__
        monkeypatch.setitem(sys.modules, name, module)
    for entry in TRACKERS.values():
        monkeypatch.delitem(sys.modules, entry.place.partition(":")[0], raising=False)
    return found


def show(name, workdir, step=0):
    """A record with one tracker, which is given some of everything."""
    trackers = open_trackers([name, name], workdir, step, SETTINGS)
    assert len(trackers) == 1
    with MetricsWriter(workdir, step=step, trackers=trackers) as writer:
        assert writer.has_trackers
        writer.write(step + 1, {"loss": 0.5, "bad": None, "worse": float("nan")})
        writer.pictures(step + 1, {"cat": PICTURE})
        writer.histograms(step + 1, {"box.kernel": np.arange(64.0)})


def test_tensorboard(packages, tmp_path):
    show("tensorboard", tmp_path)
    calls = packages["tensorboardX"]
    assert calls.of("SummaryWriter") == [((str(tmp_path / "tensorboard"),), {"purge_step": 1})]
    assert '"train.parallel": "auto"' in calls.of("add_text")[0][0][1]
    assert calls.of("add_scalar") == [(("loss", 0.5, 1), {})]  # and nothing that is not finite
    ((values, options),) = calls.of("add_image")
    assert values[0] == "pictures/cat" and values[1] is PICTURE and options == {"dataformats": "HWC"}
    assert calls.of("add_histogram")[0][0][0] == "box.kernel" and len(calls.of("close")) == 1


def test_weights_and_biases(packages, tmp_path):
    show("wandb", tmp_path)
    calls = packages["wandb"]
    ((_, options),) = calls.of("init")
    assert options["config"] == SETTINGS and options["id"] is None and options["resume"] == "allow"
    logged = calls.of("log")
    assert logged[0] == (({"loss": 0.5},), {"step": 1})
    assert calls.of("Image") == [((PICTURE,), {"caption": "cat"})] and "pictures" in logged[1][0][0]
    assert "box.kernel" in logged[2][0][0] and len(calls.of("finish")) == 1
    show("wandb", tmp_path, step=1)  # the run goes on under its id
    assert calls.of("init")[1][1]["id"] == "abc" == stored_id(tmp_path, "wandb")


def test_mlflow(packages, tmp_path):
    show("mlflow", tmp_path)
    calls = packages["mlflow"]
    assert calls.of("log_params") == [(({"data.batch_size": "2", "train.parallel": "auto"},), {})]
    assert calls.of("log_metrics") == [(({"loss": 0.5},), {"step": 1, "run_id": "abc"})]
    assert calls.of("log_image")[0][1] == {"artifact_file": "pictures/1/cat.png"}
    (histogram, file), _ = calls.of("log_dict")[0]
    assert sum(histogram["box.kernel"]["counts"]) == 64 and file == "histograms/1.json"
    show("mlflow", tmp_path, step=1)
    assert calls.of("start_run")[1][1] == {"run_id": "abc", "run_name": None}
    assert len(calls.of("log_params")) == 1 and len(calls.of("end_run")) == 2


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_is_named_with_its_extra(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, TRACKERS[name].package, None)  # as if not installed
    monkeypatch.delitem(sys.modules, TRACKERS[name].place.partition(":")[0], raising=False)
    with pytest.raises(UserError, match=rf"{TRACKERS[name].package}, which is not.*jaxmaskrcnn\[{name}\]"):
        open_trackers([name], tmp_path, 0, SETTINGS)


@pytest.mark.parametrize("name", TRACKERS)
def test_the_real_package(name, tmp_path, monkeypatch):
    pytest.importorskip(TRACKERS[name].package, reason=f"the extra [{name}] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    show(name, tmp_path)
    show(name, tmp_path, step=1)
    written = {path.name.split(".")[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) > 2


def test_trackers_are_named_on_a_command_line():
    config = override(Config(), ["--config.train.trackers=tensorboard, wandb"])
    assert config.train.trackers == ("tensorboard", "wandb")
    with pytest.raises(UserError, match="train.trackers is 'tensorbord'; give several of 'tensorboard' or"):
        override(Config(), ["--config.train.trackers=tensorbord"])


def test_histograms_need_a_tracker():
    config = Config()
    config.train.histograms = True
    with pytest.raises(ConfigError, match="train.trackers is empty"):
        config.check()


@pytest.mark.slow
def test_a_run_shows_numbers_pictures_and_histograms(packages, tmp_path):
    options = ["--config.train.trackers=tensorboard", "--config.train.histograms=true"]
    assert train(tmp_path / "recipe.py", tmp_path / "run", *options) == 0
    calls = packages["tensorboardX"]
    assert recorded(tmp_path / "run") == ([1, 2], [2])
    names = {values[0] for values, _ in calls.of("add_scalar")}
    assert {"loss", "learning_rate", "seconds_per_step", "eval/mask_AP"} <= names
    assert len(calls.of("add_image")) == 2  # train.pictures
    assert any(values[0].startswith("backbone.") for values, _ in calls.of("add_histogram"))
    assert '"train.steps": 2' in calls.of("add_text")[0][0][1] and len(calls.of("close")) == 1


def test_steps_are_profiled(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="jaxmaskrcnn"), Profile(tmp_path, (2, 3)) as profile:
        for step in range(1, 5):
            profile.before(step)
            assert (tmp_path / "profile").exists() is False or step > 1
            profile.after(step, np.zeros(1))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert "The trace of steps 2 to 3 is in" in caplog.text
    with Profile(tmp_path / "none", ()) as profile:
        profile.before(1)
        profile.after(1, np.zeros(1))
    assert not (tmp_path / "none").exists()
