"""Models and runs that version 0.1.0 wrote (format 1) are read by every later version.

What is in fixtures/version1 was recorded once, by fixtures/version1/record.py with the code of that version.
"""

import json
import shutil
import zlib

import numpy as np
import pytest
from detectors import flat
from folders import TESTS
from small_runs import tiny_config

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.checkpoints.latest import latest_model
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.loop import train_and_evaluate

FOLDER = TESTS / "fixtures" / "version1"
EXPECTED = json.loads((FOLDER / "checksums.json").read_text())

pytestmark = pytest.mark.usefixtures("quick_compilation")


def checksums(model):
    """By the path of each array; a part that is given another name gets other checksums here."""
    return {name: f"{zlib.crc32(np.ascontiguousarray(x).tobytes()):08x}" for name, x in flat(model).items()}


@pytest.mark.parametrize(
    ("expected", "read", "path"),
    [
        ("model", load_model, "model"),
        ("best", load_model, "run"),
        ("final", load_model, "run/model"),
        ("latest", latest_model, "run"),
    ],
)
def test_every_array_is_what_was_saved(expected, read, path):
    assert checksums(read(FOLDER / path)) == EXPECTED[expected]


def test_the_categories_come_back():
    names = (Category(3, "disc"), Category(7, "box"), Category(9, "tent"))
    assert load_model(FOLDER / "model").categories == names


@pytest.mark.slow
def test_the_detections_of_a_picture():
    pixels = np.random.default_rng(5).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    pixels[8:40, 10:34] = (200, 30, 40)
    found = Predictor(load_model(FOLDER / "model"), score_threshold=0.0)(pixels)
    with np.load(FOLDER / "detections.npz") as expected:
        assert len(expected["scores"]) == 6
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-4)
        np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)
        assert (found["masks"] != expected["masks"]).mean() < 1e-3


@pytest.mark.slow
def test_a_run_goes_on(tmp_path):
    """For two steps more, from the data's position and the optimizer's state in the checkpoint."""
    workdir = tmp_path / "run"
    shutil.copytree(FOLDER / "run", workdir)
    before = (workdir / "metrics.jsonl").read_text()
    config = tiny_config(tmp_path / "cache", train__pictures=0, train__steps=8)
    narrow = {"backbone.depth": 18, "backbone.width": 2, "neck.channels": 4, "box.fc_dim": 4, "mask.dim": 4}
    config.model.architecture = config.model.architecture.replace(narrow)
    train_and_evaluate(config, workdir)
    text = (workdir / "metrics.jsonl").read_text()
    assert text.startswith(before)
    added = [json.loads(line) for line in text.removeprefix(before).splitlines()]
    losses = {line["step"]: line["loss"] for line in added if "loss" in line}
    assert losses == {8: pytest.approx(EXPECTED["loss of step 8"], rel=1e-3)}
