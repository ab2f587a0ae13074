"""Five ways in which people come with a checkpoint of their own, from the file to what they want of it.

1. torchvision: a state dict that was fine-tuned for one class, and the name of the model.
2. torchvision: a model with anchors, sizes and thresholds of its own.
3. Detectron2: model_final.pth of a run beside the config.yaml of its output folder.
4. MMDetection: a file that names its classes, and a json whose categories do not ascend by their ids.
5. A student's Lightning checkpoint of a wrapped model; training goes on by the name of a directory.
"""

import json
import logging
import pickle

import numpy as np
import pytest
from conversion_helpers import arrays_of, small
from data_helpers import annotation, content, write
from detectors import flat, random_model

import jaxmaskrcnn as jmr
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.zoo import PRESETS
from jaxmaskrcnn.zoo.entry import Preset


@pytest.fixture
def presets(monkeypatch):
    """Narrow presets; those of the registry are too large for tests."""
    for library in ("torchvision", "detectron2"):
        preset = Preset(vars(small(library, num_classes=80)), {})
        monkeypatch.setitem(PRESETS, f"{library}/narrow", preset)


@pytest.fixture
def quiet():
    """Commands set up logging for their process; tests share one."""
    log = logging.getLogger("jaxmaskrcnn")
    root, before = logging.getLogger(), (log.level, log.propagate)
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    log.level, log.propagate = before


def evaluated(tmp_path, annotations, images, *arguments):
    """The categories that `evaluate` scores, by name."""
    output = tmp_path / "out"
    arguments = [*arguments, f"--annotations={annotations}", f"--images={images}", f"--output={output}"]
    assert main(["evaluate", *map(str, arguments)]) == 0
    return json.loads((output / "metrics.json").read_text())["per_class"]


@pytest.mark.slow
def test_a_torchvision_user_names_the_model_and_keeps_her_class(tmp_path, presets, quiet, capsys):
    (tmp_path / "nuclei.pkl").write_bytes(pickle.dumps(arrays_of("torchvision", num_classes=1)))
    data = write(tmp_path, content([annotation()], categories=[{"id": 1, "name": "nucleus"}]))
    found = evaluated(
        tmp_path, *data, f"--checkpoint={tmp_path / 'nuclei.pkl'}", "--model=torchvision/narrow"
    )
    assert list(found) == ["nucleus"]
    assert "The number of classes is the file's, 1; torchvision/narrow has 80." in capsys.readouterr().err


def test_a_torchvision_user_gives_the_arguments_of_his_model(tmp_path, capsys):
    own = {"rpn.anchors.ratios": (0.25, 0.5, 1.0, 2.0, 4.0)}
    np.savez(tmp_path / "cells.npz", **arrays_of("torchvision", **own))
    arguments = [str(tmp_path / "cells.npz"), str(tmp_path / "model")]
    assert main(["convert", *arguments]) == 2
    said = capsys.readouterr().err
    assert "has 5 anchors in each cell" in said and "cells.json" in said and "1 x 5" in said
    ratios = [[0.25, 0.5, 1, 2, 4]]
    (tmp_path / "cells.json").write_text(
        json.dumps(
            {"rpn_anchor_generator": {"aspect_ratios": ratios}, "box_score_thresh": 0.2, "min_size": 64}
        )
    )
    assert main(["convert", *arguments]) == 0
    assert "cells.json gives rpn_anchor_generator.aspect_ratios, box_score_thresh, min_size." in (
        capsys.readouterr().out
    )
    config = jmr.load_model(tmp_path / "model").config
    assert config.rpn.anchors.ratios == (0.25, 0.5, 1, 2, 4)
    assert (config.detections.score_threshold, config.input.test_min_size) == (0.2, 64)


