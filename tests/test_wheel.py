"""The wheel: what is in it, and that it works alone, from an empty directory."""

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from detectors import random_model
from PIL import Image
from setuptools import find_packages
from weights_server import weights_server

import jaxmaskrcnn
from jaxmaskrcnn.config.recipe_files import list_recipes
from jaxmaskrcnn.convert.export import export_detector

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


@pytest.mark.slow
def test_the_page_for_an_index_has_no_link_into_the_checkout(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        page = archive.read(name).decode()
    assert "Description-Content-Type: text/markdown" in page and "# jaxmaskrcnn" in page
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert all(target.startswith("https://") for target in targets)


def test_links_of_the_readme_on_an_index():
    index_page = runpy.run_path(str(ROOT / "setup.py"))["index_page"]
    readme = (
        "See [a *page*](docs/a.md#b) and [b](https://b.org).\n\n![A c](docs/c.png)\n\n*It shows\nc.*\n\nEnd."
    )
    assert index_page(readme, None) == "See a *page* and [b](https://b.org).\n\n\nEnd."
    assert index_page(readme, "https://r.org/me/it/") == (
        "See [a *page*](https://r.org/me/it/blob/HEAD/docs/a.md#b) and [b](https://b.org).\n\n"
        "![A c](https://r.org/me/it/raw/HEAD/docs/c.png)\n\n*It shows\nc.*\n\nEnd."
    )
    whole = index_page((ROOT / "README.md").read_text(), None)
    assert not re.search(r"\]\((?!https://)", whole) and "docs/images" not in whole


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


def with_md5(content, start):
    """The content and a number behind it, the first with which the MD5 begins so; 2 ** 24 for six digits."""
    begun, number = hashlib.md5(content), 0
    while True:
        end = number.to_bytes(8, "little")
        whole = begun.copy()
        whole.update(end)
        if whole.hexdigest().startswith(start):
            return content + end
        number += 1


@pytest.mark.slow
def test_one_command_from_a_name_to_a_picture(installed, tmp_path):
    """A server plays the published address: a file of full size with drawn weights, and the true MD5.

    What Detectron2's names tell of the MD5 is short enough to be found by trying numbers at the end of the
    file, which a pickle allows. So nothing is left out of what is checked for the real file.
    """
    name = "detectron2/mask_rcnn_R_50_FPN_3x"
    published = jaxmaskrcnn.model_info(name).weights
    model = random_model(jaxmaskrcnn.model_config(name))
    export_detector(model, tmp_path / "seeded.pkl", "detectron2")
    content = with_md5((tmp_path / "seeded.pkl").read_bytes(), published.checksum.start)
    (tmp_path / "seeded.pkl").unlink()
    assert 150 < len(content) / 2**20 < 200
    folder = tmp_path / "empty"
    folder.mkdir()
    slope = np.add.outer(np.arange(300), np.arange(400)) / 4
    Image.fromarray(np.stack([slope, slope[::-1], slope[:, ::-1]], -1).astype(np.uint8)).save(
        tmp_path / "photo.jpg"
    )
    words = [installed, "predict", tmp_path / "photo.jpg", f"--checkpoint={name}"]
    path = published.address.removeprefix("https:/")

    with weights_server() as server:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"JAXMASKRCNN_HOME": str(tmp_path / "home"), "JAXMASKRCNN_MIRROR": server.address}
        environment |= {"NO_PROXY": "127.0.0.1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}

        def run():
            start = time.perf_counter()
            done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            print(f"{time.perf_counter() - start:.0f} s: {done.stdout}", end="")
            return json.loads((folder / "predictions" / "predictions.json").read_text())

        # Stopped at half way.
        server.files[path], server.pause = content, 0.002
        process = subprocess.Popen(words, cwd=folder, env=environment)
        part = tmp_path / "home" / "weights" / f"{path[1:]}.part"
        while process.poll() is None and (not part.is_file() or part.stat().st_size < len(content) / 2):
            time.sleep(0.01)
        process.kill()
        process.wait()
        arrived = part.stat().st_size
        assert len(content) / 2 <= arrived < len(content) and not (folder / "predictions").exists()

        # The same command goes on, and draws.
        found = run()
        assert [asked.range for asked in server.asked] == [None, f"bytes={arrived}-"]
        names = {category.name for category in model.config.categories}  # of the name's preset: COCO's
        assert {entry["category_name"] for entry in found["annotations"]} & names
        with (
            Image.open(folder / "predictions" / "photo.png") as drawn,
            Image.open(tmp_path / "photo.jpg") as photo,
        ):
            plain = np.asarray(photo.resize(drawn.size), int)
            assert np.abs(np.asarray(drawn.convert("RGB"), int) - plain).mean() > 5

        # The next time nothing is asked, and it is the same.
        server.files.clear()
        assert run() == found
        assert len(server.asked) == 2
    print(f"{len(content) / 1e6:.1f} MB, stopped after {arrived / 1e6:.1f} MB")
