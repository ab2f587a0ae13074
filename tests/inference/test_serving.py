"""A prediction of fixed shapes: what it returns, and that another process has the same from a folder."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detectors import Stub, random_model, small_config
from flax import nnx

import jaxmaskrcnn as jmr
from jaxmaskrcnn.data.preprocess import eval_size
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import postprocess
from jaxmaskrcnn.inference.quantise import Quantised, quantise, quantise_all
from jaxmaskrcnn.inference.resizing import compiled_size
from jaxmaskrcnn.inference.serving import load_serving, serving_function
from jaxmaskrcnn.structures import Batch, Detections

flatbuffers = pytest.importorskip("flatbuffers", reason="the extra [export] is not installed")

CANVAS = (64, 96)
# Another process, in which neither this package nor Flax can be imported; docs/serving.md has the same lines.
READER = """
import json, sys
sys.modules |= dict.fromkeys(("jaxmaskrcnn", "flax", "orbax"))
import jax, numpy as np
from jax import export
jax.config.update("jax_compilation_cache_dir", sys.argv[1] + "/compiled")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
with open(sys.argv[1] + "/program.stablehlo", "rb") as file:
    program = export.deserialize(bytearray(file.read()))
with np.load(sys.argv[1] + "/weights.npz") as file:
    weights = [file[name] for name in file.files]
with open(sys.argv[1] + "/compiler_options.json") as file:
    options = json.load(file)