def test_a_detectron2_user_gives_the_yaml_of_the_run(tmp_path, capsys):
    config = small("detectron2", num_classes=3, **{"input.test_min_size": 96, "rpn.post_nms_test": 77})
    report = export_detector(random_model(config), tmp_path / "model_final.pkl", "detectron2")
    # The yaml of the zoo, whose number of classes the script changed in Python, as in the tutorial.
    text = report.settings.replace("NUM_CLASSES: 3", "NUM_CLASSES: 80")
    assert text != report.settings
    (tmp_path / "config.yaml").write_text(text)
    arguments = [str(tmp_path / "model_final.pkl"), str(tmp_path / "model")]
    assert main(["convert", *arguments, f"--model={tmp_path / 'config.yaml'}"]) == 0
    assert "The number of classes is the file's, 3; " in capsys.readouterr().out
    model = jmr.load_model(tmp_path / "model")
    assert (model.config.num_classes, model.config.input.test_min_size) == (3, 96)
    assert model.config.rpn.post_nms_test == 77
    expected = flat(random_model(config))
    assert all(np.array_equal(value, expected[name]) for name, value in flat(model).items())


@pytest.mark.slow
def test_an_mmdetection_user_has_names_and_an_unsorted_json(tmp_path, quiet, capsys):
    config = small("mmdet", **{"input.test_min_size": 64, "input.test_max_size": 64})
    report = export_detector(random_model(config), tmp_path / "weights.npz", "mmdet")
    arrays = dict(np.load(tmp_path / "weights.npz"))
    meta = {"cfg": report.settings, "dataset_meta": {"classes": ("weld", "crack")}}
    (tmp_path / "epoch_12.pkl").write_bytes(pickle.dumps({"meta": meta, "state_dict": arrays}))
    categories = [{"id": 9, "name": "weld"}, {"id": 4, "name": "crack"}]
    entries = [annotation(category_id=9), annotation(2, category_id=4)]
    data = write(tmp_path, content(entries, categories=categories))
    model = jmr.load_model(tmp_path / "epoch_12.pkl")
    assert [category.name for category in model.categories] == ["weld", "crack"]
    found = evaluated(tmp_path, *data, f"--checkpoint={tmp_path / 'epoch_12.pkl'}")
    assert set(found) == {"weld", "crack"}
    # Label 0 is a weld in the file, and the first of the json's list.
    output = tmp_path / "predictions"
    arguments = [f"--checkpoint={tmp_path / 'epoch_12.pkl'}", f"--annotations={data[0]}", "--format=json"]
    assert main(["predict", str(data[1]), *arguments, f"--output={output}"]) == 0
    listed = json.loads((output / "predictions.json").read_text())["categories"]
    assert listed == categories
    capsys.readouterr()


def test_a_student_goes_on_from_a_lightning_checkpoint(tmp_path, presets, caplog):
    arrays = {f"net.{name}": array for name, array in arrays_of("torchvision").items()}
    lightning = {
        "epoch": 7, "global_step": 812, "pytorch-lightning_version": "2.4.0", "state_dict": arrays,
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "optimizer_states": [],
        "lr_schedulers": [], "hparams_name": "kwargs", "hyper_parameters": {"lr": 1e-3},
    }  # fmt: skip
    (tmp_path / "last.pkl").write_bytes(pickle.dumps(lightning))
    caplog.set_level(logging.INFO, logger="jaxmaskrcnn")
    model = jmr.load_model(tmp_path / "last.pkl", bn_eps=1e-5)
    assert "The names begin with 'net.', which was left out." in caplog.text
    jmr.save_model(model, tmp_path / "student")
    caplog.clear()
    section = find_config(f"finetune:{tmp_path / 'student'}").load().model
    assert section.weights == str(tmp_path / "student")
    assert section.architecture.neck.channels == model.config.neck.channels
    config = section.architecture.replace(num_classes=2)
    started = first_model(config, section.weights, 0, init=lambda config, seed: random_model(config, 3))
    expected = flat(model)
    assert all(np.array_equal(value, expected[name]) for name, value in flat(started).items())
    # What the recipe changes is told by its settings.
    (told,) = [r.getMessage() for r in caplog.records if "other settings than this run's" in r.getMessage()]
    assert "regions.batch_size 512 (here 128)" in told and "input.test_min_size 800 (here 448)" in told
    assert jmr.Predictor(tmp_path / "student").config == model.config
