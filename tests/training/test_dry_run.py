"""`train.py --dry_run`: what it tells, what it refuses, and that it leaves nothing behind."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from data_helpers import random_set
from detectors import random_model
from folders import ROOT
from small_runs import tiny_config

from jaxmaskrcnn.config import Config, OptimizerConfig, TrainConfig
from jaxmaskrcnn.data import write_shapes
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training import dry_run, setup
from jaxmaskrcnn.training.dry_run import Compiled, class_lines, interesting_steps, schedule_lines
from jaxmaskrcnn.training.optimizer import learning_rate
from jaxmaskrcnn.training.run_config import to_model_config, write_settings

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(cache, tmp_path_factory):
    return random_model(config_of(tiny_config(cache), tmp_path_factory.mktemp("model")))


def config_of(config, directory):
    source, _ = setup.prepare_sources(config, directory)
    return to_model_config(config.model, source.categories)


@pytest.fixture
def quick(model):
    """Without compiling; ``quick.shapes`` are those that would have been compiled for."""

    def compiler(step, state, batch, key):
        run.shapes.append(batch.images.shape)
        return Compiled(1.5, 3 * 2**20, 5 * 2**20)

    def run(config, workdir, model=model):
        return dry_run.dry_run(config, workdir, model=model, compiler=compiler)

    run.shapes = []
    return run


@pytest.mark.slow
def test_a_step_is_compiled_and_not_run(cache, tmp_path):
    """The real thing, once."""
    config = tiny_config(cache, train__eval_loss=True)
    report = dry_run.dry_run(config, tmp_path / "run")
    assert re.search(r"One step with 2 images of 64 x 64: compiled in [\d.]+ s; \d+ MiB of state and batch, "
                     r"\d+ MiB more while it runs\.$", report)  # fmt: skip
    sizes = re.search(r"(\d+) MiB of state and batch, (\d+) MiB", report)
    # 0.2 million parameters, their momentum, and a batch; not nothing and not gigabytes.
    assert 1 <= int(sizes[1]) < 60 and 1 <= int(sizes[2]) < 500
    assert not (tmp_path / "run").exists()


def test_the_report(cache, tmp_path, quick):
    report = quick(tiny_config(cache), tmp_path)
    assert report.startswith(f"Workdir: {tmp_path} (nothing yet); this dry run writes nothing there.")
    assert "Schedule: 6 steps of 2 images, 1.50 epochs of 4 steps." in report
    assert re.search(r"^ +0 +0\.00 +1e-05\n", report, re.M)
    assert re.search(r"^ +64 x 64 +7 images per epoch\n  evaluation: 64 x 64$", report, re.M)
    assert "with 8 ground-truth slots per image" in report or "with 4 ground-truth slots per image" in report
    assert re.search(r"^ +\d+ +\d+  square$", report, re.M)
    assert report.endswith("compiled in 1.5 s; 3 MiB of state and batch, 5 MiB more while it runs.")
    assert list(tmp_path.iterdir()) == []


def test_the_largest_canvas_is_compiled(tmp_path, quick):
    sizes = [(40, 60)] * 4 + [(60, 40)] * 3 + [(64, 64)]
    (tmp_path / "set").mkdir()
    annotations, images = random_set(tmp_path / "set", sizes)
    config = tiny_config(tmp_path / "cache", data__source="coco", data__min_sizes=(0,))
    config = dataclasses.replace(config, data=dataclasses.replace(
        config.data, train_annotations=str(annotations), train_images=str(images),
        eval_annotations=str(annotations), eval_images=str(images), max_size=96,
    ))  # fmt: skip
    config.model.architecture = config.model.architecture.replace({"input.pad_divisor": 32})
    model = random_model(config_of(config, tmp_path / "data"))
    report = quick(config, tmp_path / "run", model)
    assert quick.shapes in ([(2, 64, 96, 3)], [(2, 96, 64, 3)])
    assert all(f" {canvas} " in report for canvas in ("64 x 64", "64 x 96", "96 x 64"))


def test_mistakes_are_found(cache, tmp_path, quick):
    for changes, message in (
        ({"train__steps": -1}, "train.steps is -1"),
        ({"optimizer__freeze": ("backbne.*",)}, r"optimizer.freeze has 'backbne\.\*'"),
        ({"optimizer__groups": ("nothing:2",)}, "optimizer.groups has 'nothing'"),
        ({"data__min_sizes": ()}, r"data.min_sizes is \(\)"),
        ({"data__canvases": (32, 32)}, "needs a canvas of 64 x 64"),
        ({"data__eval_batch_size": 0}, "data.eval_batch_size is 0"),
    ):
        with pytest.raises(UserError, match=message):
            quick(tiny_config(cache, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_config_is_refused(cache, tmp_path, quick):
    with pytest.raises(UserError, match="The config of the model to train differs from the one"):
        quick(tiny_config(cache, {"box.fc_dim": 16}), tmp_path / "run")


def test_an_earlier_run_with_other_settings_is_told(cache, tmp_path, quick):
    config = tiny_config(cache)
    write_settings(tmp_path / "run", config_of(config, tmp_path / "data"), config)
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert "(a run to continue)" in quick(config, tmp_path / "run")
    with pytest.raises(UserError, match=r"data\.batch_size \(was 2, is 4\)"):
        quick(tiny_config(cache, data__batch_size=4), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_schedules_are_printed_where_they_turn():
    assert interesting_steps(OptimizerConfig(schedule="cosine", warmup_steps=5), 100) == [
        0,
        5,
        25,
        50,
        75,
        99,
    ]
    assert interesting_steps(OptimizerConfig(schedule="constant", warmup_steps=0), 1) == [0]
    config = Config(
        optimizer=OptimizerConfig(decay_steps=(60, 80), warmup_steps=10, warmup_factor=0.1),
        train=TrainConfig(steps=90),
    )  # fmt: skip
    config.data.batch_size = 16
    lines = schedule_lines(config, learning_rate(config.optimizer, 16, 90), 30)
    table = [[float(word) for word in line.split()] for line in lines[2:]]
    np.testing.assert_allclose(table, [
        [0, 0, 0.002], [10, 0.33, 0.02], [59, 1.97, 0.02], [60, 2, 0.002], [79, 2.63, 0.002],
        [80, 2.67, 0.0002], [89, 2.97, 0.0002]], rtol=1e-6)  # fmt: skip


def test_rare_classes_come_first():
    def source(ids, *pairs):
        categories = tuple(Category(i, f"c{i}") for i in ids)
        return SimpleNamespace(categories=categories, learned_labels=np.array(pairs).reshape(-1, 2))

    lines = class_lines(source((3, 5, 9), (0, 0), (1, 0), (1, 2)), source((3, 9, 11), (0, 1), (4, 1), (2, 2)))
    assert [line.split() for line in lines[2:]] == [
        ["0", "0", "c5", "(no", "training", "data)"], ["1", "2", "c9"], ["2", "0", "c3"]
    ]  # fmt: skip
    many = source(range(50), *[(i, c) for c in range(50) for i in range(c)])
    assert class_lines(many, many)[-1] == "  and 10 classes with 40 images or more"


@pytest.mark.slow
def test_the_command_ends_with_0_or_2(tmp_path):
    """In a process of its own, as a person starts it; the mistake is found before anything is compiled."""
    annotations, images = write_shapes(tmp_path, 4, 64, 0)
    content = json.loads(annotations.read_text())
    content["annotations"][0]["category_id"] = 77
    annotations.write_text(json.dumps(content))
    paths = [f"--config.data.{name}_{kind}={path}" for name in ("train", "eval")
             for kind, path in (("annotations", annotations), ("images", images))]  # fmt: skip
    arguments = ["--dry_run", "--config=configs/finetune.py", f"--workdir={tmp_path / 'run'}", *paths]
    done = subprocess.run(
        [sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and "category_id 77" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