given = np.load(sys.argv[2])
before = set(__import__("os").listdir(sys.argv[1] + "/compiled"))
found = jax.jit(program.call, compiler_options=options)(weights, given["images"], given["image_sizes"])
assert {n for n in __import__("os").listdir(sys.argv[1] + "/compiled") if "-cache" in n} <= before
np.savez(sys.argv[3], **found)
"""


@pytest.fixture(scope="module")
def stub():
    return Stub(small_config(num_classes=2, **{"input.test_min_size": 64, "input.test_max_size": 96}))


def given(count=2, size=CANVAS, seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(size[0] // 2, size[0] + 1, count), rng.integers(8, size[1] + 1, count)], 1)
    return rng.integers(0, 256, (count, *size, 3), dtype=np.uint8), sizes.astype(np.int32)


def expected(model, images, sizes):
    batch = Batch(images, sizes, sizes, sizes, np.full(len(sizes), -1), np.ones(len(sizes), bool))
    return jax.jit(lambda model, batch: model.detect(batch))(model, batch)._asdict()


def assert_same(found, wanted, **tolerance):
    assert {name for name, x in wanted.items() if x is not None} == set(found)
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], err_msg=name, **tolerance)


def test_the_models_detections_and_masks_as_bits(stub):
    images, sizes = given()
    probs, bits = (serving_function(stub, CANVAS, 2, masks=form) for form in ("probs", "bits"))
    wanted = expected(stub, images, sizes)
    found = probs(images, sizes)
    assert_same(found, wanted, rtol=1e-6)
    assert {name: x.shape for name, x in probs.outputs.items()} == {n: x.shape for n, x in found.items()}
    assert set(serving_function(stub, CANVAS, 2, masks="none").outputs) == set(found) - {"masks"}

    packed = bits(images, sizes)["masks"]
    assert packed.shape == (2, 4, 64, 12) and packed.dtype == np.uint8
    for i in range(2):
        one = Detections(*(None if x is None else np.asarray(x[i]) for x in wanted.values()))
        one = one._replace(valid=np.ones(4, bool))
        pasted = postprocess(one, CANVAS, CANVAS, stub.config)["masks"]
        assert pasted.any() and not pasted.all()
        np.testing.assert_array_equal(np.unpackbits(packed[i], axis=-1).astype(bool), pasted)


@pytest.mark.slow  # another process imports JAX
def test_another_process_without_the_package_loads_it_compiled(stub, tmp_path):
    images, sizes = given()
    function = serving_function(stub, CANVAS, 2)
    function.save(tmp_path / "served")
    wanted = function(images, sizes)
    assert_same(load_serving(tmp_path / "served")(images, sizes), wanted, rtol=1e-6)
    np.savez(tmp_path / "given.npz", images=images, image_sizes=sizes)
    environment = os.environ | {"PYTHONPATH": str(Path(flatbuffers.__file__).parents[1])}
    words = [sys.executable, "-c", READER, tmp_path / "served", tmp_path / "given.npz", tmp_path / "out.npz"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    assert_same(dict(np.load(tmp_path / "out.npz")), wanted, rtol=1e-6)


def test_loading_leaves_the_compilation_cache_as_it_was(stub, tmp_path):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    serving_function(stub, CANVAS).save(tmp_path / "served")
    load_serving(tmp_path / "served")
    after = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    assert after == before


def test_kernels_in_8_bits():
    rng = np.random.default_rng(0)
    kernel = (rng.normal(size=(3, 3, 16, 8)) * np.geomspace(1e-3, 10, 8)).astype(np.float32)
    kernel[..., 3] = 0
    values, scales = quantise(kernel)
    assert values.dtype == np.int8 and scales.shape == (8,)
    apart = np.abs(np.asarray(Quantised(values, scales).kernel()) - kernel).max(axis=(0, 1, 2))
    assert (apart <= 0.5001 * scales).all() and (apart[[0, 7]] > 0.4 * scales[[0, 7]]).all()
    bias, other = np.zeros(2000, np.float32), np.zeros((50, 50), np.int32)
    kept = quantise_all([kernel, bias, other, kernel[:1, :1]])
    assert isinstance(kept[0], Quantised) and kept[1] is bias and kept[2] is other
    assert not isinstance(kept[3], Quantised)  # it is small


class Product(Stub):
    """The stub, whose scores come from a kernel that is large enough for 8 bits."""

    def __init__(self, config):
        super().__init__(config)
        self.kernel = nnx.Param(jnp.linspace(0.5, 1.0, 4) * jnp.linspace(0.3, 1, 512)[:, None])

    def detect(self, batch):
        found = super().detect(batch)
        return found._replace(scores=found.scores * self.kernel[...].mean(0))


def test_a_function_with_weights_in_8_bits(tmp_path):
    model = Product(small_config(num_classes=2))
    images, sizes = given()
    functions = [serving_function(model, CANVAS, 2, weights=kind) for kind in ("float32", "int8")]
    exact, close = (np.asarray(function(images, sizes)["scores"]) for function in functions)
    np.testing.assert_allclose(close, exact, rtol=4e-3)
    assert (close != exact).any()
    files = [tmp_path / kind / "weights.npz" for kind in ("float32", "int8")]
    for function, file in zip(functions, files, strict=True):
        function.save(file.parent)
    assert files[0].stat().st_size - files[1].stat().st_size > 0.7 * 4 * 2048
    again = load_serving(tmp_path / "int8")(images, sizes)
    np.testing.assert_allclose(again["scores"], close, rtol=1e-6)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(UserError, match="weights.npz has other arrays than program.stablehlo"):
        load_serving(tmp_path / "int8")


@pytest.mark.slow  # compiles the whole model three times
@pytest.mark.parametrize("library", ["torchvision", "detectron2"])
def test_resizing_inside_is_predicting(library):
    rules = {
        "torchvision": {"input.resize_kernel": "torch"},
        "detectron2": {
            "input.resize_kernel": "pil",
            "input.size_rule": "round_two_steps",
            "detections.rescale_rule": "multiply_and_clip",
            "detections.paste_rule": "grid_sample",
        },
    }[library]
    config = small_config(num_classes=2, **rules, **{"detections.score_threshold": 0.05})
    model = random_model(config)
    images, sizes = given(size=(50, 80), seed=3)
    function = serving_function(model, batch=2, masks="bits", resize=(50, 80))
    found = function(images, sizes)
    for i, (height, width) in enumerate(sizes.tolist()):
        out = jmr.Predictor(model, 0.05)(images[i, :height, :width])
        valid = np.asarray(found["valid"][i])
        assert len(out["boxes"]) == valid.sum() > 0
        np.testing.assert_allclose(np.asarray(found["boxes"][i])[valid], out["boxes"], atol=0.2)
        masks = np.unpackbits(np.asarray(found["masks"][i])[valid], axis=-1)[:, :height, :width]
        assert (masks.astype(bool) != out["masks"]).mean() < 0.01


def test_sizes_are_computed_as_by_the_host_within_a_pixel():
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 3000, (300, 2)).astype(np.int32)
    for rule, most in (("truncate", 0.08), ("round", 0), ("round_two_steps", 0.01)):
        config = small_config(**{"input.size_rule": rule}).replace(
            {"input.test_min_size": 800, "input.test_max_size": 1333}
        )
        host = np.array([eval_size(config, int(h), int(w)) for h, w in sizes])
        apart = np.abs(np.asarray(compiled_size(jnp.asarray(sizes), config)) - host)
        assert apart.max() <= 1 and apart.any(axis=1).mean() <= most


def test_mistakes(stub, tmp_path, monkeypatch):
    function = serving_function(stub, CANVAS)
    with monkeypatch.context() as patch:  # a machine without the package
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        for refused in (function.save, load_serving):
            with pytest.raises(UserError, match="flatbuffers, which is not installed; run pip install"):
                refused(tmp_path / "served")
    assert not (tmp_path / "served").exists()
    with pytest.raises(UserError, match=r"images is float64 \[2, 64, 96, 3\]; give uint8 \[1, 64, 96, 3\]"):
        function(np.zeros((2, *CANVAS, 3)), np.zeros((1, 2), np.int32))
    with pytest.raises(UserError, match="masks is 'rle'; choose one of 'probs', 'bits', 'none'"):
        serving_function(stub, CANVAS, masks="rle")
    with pytest.raises(UserError, match="the batch is 0"):
        serving_function(stub, CANVAS, 0)
    with pytest.raises(UserError, match="resize is"):
        serving_function(stub, CANVAS, resize=(0, 4))
    odd = Stub(stub.config.replace({"detections.rescale_rule": "last_pixels"}))
    with pytest.raises(UserError, match="detections.rescale_rule is 'last_pixels', which is not compiled"):
        serving_function(odd, CANVAS, resize=(4, 4))
    with pytest.raises(UserError, match="weights is 'int4'; choose one of 'float32', 'int8'"):
        serving_function(stub, CANVAS, weights="int4")
    with pytest.raises(UserError, match="The model is 'models/shapes'; give a detector, such as"):
        serving_function("models/shapes", CANVAS)
    images, _ = given(1)
    for size in ([0, 8], [8, 97], [-1, 8]):
        with pytest.raises(UserError, match=r"image_sizes\[0\] is .*; give a height and .* to \[64, 96\]"):
            function(images, np.array([size], np.int32))
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there exists"):
        function.save(tmp_path / "there")
    with pytest.raises(UserError, match="weights.npz|program.stablehlo"):
        load_serving(tmp_path / "there")
    (tmp_path / "there" / "program.stablehlo").write_bytes(b"nothing")
    with pytest.raises(UserError, match="holds damaged files"):
        load_serving(tmp_path / "there")


def test_make_batch_on_a_larger_canvas(stub):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    own, larger = jmr.make_batch(stub, [image]), jmr.make_batch(stub, [image], canvas=(128, 192))
    assert larger.images.shape == (1, 128, 192, 3)
    np.testing.assert_array_equal(own.extents, larger.extents)
    height, width = own.images.shape[1:3]
    np.testing.assert_array_equal(larger.images[:, :height, :width], own.images)
    assert not larger.images[:, height:].any() and not larger.images[:, :, width:].any()
    for canvas in ((32, 192), (129, 192)):
        with pytest.raises(UserError, match=f"canvas is {canvas[0]} x 192"):
            jmr.make_batch(Stub(stub.config.replace({"input.pad_divisor": 32})), [image], canvas=canvas)
