"""``export --format=stablehlo``: a file that JAX alone can run, with the detections of the model."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from detectors import Stub, random_model, small_config

from jaxmaskrcnn.checkpoints.directory import save_model
from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.serving import serving_function
from jaxmaskrcnn.inference.stablehlo import export_function
from jaxmaskrcnn.structures import Batch, Category

flatbuffers = pytest.importorskip("flatbuffers", reason="the extra [export] is not installed")

# Enough channels and cells for the convolutions that differ between platforms.
CANVAS = (128, 160)
CONFIG = small_config(
    num_classes=2,
    categories=(Category(4, "block"), Category(9, "slab")),
    **{"neck.channels": 32, "input.pad_divisor": 32},
)
# Another process, in which neither this package nor Flax can be imported.
READER = """
import sys
sys.modules |= dict.fromkeys(("jaxmaskrcnn", "flax", "orbax"))
import jax, numpy as np
from jax import export
with open(sys.argv[1], "rb") as file:
    predict = jax.jit(export.deserialize(file.read()).call)
given = np.load(sys.argv[2])
np.savez(sys.argv[3], **predict(given["images"], given["image_sizes"]))
"""


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    save_model(model, path)
    return path


def images():
    """Two images of different sizes; around the first there is not zero but noise."""
    sizes = np.array([[90, 100], [128, 160]], np.int32)
    return np.random.default_rng(1).integers(0, 256, (2, *CANVAS, 3), dtype=np.uint8), sizes


@pytest.mark.slow  # half a minute: another process compiles the model again
def test_a_process_without_the_package_gets_the_models_detections(model, directory, tmp_path, capsys):
    file = tmp_path / "out" / "detector.stablehlo"
    assert command(["export", str(directory), str(file), "--format=stablehlo", "--batch=2",
                    f"--canvas={CANVAS[0]}x{CANVAS[1]}", "--platforms=cpu,cuda,tpu"]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert f"{file}: {file.stat().st_size / 1e6:.1f} MB, for cpu, cuda, tpu." in printed
    assert (
        "images       uint8    [2, 128, 160, 3]" in printed and "boxes        float32  [2, 6, 4]" in printed
    )
    assert "Labels: 0 block, 1 slab" in printed
    config = model.config
    assert (
        f"short side of {config.input.test_min_size}, a long side up to {config.input.test_max_size}\n"
        in printed
    )
    exported = jax.export.deserialize(file.read_bytes())
    assert "stablehlo.case" in exported.mlir_module()  # the convolutions of each platform are there

    pixels, sizes = images()
    np.savez(tmp_path / "given.npz", images=pixels, image_sizes=sizes)
    environment = os.environ | {
        "PYTHONPATH": str(Path(flatbuffers.__file__).parents[1]),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir or tmp_path / "cache"),
    }
    words = [sys.executable, "-c", READER, file, tmp_path / "given.npz", tmp_path / "found.npz"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    found = np.load(tmp_path / "found.npz")

    batch = Batch(
        images=pixels, image_sizes=sizes, extents=np.array([[96, 128], [128, 160]], np.int32),
        original_sizes=sizes, index=np.zeros(2, np.int32), valid=np.ones(2, bool),
    )  # fmt: skip
    expected = jax.jit(lambda model, batch: model.detect(batch))(model, batch)._asdict()
    expected = {name: value for name, value in expected.items() if value is not None}
    assert set(found) == set(expected) and expected["valid"].any(1).all()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_without_a_mask_head_there_are_no_masks():
    faster = random_model(CONFIG.replace({"mask": None}))
    shapes = serving_function(faster, (64, 64), 3).outputs
    assert {name: x.shape for name, x in shapes.items()} == {
        "boxes": (3, 6, 4), "scores": (3, 6), "labels": (3, 6), "valid": (3, 6)
    }  # fmt: skip


def test_the_default_canvas_holds_every_image(tmp_path):
    config = CONFIG.replace({"input.test_min_size": 800, "input.test_max_size": 1333})
    report = export_function(Stub(config), tmp_path / "file")
    assert report.inputs["images"] == ("uint8", (1, 1344, 1344, 3))
    config = config.replace({"input.pad_divisor": 1})
    report = export_function(Stub(config), tmp_path / "file", canvas=(77, 91), platforms=("tpu",))
    assert report.inputs["images"][1] == (1, 77, 91, 3) and report.platforms == ("tpu",)


def mistake(capsys, *words):
    assert command(["export", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1
    return printed.err.removeprefix("jaxmaskrcnn export: ")


@pytest.mark.slow
def test_mistakes_leave_no_file(model, directory, tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    for option, said in (
        (
            "--canvas=100x128",
            "the canvas is 100x128, and its sides must be multiples of 32; give 128x128.",
        ),
        ("--canvas=0x0", "give 32x32."),
        ("--canvas=128", "--canvas is '128'; give a height and a width such as 832x1344."),
        ("--batch=0", "the batch is 0; give 1 or more."),
        ("--platforms=cpu,gpu", "the platforms are 'cpu,gpu'; give some of cpu, cuda, rocm, tpu."),
    ):
        assert said in mistake(capsys, directory, file, "--format=stablehlo", option)
    assert "--batch is only for stablehlo and savedmodel" in mistake(
        capsys, directory, file, "--format=detectron2", "--batch=0"
    )
    assert "is the model itself" in mistake(capsys, directory, directory, "--format=stablehlo")
    # Stands for a machine without the package.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "the package flatbuffers, which is not installed" in mistake(
        capsys, directory, file, "--format=stablehlo"
    )
    assert not file.exists()
    with pytest.raises(UserError, match="There is no format 'stablehlo'"):
        export_detector(model, file, "stablehlo")
