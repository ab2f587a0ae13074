"""A model with a backbone of the user's, in other processes than the one that defined it."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from detectors import flat, random_model, small_config
from folders import ROOT

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import BackboneConfig, parts

MODULE = """
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from jaxmaskrcnn.config import BackboneConfig, Level
from jaxmaskrcnn.config.values import Count
from jaxmaskrcnn.models import Pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchesConfig(BackboneConfig):
    kind: ClassVar[str] = "patches"
    module: ClassVar[str] = f"{__name__}:Patches"
    width: Count = 8

    @property
    def levels(self):
        return tuple(Level(4 * 2**i, self.width) for i in range(4))


class Patches(nnx.Module):
    def __init__(self, config, *, dtype="float32", remat=False, rngs):
        self.levels = config.levels
        strides = [level.stride for level in self.levels]
        self.convs = nnx.List([nnx.Conv(3, config.width, (s, s), strides=s, rngs=rngs) for s in strides])

    def __call__(self, images, pass_=Pass()):
        return tuple(conv(images) for conv in self.convs)

    def frozen(self):
        return ()
"""


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A model directory beside the module of its backbone."""
    (tmp_path / "patches_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("patches_of_mine")
    config = small_config(num_classes=3, **{"backbone.width": 64, "backbone.norm": "frozen_bn"}).replace(
        {"backbone": "patches", "backbone.width": 12}
    )
    model = random_model(config)
    jmr.save_model(model, tmp_path / "model")
    yield tmp_path, model
    parts._FAMILIES[BackboneConfig].pop("patches")
    del sys.modules["patches_of_mine"]


def run(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "jaxmaskrcnn", *words], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_it_is_read_back(saved):
    folder, model = saved
    again = jmr.load_model(folder / "model")
    assert again.config == model.config and again.config.backbone.width == 12
    for name, value in flat(model).items():
        np.testing.assert_array_equal(flat(again)[name], value)


@pytest.mark.slow  # the tests above read the same model in this process
def test_commands_of_another_process(saved):
    folder, _ = saved
    words = ["export", "model", "a.npz", "--format=detectron2"]
    done = run(folder, *words)
    assert done.returncode == 2 and not (folder / "a.npz").exists()
    assert done.stderr.endswith(
        "model.json: backbone is a 'patches', whose class is in the module patches_of_mine; import that "
        "first (for a command: --import=patches_of_mine).\n"
    )
    # It is read now; what no library has is refused.
    done = run(folder, *words, "--import=patches_of_mine")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "PatchesConfig has no array names for other libraries" in done.stderr


def test_functions_for_files_of_other_libraries(saved, tmp_path):
    _, model = saved
    np.savez(tmp_path / "a.npz", **{"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)})
    for call in (
        lambda: jmr.load_backbone(model, tmp_path / "a.npz"),
        lambda: jmr.load_model(tmp_path / "a.npz", model.config),
        lambda: jmr.load_model(tmp_path / "model", bn_eps=1e-3),
    ):
        with pytest.raises(jmr.UserError) as error:
            call()
        assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_arguments_that_load_model_does_not_have(saved):
    folder, model = saved
    for name, said in (
        ("config", "is given as model"),
        ("epsilon", "its arguments are path, model, num_classes, allow_new"),
    ):
        with pytest.raises(TypeError, match=f"load_model has no argument '{name}'; .*{said}"):
            jmr.load_model(folder / "model", **{name: model.config})
    with pytest.raises(jmr.UserError, match="model is 3; give a preset's name, .*, a model directory, or"):
        jmr.load_model(folder / "model", 3)
