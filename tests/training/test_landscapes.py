"""The recipe of landscapes, shortened: panoptic quality goes up while it is trained."""

import json

import pytest

from jaxmaskrcnn.cli.main import main as command


@pytest.mark.slow  # several minutes
def test_panoptic_quality_goes_up(tmp_path):
    arguments = {
        "config": "configs/landscapes.py", "workdir": tmp_path / "run", "config.train.steps": 300,
        "config.train.eval_every": 100, "config.train.checkpoint_every": 300,
        "config.data.shapes.train_images": 400, "config.data.shapes.eval_images": 40,
        "config.data.shapes.size": 64, "config.data.min_sizes": 64, "config.data.max_size": 64,
        "config.model.input.test_min_size": 64, "config.model.input.test_max_size": 64,
    }  # fmt: skip
    assert command(["train", *(f"--{name}={value}" for name, value in arguments.items())]) == 0
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    quality = [line["eval/PQ_stuff"] for line in lines if "eval/PQ_stuff" in line]
    assert len(quality) == 3 and quality[-1] > quality[0] and quality[-1] > 0.3
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["PQ"] == pytest.approx((metrics["PQ_things"] + metrics["PQ_stuff"]) / 2)
    assert metrics["per_class"]["water"]["PQ"] > 0
