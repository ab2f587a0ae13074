"""The wheel: what is in it, and that it works alone, from an empty directory."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from setuptools import find_packages

import jaxmaskrcnn
from jaxmaskrcnn.config.recipe_files import list_recipes

ROOT = Path(__file__).parents[1]
# The quickstart, as small as it can be.
TINY = {
    "model.backbone.width": 8, "model.neck.channels": 8, "model.box.fc_dim": 8, "model.mask.dim": 8,
    "model.mask.convs": 1, "model.rpn.pre_nms_train": 50, "model.rpn.pre_nms_test": 50,
    "model.rpn.post_nms_train": 10, "model.rpn.post_nms_test": 10, "model.detections.per_image": 5,
    "model.input.test_min_size": 64, "model.input.test_max_size": 64,
    "model.detections.score_threshold": 0.0, "data.batch_size": 2, "data.eval_batch_size": 2,
    "data.min_sizes": 64, "data.max_size": 64, "data.shapes.train_images": 4, "data.shapes.eval_images": 2,
    "data.shapes.size": 64, "optimizer.warmup_steps": 0, "train.steps": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as a build leaves folders behind in its source."""
    folder = tmp_path_factory.mktemp("wheel")
    # What git knows of, and files that are not committed yet.
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in listed.stdout.splitlines():
        if name.startswith(("jaxmaskrcnn/", "configs/")) or "/" not in name and (ROOT / name).is_file():
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, folder / "source"],
        capture_output=True, text=True,
    )  # fmt: skip
    if "No matching distribution found for setuptools" in done.stderr + done.stdout:
        pytest.skip("setuptools, which builds the wheel, cannot be downloaded here")
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_the_recipes(wheel):
    assert wheel.name == f"jaxmaskrcnn-{jaxmaskrcnn.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"jaxmaskrcnn/configs/{name}.py" for name in list_recipes()} | {"jaxmaskrcnn/py.typed"}
    for package in find_packages(str(ROOT), include=["jaxmaskrcnn*"]):
        folder = package.replace(".", "/")
        expected |= {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    assert names == expected


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The program of an environment that has the wheel, and beside it what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(here))
    python = folder / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "-I",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "bin" / "jaxmaskrcnn"


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_directory(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")

    def run(*words, code=0):
        done = subprocess.run(
            [installed, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    python = installed.with_name("python")
    where = [python, "-c", "import jaxmaskrcnn; print(jaxmaskrcnn.__file__)"]
    printed = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(printed.stdout.strip()).is_relative_to(installed.parents[1])

    assert run("--version") == f"jaxmaskrcnn {jaxmaskrcnn.__version__}\n"
    assert run("--help").startswith("usage: jaxmaskrcnn [-h]")
    assert ", ".join(list_recipes()) in run("train", "--config=none", code=2)
    assert "mask_rcnn_R_50_FPN_3x" in run("models", "R_50_FPN_3x")
    settings = [f"--config.{name}={value}" for name, value in TINY.items()]
    # Without a name it is the same recipe, and the same run, which has ended.
    assert "step  1/1" in run("train", "--config=shapes", *settings).replace("step 1/1", "step  1/1")
    assert (tmp_path / "runs" / "shapes" / "model" / "model.json").is_file()
    assert "Continuing from step 1" in run("train", *settings)
    (annotations,) = tmp_path.glob("runs/shapes/data/shapes-*-2x*/annotations.json")
    images = annotations.parent / "images"
    run("evaluate", "--checkpoint=runs/shapes", f"--annotations={annotations}", f"--images={images}",
        "--output=scores")  # fmt: skip
    assert "box_AP" in json.loads((tmp_path / "scores" / "metrics.json").read_text())
    run("predict", str(images), "--checkpoint=runs/shapes", "--score_threshold=0")
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 2
    run("export", "runs/shapes", "weights.npz", "--format=detectron2")
    assert (tmp_path / "weights.npz").is_file()
    words = ("export", "runs/shapes", "model.stablehlo", "--format=stablehlo", "--platforms=cpu")
    extra = subprocess.run([python, "-c", "import flatbuffers"], env=environment, capture_output=True)
    if extra.returncode:  # an extra of the package
        assert "pip install flatbuffers" in run(*words, code=2)
    else:
        assert "model.stablehlo: " in run(*words)
    run("inspect", str(annotations), f"--images={images}")
    run("report", "scores/detections.json", str(annotations), f"--images={images}", "--output=scores")
    run("plot", "runs/shapes")
    for file in ("contact_sheet.png", "scores/report.html", "runs/shapes/metrics.png"):
        assert (tmp_path / file).is_file()
