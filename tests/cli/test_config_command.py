"""``jaxmaskrcnn config``, and what flags of other programs are called here."""

import re

import pytest

from jaxmaskrcnn.cli.config import written
from jaxmaskrcnn.cli.familiar_flags import FAMILIAR_FLAGS
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.config import Config, paths
from jaxmaskrcnn.config.values import parse

SETTINGS = {
    path.replace(".architecture.", "."): (value, kind) for path, value, kind in paths.settings(Config())
}


def listed(capsys, *words):
    assert main(["config", *words]) == 0
    rows = re.findall(r"^--config\.([\w.]+)=(.*?)  # (.+)$", capsys.readouterr().out, re.M)
    return {path: value for path, value, _ in rows}


def test_all_settings_are_listed_as_they_are_typed(capsys):
    found = listed(capsys)
    assert found.keys() == {path for path in SETTINGS if not path.endswith(".categories")}
    for path, text in found.items():
        value, kind = SETTINGS[path]
        if not path.endswith("kind") and value != ():
            assert parse(text, kind, path) == value, path


def test_a_recipe_with_changes(capsys):
    found = listed(capsys, "--recipe=finetune", "--config.train.epochs=12", "train.", "s")
    assert found["train.steps"] == "400" and found["train.epochs"] == "12"
    assert all("train." in path for path in found) and "train.parallel" not in found
    assert listed(capsys, "--recipe", "finetune", "rpn.post_nms_test") == {"model.rpn.post_nms_test": "1000"}
    assert written(((16.0,), (32.0, 64.5))) == "(16,),(32,64.5)" and written(1 / 3) == "0.3333333333333333"


@pytest.mark.parametrize(
    "words, said",
    [
        (["nothing_like_it"], "no setting has 'nothing_like_it' in its name"),
        (["--config.train.stops=3"], "did you mean --config.train.steps?"),
        (["--recipe=finetuna"], "did you mean --config=finetune?"),
    ],
)
def test_mistakes(words, said, capsys):
    assert main(["config", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag, name",
    [
        ("--epochs", "train.epochs"),
        ("--batch-size=4", "data.batch_size"),
        ("--imgsz", "data.min_sizes"),
        ("--lr0", "optimizer.learning_rate"),
    ],
)
def test_flags_of_other_programs_are_named(flag, name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", flag])
    assert ended.value.code == 2
    assert f"it is called --config.{name}" in capsys.readouterr().err


def test_what_the_flags_are_called_exists():
    for names in FAMILIAR_FLAGS.values():
        for name in re.findall(r"--config\.([\w.]+)", names):
            assert name in SETTINGS, name
