"""examples/sweep.py: its combinations, its runs, and that a finished one is not trained again."""

import importlib.util
import json

import pytest
from folders import ROOT

SPEC = importlib.util.spec_from_file_location("sweep", ROOT / "examples" / "sweep.py")
sweep = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sweep)


def test_every_combination_is_trained_with_its_settings(tmp_path, monkeypatch, capsys):
    started = []

    def command(words):
        workdir = next(word.partition("=")[2] for word in words if word.startswith("--workdir="))
        started.append(words)
        score = len(started) / 10
        path = tmp_path / workdir.rpartition("/")[2]
        path.mkdir(parents=True)
        (path / "metrics.json").write_text(json.dumps({"mask_AP": score}))
        return 0

    monkeypatch.setattr(sweep, "jaxmaskrcnn", command)
    vary = ["--vary", "optimizer.learning_rate=0.1,0.2", "--vary", "data.min_sizes=64|64,96"]
    assert sweep.main([*vary, f"--workdir={tmp_path}", "--", "--config.train.steps=3"]) == 0
    assert [words[3:] for words in started] == [
        [
            f"--config.optimizer.learning_rate={rate}",
            f"--config.data.min_sizes={sizes}",
            "--config.train.steps=3",
        ]
        for rate in ("0.1", "0.2")
        for sizes in ("64", "64,96")
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"mask_AP 0.400  {tmp_path}/learning_rate=0.2_min_sizes=64,96" and len(printed) == 4


def test_the_commands_are_listed(capsys):
    assert sweep.main(["--list", "--config=finetune", "--vary", "train.seed=0,1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "jaxmaskrcnn train --config=finetune --workdir=runs/sweep/seed=1 --config.train.seed=1"
    )
    with pytest.raises(SystemExit, match="has no values"):
        sweep.main(["--list", "--vary", "train.seed"])


@pytest.mark.slow
def test_real_runs(tmp_path, capsys):
    from quick_training import RECIPE, quick_parts

    (tmp_path / "recipe.py").write_text(RECIPE)
    words = [f"--config={tmp_path / 'recipe.py'}", f"--workdir={tmp_path}", "--vary", "train.seed=0,1"]
    with quick_parts():
        assert sweep.main(words) == 0 and sweep.main(words) == 0
    assert capsys.readouterr().out.count("mask_AP ") >= 4
