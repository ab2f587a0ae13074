"""A model in float64 is refused where JAX would compute it in float32."""

import jax
import pytest
from detectors import random_model, small_config
from flax import nnx

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.cli import main as program
from jaxmaskrcnn.config import Config, ConfigError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import init_model
from jaxmaskrcnn.training.dry_run import dry_run
from jaxmaskrcnn.training.loop import train_and_evaluate

CONFIG = small_config(**{"backbone.depth": 18, "compute.dtype": "float64"})
SAID = (
    "compute.dtype is float64, which JAX computes only with JAX_ENABLE_X64=1 in the environment; set that or "
    "choose float32."
)


def refusal(call, *arguments, **keywords):
    with pytest.raises(ConfigError) as error:
        call(*arguments, **keywords)
    return str(error.value)


def test_models_in_float64():
    abstract = lambda config: nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))  # noqa: E731
    assert refusal(abstract, CONFIG) == SAID
    assert refusal(init_model, CONFIG, 0) == SAID
    with jax.enable_x64(True):
        assert abstract(CONFIG).rpn.cls_logits.kernel.dtype == "float64"
    for dtype in ("float32", "bfloat16"):
        abstract(CONFIG.replace({"compute.dtype": dtype}))


def test_models_in_float64_that_are_read(tmp_path):
    with jax.enable_x64(True):
        save_model(random_model(CONFIG), tmp_path / "model")
    assert refusal(load_model, tmp_path / "model") == SAID


@pytest.mark.parametrize("start", [train_and_evaluate, dry_run])
def test_runs_in_float64(tmp_path, start):
    config = Config()
    config.data.source = "coco"  # of which there is nothing here: the precision is checked before the data
    config.model.architecture = config.model.architecture.replace({"compute.dtype": "float64"})
    config.data.train_annotations = config.data.eval_annotations = str(tmp_path / "none.json")
    config.data.train_images = config.data.eval_images = str(tmp_path / "none")
    assert refusal(start, config, tmp_path / "run") == SAID
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    arguments = ["--config.model.compute.dtype=float64", f"--workdir={tmp_path / 'run'}"]
    assert program.main(["train", *arguments]) == 2
    assert capsys.readouterr().err.strip().endswith(SAID)
    assert list(tmp_path.iterdir()) == []
