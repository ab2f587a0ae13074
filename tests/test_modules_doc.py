"""docs/modules.md: its session runs, prints what it says, and the parts that it puts in do their work."""

import contextlib
import dataclasses
import io
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pages import ROOT, blocks

import jaxmaskrcnn as jmr
from jaxmaskrcnn.models import Pass
from jaxmaskrcnn.models.backbones.resnet import ResNet
from jaxmaskrcnn.models.heads.mask import MaskHead

pytestmark = pytest.mark.slow  # a minute: models of full width are built and compiled

PAGE = ROOT / "docs" / "modules.md"


@pytest.fixture(scope="module")
def session(quick_compilation, tmp_path_factory):
    """The names of the session at its end, and the model's parameters before it was trained."""
    module = types.ModuleType("session")  # so that a class can be found by its place, "session:Class"
    names = vars(module)
    sys.modules["session"] = module
    with contextlib.chdir(tmp_path_factory.mktemp("session")):
        for block in blocks(PAGE):
            assert block.language == "python" and block.reason is None
            printed = io.StringIO()
            if "optimizer.init" in block.text:
                before = nnx.state(names["model"], nnx.Param)
                names["untrained"] = jax.tree.map(np.asarray, before)
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, f"{PAGE.name}:{block.line}", "exec"), names)
            expected = re.findall(r"^print\(.*\)(?:  |\n)# (.*)$", block.text, re.M)
            assert printed.getvalue().splitlines() == expected, f"{PAGE.name}:{block.line}"
    yield names
    del sys.modules["session"]


def test_the_page_prints_what_it_says(session):
    assert sum("print(" in block.text for block in blocks(PAGE)) >= 9


def test_new_parts_are_in_and_learn(session):
    model = session["model"]
    assert not isinstance(model.mask_head, MaskHead) and not isinstance(model.backbone.body, ResNet)
    after = nnx.to_flat_state(nnx.state(model, nnx.Param))
    still = [
        path for path, value in after
        if (np.asarray(value[...]) == dict(nnx.to_flat_state(session["untrained"]))[path][...]).all()
    ]  # fmt: skip
    assert not still
    assert all(np.isfinite(x) for x in session["losses"].values())


def test_the_new_backbone_does_not_see_the_canvas(session):
    """What its comment promises."""
    body, images = jax.jit(session["model"].backbone.body), session["batch"].images
    larger = jnp.pad(jnp.asarray(images), ((0, 0), (0, 32), (0, 64), (0, 0)))
    alone, leaking = body(images), body(larger)
    padded = body(larger, Pass(jnp.array([[64, 96], [64, 96]])))
    for a, b in zip(alone, padded, strict=True):
        np.testing.assert_allclose(b[:, : a.shape[1], : a.shape[2]], a, atol=1e-5)
    assert abs(np.asarray(leaking[0][:, :16, :24] - alone[0])).max() > 1e-3


def test_another_side_of_the_masks(session):
    """The table says that M is free."""

    class Coarse(type(session["model"].mask_head)):
        def __call__(self, regions):
            return regions[..., :3]

    model, config = nnx.clone(session["model"]), session["config"]
    model.mask_head = Coarse(config.mask, 16, config.num_classes, rngs=nnx.Rngs(0))

    def both(batch):
        return model.detect(batch).masks, model.loss_terms(batch, train=False)["loss_mask"].total

    masks, total = jax.eval_shape(both, session["batch"])
    assert masks.shape[2:] == (14, 14) and total.shape == ()


def test_a_changed_model_is_not_mistaken_for_its_config(session, tmp_path):
    """What the page says of saving."""
    with pytest.raises(jmr.UserError, match="are not those that its config builds"):
        jmr.save_model(session["model"], tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert session["own"].backbone == session["ConvNeXtConfig"](widths=(8, 16, 32, 64))
    assert dataclasses.is_dataclass(session["config"])
