"""A directory with a model is a name, wherever a preset's is."""

import dataclasses
import logging

import numpy as np
import pytest
from conversion_helpers import arrays_of, small
from detectors import flat, random_model, small_config

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config.json import config_to_json
from jaxmaskrcnn.config.recipe_files import find_config
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.named_model import resolve_model
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.training.run_config import model_section

CATEGORIES = (Category(4, "nut"), Category(9, "bolt"))
OWN = {
    "rpn.anchors.sizes": ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,)),
    "detections.score_threshold": 0.3,
    "backbone.norm_epsilon": 1e-3,
}
CONFIG = small("torchvision", categories=CATEGORIES, **OWN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model directory, and workdirs with a best model and with checkpoints alone."""
    folder = tmp_path_factory.mktemp("runs")
    model = random_model(CONFIG)
    jmr.save_model(model, folder / "model")
    jmr.save_model(model, folder / "run" / "best")
    (folder / "run" / "config.json").write_text(config_to_json(CONFIG.replace({"mask": None})))
    (folder / "young").mkdir()
    (folder / "young" / "config.json").write_text(config_to_json(CONFIG))
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("name", ["model", "run", "young"])
def test_a_directorys_settings_are_named_by_it(folder, name):
    assert resolve_model(str(folder / name)) == CONFIG
    assert resolve_model(folder / name, num_classes=5) == CONFIG.replace(num_classes=5, categories=())


def test_directories_without_a_model(folder):
    with pytest.raises(UserError, match="empty is a directory without a model: it has none of model.json, "):
        resolve_model(folder / "empty")
    with pytest.raises(UserError, match="There is no model named '.*/absent'"):
        resolve_model(folder / "absent")


def test_an_empty_name_is_not_the_working_directory(folder, monkeypatch):
    """As a script makes it of a variable that is not set."""
    monkeypatch.chdir(folder / "model")
    for call in (lambda: resolve_model(""), lambda: model_section(""), find_config("finetune:").load):
        with pytest.raises(UserError, match="There is no model named ''"):
            call()
    for name in ("", " "):
        with pytest.raises(UserError, match="the path or name of weights is"):
            jmr.load_model(name)


def test_a_file_takes_a_directorys_settings_and_keeps_its_classes(folder, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays_of("torchvision"))
    report = load_detector(tmp_path / "a.npz", folder / "model")[1]
    assert report.config == CONFIG and report.model == str(folder / "model") and not report.warnings
    np.savez(tmp_path / "b.npz", **arrays_of("torchvision", num_classes=3))
    report = load_detector(tmp_path / "b.npz", str(folder / "run"))[1]
    assert report.config == CONFIG.replace(num_classes=3, categories=())


def test_a_predictor_takes_a_path(folder):
    for path in (str(folder / "model"), folder / "run"):
        predictor = jmr.Predictor(path)
        assert predictor.config == CONFIG and predictor.categories == CATEGORIES
    with pytest.raises(UserError, match="absent does not exist"):
        jmr.Predictor(folder / "absent")


def test_a_recipe_takes_a_directorys_settings_and_weights(folder):
    section = model_section(str(folder / "model"), **{"backbone.freeze_at": 0})
    wanted = CONFIG.replace({"backbone.freeze_at": 0, "categories": ()})
    assert section.architecture == wanted and section.weights == str(folder / "model")
    assert model_section(str(folder / "model"), weights="other.pth").weights == "other.pth"
    config = find_config(f"finetune:{folder / 'model'}").load()
    assert config.model.weights == str(folder / "model")
    assert config.model.architecture.rpn.anchors == CONFIG.rpn.anchors
    assert config.model.architecture.regions.batch_size == 128  # the recipe's own
    assert config.model.architecture.backbone.norm_epsilon == 1e-3  # that of the weights
    with pytest.raises(UserError, match="empty is a directory without a model"):
        find_config(f"finetune:{folder / 'empty'}").load()


def filled(config, value):
    model = random_model(config)
    for _, variable in jmr.convert.state_dict.variables_by_path(model).items():
        variable[...] = np.full(variable.shape, value, np.float32)
    return model


@pytest.mark.slow
def test_what_a_recipe_changes_is_told(folder, caplog):
    section = model_section(str(folder / "model"), **{"regions.batch_size": 64})
    config = section.architecture.replace(categories=CATEGORIES)
    caplog.set_level(logging.INFO, logger="jaxmaskrcnn")
    model = first_model(config, section.weights, 5, init=filled)
    expected = flat(random_model(CONFIG))
    assert all(np.array_equal(value, expected[name]) for name, value in flat(model).items())
    (told,) = [r.getMessage() for r in caplog.records if "other settings" in r.getMessage()]
    assert told.endswith("than this run's: regions.batch_size 512 (here 64).")


@pytest.mark.slow
def test_classes_in_another_order_are_told(folder, caplog):
    first_model(CONFIG.replace(categories=CATEGORIES[::-1]), str(folder / "model"), 5, init=filled)
    assert "are in another order, nut, bolt, than this run's, bolt, nut; the last layers" in caplog.text


@pytest.mark.slow
def test_what_does_not_fit_is_named_by_settings(folder):
    other = CONFIG.replace({"backbone.depth": 34, "mask": None})
    with pytest.raises(UserError) as error:
        jmr.load_model(folder / "model", other)
    words = str(error.value)
    assert "backbone.depth 18, here 34" in words and "mask fcn, here None" in words
    assert "kernel" not in words and "mask.dim" not in words and "\n" not in words
    with pytest.raises(UserError, match="not fit this run's model: backbone.depth 18, here 34; .*in_part"):
        first_model(CONFIG.replace({"backbone.depth": 34}), str(folder / "model"), 5, init=filled)
    anchors = dataclasses.replace(CONFIG.rpn.anchors, ratios=(0.5, 1.0))
    with pytest.raises(UserError, match=r"anchors in each cell \(rpn.anchors\) 3, here 2"):
        jmr.load_model(folder / "model", CONFIG.replace({"rpn.anchors": anchors}))


def test_another_preset_than_a_small_model_is_named_by_settings(tmp_path):
    jmr.save_model(random_model(small_config()), tmp_path / "model")
    with pytest.raises(UserError, match="backbone.width 8, here 64"):
        jmr.load_model(tmp_path / "model", "torchvision/maskrcnn_resnet50_fpn")
