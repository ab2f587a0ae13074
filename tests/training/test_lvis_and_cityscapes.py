"""A small LVIS and a small Cityscapes go the whole way: read or imported, inspected, trained, evaluated."""

import json

import pytest
from measured_files import cityscapes_files, lvis_files
from small_runs import tiny_config

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.training.loop import train_and_evaluate

pytestmark = pytest.mark.usefixtures("quick_compilation")


SMALL = {"backbone.depth": 18, "backbone.freeze_at": 0}


def own_data(config, **paths):
    config.data.source = "coco"
    for name, path in paths.items():
        setattr(config.data, name, str(path))
    config.train.steps = config.optimizer.warmup_steps = 2
    config.train.eval_every = 0
    config.train.checkpoint_every = config.train.log_every = 1
    return config


def numbers(metrics):
    return {name: value for name, value in metrics.items() if name not in ("per_class", "protocol")}


@pytest.mark.slow
def test_lvis_the_whole_way(tmp_path, capsys, caplog):
    lvis_files(tmp_path, tmp_path)
    assert main(["inspect", str(tmp_path / "lvis_v1_val.json"), f"--images={tmp_path}", "--count=0"]) == 0
    assert "LVIS: classes are 1 rare (1 of them with objects), 1 common" in capsys.readouterr().out
    config = own_data(
        tiny_config(tmp_path / "cache", {**SMALL, "box.scores": "sigmoid", "box.federated": True,
                                         "box.federated.classes": 2}),
        train_annotations=tmp_path / "lvis_v1_train.json", train_images=tmp_path,
        eval_annotations=tmp_path / "lvis_v1_val.json", eval_images=tmp_path,
    )  # fmt: skip
    config.data.repeat_threshold, config.data.repeat_rule = 1.0, "ceil"
    caplog.set_level("INFO")
    metrics = train_and_evaluate(config, tmp_path / "run")
    assert "detections are scored by the protocol 'lvis', because its categories have a freq" in caplog.text
    assert metrics["protocol"] == "lvis" and metrics["mask_AP_rare"] is not None
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    counts = load_model(tmp_path / "run").config.box.federated.image_counts
    content = json.loads((tmp_path / "lvis_v1_train.json").read_text())
    pairs = {(entry["category_id"], entry["image_id"]) for entry in content["annotations"]}
    assert counts == tuple(sum(k == entry["id"] for k, _ in pairs) for entry in content["categories"])

    arguments = [f"--images={tmp_path}", f"--output={tmp_path / 'out'}"]
    data = str(tmp_path / "lvis_v1_val.json")
    assert main(["evaluate", f"--checkpoint={tmp_path / 'run'}", f"--annotations={data}", *arguments]) == 0
    assert "Masks (segm), measured as LVIS" in capsys.readouterr().out
    again = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert again.keys() == metrics.keys() and numbers(again) == pytest.approx(numbers(metrics))
    assert main(["report", str(tmp_path / "out" / "detections.json"), data, *arguments]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "numbers, from 0 to 1; the rest of the page" in page
    assert "AP rare" in page and "AR100" not in page


@pytest.mark.slow
def test_cityscapes_the_whole_way(tmp_path, capsys, caplog):
    root = cityscapes_files(tmp_path / "cityscapes")
    for part in ("train", "val"):
        output = f"--output={root / part}.json"
        assert main(["import", str(root), "--format=cityscapes", f"--split={part}", output]) == 0
    images = root / "leftImg8bit"
    assert main(["inspect", str(root / "val.json"), f"--images={images}", "--count=0"]) == 0
    config = own_data(
        tiny_config(tmp_path / "cache", SMALL),
        train_annotations=root / "train.json", train_images=images,
        eval_annotations=root / "val.json", eval_images=images,
    )  # fmt: skip
    config.data.eval_protocol = "cityscapes"
    caplog.set_level("INFO")
    metrics = train_and_evaluate(config, tmp_path / "run")
    assert "scored by the protocol 'cityscapes', because it was chosen" in caplog.text
    assert metrics.keys() == {"mask_AP", "mask_AP50", "per_class", "protocol"}
    assert metrics["per_class"]["train"] == {"mask_AP": None, "mask_AP50": None}

    arguments = [f"--annotations={root / 'val.json'}", f"--images={images}", f"--output={tmp_path / 'out'}"]
    checkpoint = f"--checkpoint={tmp_path / 'run'}"
    assert main(["evaluate", checkpoint, "--protocol=cityscapes", *arguments]) == 0
    again = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert again.keys() == metrics.keys() and numbers(again) == pytest.approx(numbers(metrics))
    assert main(["evaluate", checkpoint, "--protocol=lvis", *arguments]) == 2
    assert "cannot be scored as LVIS" in capsys.readouterr().err
    words = ["report", str(tmp_path / "out" / "detections.json"), str(root / "val.json")]
    assert main([*words, *arguments[1:], "--protocol=cityscapes"]) == 0
    assert "numbers, from 0 to 1; the rest of the page" in (tmp_path / "out" / "report.html").read_text()
