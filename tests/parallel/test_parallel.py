"""One step, however it is run: eight virtual devices in a process of their own, and the parts."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from folders import TESTS

from jaxmaskrcnn.config import ConfigError
from jaxmaskrcnn.models.norm import BatchNorm, synchronise
from jaxmaskrcnn.parallel.layout import Layout

COUNTS = (1, 2, 4, 8)
STAND_INS = [
    "jit,1,0",
    *(f"{kind},{n},{db}" for kind in ("shard_map", "pmap") for n in (1, 8) for db in (0, 1)),
    "sharded,1,0",
    "sharded,8,1",
]
OTHER_COUNTS = [f"{kind},{n},{db}" for kind in ("shard_map", "pmap") for n in (2, 4) for db in (0, 1)]
DETECTIONS = ["1,1", "1,3", "8,1", "8,16", "4,3"]


def on_eight_devices(folder, cases):
    """Runs cases of eight_devices.py; returns what it found, by case."""
    file = folder / "results.json"
    variables = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    variables.pop("JAX_NUM_CPU_DEVICES", None)
    command = [sys.executable, "-W", "error", str(TESTS / "eight_devices.py"), str(file), *cases]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def assert_equal_runs(got, want, tolerance):
    for a, b in zip(got["losses"], want["losses"], strict=True):
        assert a == pytest.approx(b, rel=tolerance)
    assert got["variables"].keys() == want["variables"].keys()
    for name, value in want["variables"].items():
        np.testing.assert_allclose(
            got["variables"][name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    cases = [f"stand_in,{case}" for case in STAND_INS] + [f"detections,{case}" for case in DETECTIONS]
    return on_eight_devices(tmp_path_factory.mktemp("eight"), cases)


@pytest.mark.parametrize("case", STAND_INS[1:])
def test_the_stand_in_learns_the_same_however_it_is_run(results, case):
    check_stand_in(results, case)


@pytest.mark.slow
def test_the_stand_in_learns_the_same_on_two_and_four_devices(tmp_path):
    results = on_eight_devices(tmp_path, [f"stand_in,{case}" for case in (STAND_INS[0], *OTHER_COUNTS)])
    for case in OTHER_COUNTS:
        check_stand_in(results, case)
        assert results[f"stand_in,{case}"]["compilations"] == 1


def check_stand_in(results, case):
    got, want = results[f"stand_in,{case}"], results["stand_in,jit,1,0"]
    if case.endswith(",1"):  # images one at a time; the running mean is then not compared
        want = {**want, "variables": {k: v for k, v in want["variables"].items() if k in got["variables"]}}
    assert_equal_runs(got, want, 1e-7)  # the stand-in's running mean is float32


@pytest.mark.parametrize("case", STAND_INS)
def test_the_step_is_compiled_once_on_any_number_of_devices(results, case):
    assert results[f"stand_in,{case}"]["compilations"] == 1


@pytest.mark.parametrize("case", DETECTIONS[1:])
def test_every_image_is_evaluated_once_on_any_number_of_devices(results, case):
    got, want = results[f"detections,{case}"], results["detections,1,1"]
    assert sorted(set(want["images"])) == list(range(1, 12))
    assert got["images"] == want["images"]
    for a, b in zip(got["found"], want["found"], strict=True):
        assert a["score"] == pytest.approx(b["score"], rel=1e-6)
        assert a["bbox"] == pytest.approx(b["bbox"], rel=1e-6)
        assert a["segmentation"] == b["segmentation"]


@pytest.mark.slow  # each case is a compilation; the stand-in above takes the same ways in a tenth of the time
def test_the_detector_learns_the_same_on_any_number_of_devices(tmp_path):
    """Ten steps with batch norm, images of different sizes, one without objects, one not valid."""
    many = [f"run,{kind},{n},10,0,float64,bn" for kind in ("shard_map", "pmap") for n in COUNTS]
    many += [f"run,sharded,{n},10,0,float64,bn" for n in (2, 8)]
    single = [f"run,{kind},{n},1,0,float32,bn" for kind in ("shard_map", "pmap") for n in (2, 8)]
    sliced = [
        f"run,{kind},{n},10,2,float64,frozen_bn" for kind, n in (("jit", 1), ("pmap", 2), ("shard_map", 2))
    ]
    whole = ["run,jit,1,10,0,float64,bn", "run,jit,1,1,0,float32,bn", "run,jit,1,10,0,float64,frozen_bn"]
    results = on_eight_devices(tmp_path, [*whole, *many, *single, *sliced])
    steps = results[whole[0]]["losses"]
    assert len({step["loss"] for step in steps}) == 10 and all(step["loss_mask"] > 0 for step in steps)
    for want, group in zip(whole, (many, single, sliced), strict=True):
        for case in group:
            assert_equal_runs(results[case], results[want], 1e-5)


@pytest.mark.slow
def test_a_split_state_is_saved_on_some_devices_and_read_on_others(tmp_path):
    cases = {f"checkpoint,{a},{b}": (a, b) for a, b in ((8, 8), (8, 2), (2, 8), (8, 1))}
    results = on_eight_devices(tmp_path, cases)
    expected = results["checkpoint,8,8"]["variables"]
    for case, counts in cases.items():
        found = results[case]
        assert found["same"]
        # Small arrays whose sides no number of devices divides are on all of them.
        for share, devices in zip(found["held"], counts, strict=True):
            assert share == pytest.approx(1 / devices, rel=0.2)
        for name, value in expected.items():
            np.testing.assert_allclose(found["variables"][name], value, rtol=1e-8, atol=1e-8)


# -- batch norm


def masked_batch(replicas=2):
    """Images whose masks leave very different numbers of cells."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * replicas, 4, 5, 3)).astype(np.float32) * 3 + 1
    mask = rng.random((2 * replicas, 4, 5, 1)) < np.linspace(0.05, 1, 2 * replicas)[:, None, None, None]
    return jnp.asarray(x), jnp.asarray(mask)


