"""Runs of one and of two processes, as train.py starts them, give the same model."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import nnx
from folders import ROOT
from kills import PACE
from xla_flags import QUICK

from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.parallel import processes as distributed

SETTINGS = {
    "model.input.test_min_size": 64, "model.input.test_max_size": 64, "model.backbone.width": 8,
    "model.backbone.norm": "bn", "model.neck.norm": "none", "model.neck.channels": 8,
    "model.box.norm": "none", "model.mask.norm": "none", "model.rpn.pre_nms_train": 40,
    "model.rpn.pre_nms_test": 40, "model.rpn.post_nms_train": 20, "model.rpn.post_nms_test": 20,
    "model.rpn.batch_size": 16, "model.regions.batch_size": 8, "model.regions.positive_fraction": 0.5,
    "model.box.fc_dim": 8, "model.mask.dim": 8, "model.mask.convs": 1, "model.detections.per_image": 5,
    "model.detections.score_threshold": 0.0, "model.compute.dtype": "float64", "data.batch_size": 4,
    "data.eval_batch_size": 1, "data.min_sizes": "48,64", "data.max_size": 64,
    "data.shapes.train_images": 7, "data.shapes.eval_images": 5, "data.shapes.size": 64,
    "optimizer.learning_rate": 0.01, "optimizer.reference_batch_size": 0, "optimizer.warmup_steps": 0,
    "optimizer.schedule": "constant", "train.log_every": 1, "train.checkpoint_every": 2,
    "train.pictures": 1,
}  # fmt: skip


def environment(devices):
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    changes = {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "PYTHONPATH": str(ROOT),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }  # fmt: skip
    return {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"} | changes


def free_port():
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def launch(command, processes, devices):
    """Starts the processes of one run."""
    started, port = [], free_port()
    for i in range(processes):
        words = [*command]
        if processes > 1:
            words += [f"--coordinator_address=localhost:{port}", f"--num_processes={processes}"]
            words.append(f"--process_id={i}")
        started.append(
            subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment(devices), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    return started


def finish(started):
    """Waits for processes; returns what each printed."""
    try:
        printed = [process.communicate(timeout=500)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process in started), "\n".join(printed)
    return printed


def train_command(workdir, **changes):
    values = SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    return ["train.py", f"--workdir={workdir}", *(f"--config.{name}={v}" for name, v in values.items())]


def train(workdir, processes=1, devices=1, **changes):
    return finish(launch(train_command(workdir, **changes), processes, devices))


def variables(workdir):
    """Of the latest checkpoint."""
    with jax.enable_x64(True):  # reads float64 without a warning
        state = nnx.to_flat_state(nnx.state(latest_model(workdir)))
        return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in state}


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    # Numbers to compare: COCO has none (null) for a size of which there are no objects.
    return [{k: -1 if v is None else v for k, v in line.items() if k not in PACE} for line in found]


def assert_same_run(workdir, reference, tolerance=1e-6):
    got, want = variables(workdir), variables(reference)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=tolerance, atol=tolerance, err_msg=name)
    for a, b in zip(lines(workdir), lines(reference), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    detections = [json.loads((w / "detections.json").read_text()) for w in (workdir, reference)]
    assert len(detections[0]) == len(detections[1]) > 5
    for a, b in zip(*detections, strict=True):
        assert {k: a[k] for k in ("image_id", "category_id", "segmentation")} == {
            k: b[k] for k in ("image_id", "category_id", "segmentation")
        }
        assert a["score"] == pytest.approx(b["score"], rel=1e-5)
        assert a["bbox"] == pytest.approx(b["bbox"], rel=1e-4, abs=1e-3)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Four steps and two evaluations of one process with one device."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    train(workdir, train__steps=4, train__eval_every=2)
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The first two steps by two processes with two devices each."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    return workdir, train(workdir, 2, 2, train__steps=2, train__eval_every=2)


@pytest.mark.slow  # four processes that compile the detector, each on its own
def test_two_processes_and_then_one_with_four_devices_end_like_one_device(one, two, tmp_path):
    workdir, printed = two
    assert "by shard_map" in printed[0] and "step 2/2" in printed[0]
    assert "step" not in printed[1]  # one process tells
    assert list((workdir / "pictures").glob("*.png"))
    first = [line for line in lines(one) if line["step"] <= 2]
    for a, b in zip(lines(workdir), first, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    shutil.copytree(workdir, tmp_path / "run")
    train(tmp_path / "run", 1, 4, train__steps=4, train__eval_every=2)
    assert_same_run(tmp_path / "run", one)


@pytest.mark.slow
def test_a_run_of_one_process_is_continued_by_two(one, tmp_path):
    shutil.copytree(one, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    printed = train(tmp_path / "run", 2, 2, train__steps=4, train__eval_every=2)
    assert "Continuing from step 2" in printed[0]
    assert_same_run(tmp_path / "run", one)


@pytest.mark.slow
def test_pmap_in_two_processes_ends_like_one_device(one, tmp_path):
    train(tmp_path / "run", 2, 2, train__steps=4, train__eval_every=2, train__parallel="pmap")
    assert_same_run(tmp_path / "run", one)


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_saves_and_ends_both(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "run")
    command = train_command(tmp_path / "run", train__steps=10_000, train__checkpoint_every=10_000)
    started = launch(command, 2, 2)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while '"step": 4' not in metrics.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    started[1].send_signal(signal.SIGTERM)
    printed = finish(started)
    assert "Stopped by SIGTERM after step" in printed[0]
    saved = [int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()]
    assert f"after step {max(saved)};" in printed[0] and max(saved) > 3


@pytest.mark.slow
def test_two_processes_evaluate_like_one(one, tmp_path):
    (annotations,) = (one / "data").glob("shapes-*-5x*/annotations.json")
    results = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        command = [
            "evaluate.py", f"--checkpoint={one}", f"--annotations={annotations}",
            f"--images={annotations.parent / 'images'}", f"--output={output}",
        ]  # fmt: skip
        printed = finish(launch(command, processes, processes))
        assert "AP" in printed[0] and (processes == 1 or "AP" not in printed[1])
        results.append(json.loads((output / "metrics.json").read_text()))
    assert results[0] == results[1]


# -- joining


@pytest.mark.parametrize(
    "given, message",
    [
        (("node0:1", None, 0), "--num_processes is missing; give all of"),
        ((None, 2, None), "--coordinator_address and --process_id are missing"),
        (("node0:1", 2, 2), "--process_id is 2 and --num_processes is 2"),
        (("node0", 2, 1), "--coordinator_address is 'node0'"),
    ],
)
def test_arguments_that_do_not_go_together(given, message):
    with pytest.raises(UserError, match=message):
        distributed.initialize(*given)


def test_an_ordinary_machine_and_a_shell_in_an_allocation_are_single_processes():
    assert distributed.cluster({}) is None
    assert distributed.cluster({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) is None
    assert distributed.cluster({"SLURM_STEP_NODELIST": "n0", "SLURM_NTASKS": "1"}) is None
    assert distributed.cluster({"SLURM_STEP_NODELIST": "n[0-1]", "SLURM_NTASKS": "2"}) == "SLURM"
    assert distributed.cluster({"TPU_ML_PLATFORM": "JAX"}) == "TPU"


def test_mpirun_that_does_not_tell_its_first_host_asks_for_it(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)

    def fail():
        raise ValueError("coordinator_address should be defined.")

    # JAX joins processes only before it is used, and the tests have used it.
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match="Open MPI started several processes.*give --coordinator_address"):
        distributed.initialize()


def test_slurm_variables_are_enough():
    """Two processes find each other by what srun sets."""
    code = (
        "from jaxmaskrcnn.parallel import processes as d; import jax; d.initialize();"
        "print(d.gather_json({'me': [jax.process_index()] * 3}), d.all_rows(jax.numpy.arange(2)))"
    )
    started, port = [], str(free_port())
    for i in range(2):
        variables = environment(1) | {
            "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_STEP_NUM_NODES": "1",
            "JAX_COORDINATOR_PORT": port,
        }  # fmt: skip
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code], env=variables, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    for printed in finish(started):
        assert "[{'me': [0, 0, 0]}, {'me': [1, 1, 1]}] [0 1 0 1]" in printed
