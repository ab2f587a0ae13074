"""C2 to C5 against torchvision's ResNets; a wrong stride, padding, epsilon or kernel order fails."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from folders import GOLDENS
from goldens.seeded_weights import seeded_images, seeded_weight

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.backbone import load_backbone
from jaxmaskrcnn.models.backbones.resnet import ResNet

GOLDEN = np.load(GOLDENS / "torchvision_resnet.npz")
CASES = sorted({name.split("/")[0] for name in GOLDEN.files})


class Holder(nnx.Module):
    """What `load_backbone` needs of a detector."""

    def __init__(self, config):
        self.config = config
        self.backbone = nnx.Module()
        self.backbone.body = ResNet(config.backbone, rngs=nnx.Rngs(0))


@functools.cache
def weights(folder, case):
    """A file of seeded weights under torchvision's names."""
    path = Path(folder) / f"resnet{int(GOLDEN[f'{case}/settings'][0])}.npz"
    if not path.exists():
        shapes = json.loads(str(GOLDEN[f"{case}/names"]))
        np.savez(path, **{name: seeded_weight(name, tuple(shape)) for name, shape in shapes.items()})
    return path


@functools.cache
def stages(folder, case, norm="frozen_bn"):
    """C2 to C5 of this library's ResNet under a case's settings."""
    depth, stride_in_1x1, epsilon, height, width = GOLDEN[f"{case}/settings"].tolist()
    config = ModelConfig().replace(
        {
            "backbone.depth": int(depth),
            "backbone.stride_in_1x1": bool(stride_in_1x1),
            "backbone.norm_epsilon": epsilon,
            "backbone.norm": norm,
        }
    )
    # Zeros in place of random weights: drawing those takes longer than the test.
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: Holder(config)))
    model = nnx.merge(graphdef, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    load_backbone(model, weights(folder, case))
    images = seeded_images(int(height), int(width))
    with jax.default_matmul_precision("highest"):
        features = jax.jit(lambda m, x: m(x))(model.backbone.body, images)
    return [np.asarray(x) for x in features]


def relative_errors(features, case):
    """Largest error of each stage, relative to its largest recorded value."""
    errors = []
    for i, x in enumerate(features, start=2):
        index, expected = GOLDEN[f"{case}/C{i}/index"], GOLDEN[f"{case}/C{i}/values"]
        assert x.shape == tuple(GOLDEN[f"{case}/C{i}/shape"])
        errors.append(np.abs(x.ravel()[index] - expected).max() / np.abs(expected).max())
    return errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("resnet"))


@pytest.mark.slow_except("resnet18", "resnet18_odd")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if case in ("resnet50_1x1", "resnet50_eps0") else ())
        for case in CASES
    ],
)
def test_features_equal_torchvision(folder, case):
    assert max(relative_errors(stages(folder, case), case)) < 1e-4


def test_ordinary_batch_norm_at_test_time(folder):
    assert max(relative_errors(stages(folder, "resnet18", "bn"), "resnet18")) < 1e-4


@pytest.mark.parametrize("other", ["resnet50_1x1", "resnet50_eps0"])
def test_the_golden_tells_conventions_apart(folder, other):
    assert max(relative_errors(stages(folder, "resnet50"), other)) > 1e-2