def norm(x, mask, axis_name=None):
    layer = BatchNorm(3, rngs=nnx.Rngs(0))
    synchronise(layer, axis_name)
    y = layer(x, mask, train=True)
    return jnp.where(mask, y, 0), layer.mean[...], layer.var[...]


def test_batch_norm_counts_what_the_mask_leaves():
    x, mask = masked_batch()
    y, mean, var = norm(x, mask)
    seen = np.asarray(x, np.float64)[np.asarray(mask)[..., 0]]  # [cells, C]
    np.testing.assert_allclose(mean, 0.1 * seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.9 + 0.1 * seen.var(0), rtol=1e-5)
    wanted = (np.asarray(x) - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5)
    np.testing.assert_allclose(y, np.where(mask, wanted, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_batch_norm_over_devices_is_that_of_the_whole_batch(replicas):
    x, mask = masked_batch(replicas)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)

    def total(x, mask, weight, axis_name=None):
        y, *running = norm(x, mask, axis_name)
        return (jnp.sin(y) * weight).sum(), (y, running)

    split = [a.reshape(replicas, -1, *a.shape[1:]) for a in (x, mask, weight)]
    mapped = jax.vmap(
        jax.value_and_grad(lambda *a: total(*a, axis_name="batch"), has_aux=True), axis_name="batch"
    )
    (_, (y, running)), grad = mapped(*split)
    (_, (whole_y, whole_running)), whole_grad = jax.value_and_grad(total, has_aux=True)(x, mask, weight)
    np.testing.assert_allclose(y.reshape(x.shape), whole_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grad.reshape(x.shape), whole_grad, rtol=1e-4, atol=1e-5)
    for got, want in zip(running, whole_running, strict=True):
        np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), rtol=1e-5)


def test_batch_norm_without_any_cell_keeps_its_statistics_and_gradients_finite():
    x, mask = masked_batch()

    def total(x):
        y, mean, var = norm(x, jnp.zeros_like(mask))
        return y.sum(), (mean, var)

    grad, (mean, var) = jax.grad(total, has_aux=True)(x)
    np.testing.assert_array_equal(mean, np.zeros(3))
    np.testing.assert_array_equal(var, np.ones(3))
    assert np.isfinite(grad).all()


# -- settings


def test_layouts_that_cannot_work():
    with pytest.raises(ConfigError, match="train.parallel is 'ddp'; choose one of 'auto', 'jit'"):
        Layout("ddp")
    with pytest.raises(ConfigError, match="'jit', which runs on one device, and there are 2"):
        Layout("jit", jax.devices() * 2)


def test_a_batch_that_the_devices_cannot_share():
    layout = Layout("auto", jax.devices()[:1])
    layout.devices *= 3
    with pytest.raises(ConfigError, match="data.batch_size is 8, which 3 devices cannot share equally"):
        layout.check_batch(8)
