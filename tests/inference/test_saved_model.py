"""``export --format=savedmodel``: TensorFlow finds what the model finds, without this package."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from detectors import random_model, small_config

from jaxmaskrcnn.checkpoints.directory import save_model
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.inference.saved_model import portable_program
from jaxmaskrcnn.inference.serving import serving_function

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
CANVAS = (64, 96)
# Another process, in which neither this package nor JAX can be imported.
READER = """
import sys
sys.modules |= dict.fromkeys(("jaxmaskrcnn", "flax", "jax", "jaxlib"))
import numpy as np
import tensorflow as tf
given = np.load(sys.argv[2])
predict = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = predict(images=tf.constant(given["images"]), image_sizes=tf.constant(given["image_sizes"]))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in found.items()})
"""


@pytest.fixture(scope="module")
def model():
    return random_model(small_config())


@pytest.fixture(scope="module")
def given():
    """Two images of different sizes; around the second there is not zero but noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, *CANVAS, 3), dtype=np.uint8)
    return {"images": pixels, "image_sizes": np.array([[64, 96], [50, 64]], np.int32)}


def same(found, expected):
    assert found.keys() == expected.keys() and expected["valid"].any(1).all()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_program_without_composites_is_the_same(model, given):
    function = serving_function(model, CANVAS, 2)
    exported = function.export(["cpu"])
    assert "stablehlo.composite" in exported.mlir_module()
    portable = dataclasses.replace(exported, mlir_module_serialized=portable_program(exported))
    assert (
        "stablehlo.composite" not in portable.mlir_module()
        and b"StableHLO_v1.13" in portable.mlir_module_serialized
    )
    same(jax.device_get(jax.jit(portable.call)(*given.values())), jax.device_get(function(*given.values())))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="the extra [savedmodel] is not installed")
def test_tensorflow_finds_the_same(model, given, tmp_path, capsys):
    save_model(model, tmp_path / "model")
    words = ["export", str(tmp_path / "model"), str(tmp_path / "out" / "served"), "--format=savedmodel"]
    assert command([*words, "--batch=2", "--canvas=64x96"]) == 0
    assert "boxes        float32  [2, 6, 4]" in capsys.readouterr().out
    assert command(words) == 2 and "served exists; give another folder" in capsys.readouterr().err
    np.savez(tmp_path / "given.npz", **given)
    files = [tmp_path / "out" / "served", tmp_path / "given.npz", tmp_path / "found.npz"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", READER, *files], check=True, env=environment)
    expected = jax.device_get(serving_function(model, CANVAS, 2)(*given.values()))
    same(dict(np.load(tmp_path / "found.npz")), expected)


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
def test_without_tensorflow_it_is_refused(model, tmp_path, capsys):
    save_model(model, tmp_path / "model")
    folder = tmp_path / "served"
    assert command(["export", str(tmp_path / "model"), str(folder), "--format=savedmodel"]) == 2
    printed = capsys.readouterr().err
    assert "A SavedModel needs TensorFlow" in printed and len(printed.splitlines()) == 1
    assert not folder.exists()
