"""Folders of a run with odd names, and what stands in their place."""

import os
from pathlib import Path

import pytest
from killable_run import quick_step
from quick_training import recorded, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
WHOLE = ([1, 2], [2])  # steps and evaluations of a run that has ended


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tmp_path_factory.mktemp("recipe") / "tiny.py"


@pytest.fixture
def data(tmp_path_factory):
    """Records are shared by the runs of this module."""
    return f"--config.data.cache_dir={tmp_path_factory.getbasetemp() / 'odd-workdirs-cache'}"


@pytest.mark.parametrize(
    "name", ["-a run-läuft-实验-🎈 %s{0}$HOME 'b\"\nline" + "x" * 180], ids=["letters, a line break, long"],
)  # fmt: skip
@pytest.mark.slow
def test_names(recipe, data, name, tmp_path):
    workdir = tmp_path / name
    assert train(recipe, workdir, data) == 0
    assert recorded(workdir) == WHOLE
    assert (workdir / "log.txt").stat().st_size > 0 and (workdir / "model" / "model.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_places(recipe, data, tmp_path, monkeypatch):
    """A relative path with dots, one that ends in a slash, and a link lead to the same run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "run").mkdir()
    assert train(recipe, "inner/../run/", data, "--config.train.steps=1") == 0
    assert recorded(tmp_path / "run")[0] == [1]
    assert train(recipe, "link", data) == 0
    assert recorded(tmp_path / "run")[0] == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inner", "link", "run"]


@pytest.mark.slow
def test_the_process_goes_to_another_folder(recipe, data, tmp_path, monkeypatch):
    """As a module may do that a recipe imports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def step(*arguments):
        os.chdir(tmp_path / "elsewhere")
        return quick_step(*arguments)

    assert train(recipe, Path("run"), data, step=step) == 0
    assert recorded(tmp_path / "run") == WHOLE and (tmp_path / "run" / "best").is_dir()
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "file cannot be read or written (File exists)"),
        ("file/run", "cannot be read or written (Not a directory)"),
        ("x" * 300, "cannot be read or written (File name too long)"),
        (os.fsdecode(b"\xff\xfe"), "\\udcff\\udcfe is not UTF-8, and arrays cannot be stored there; give"),
        ("broken", "broken cannot be read or written (File exists)"),
    ],
    ids=["a file", "below a file", "too long", "not UTF-8", "a link to nothing"],
)
def test_what_cannot_be_a_folder_is_one_sentence(recipe, data, name, words, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "broken").symlink_to("nowhere")
    assert train(recipe, tmp_path / name, data) == 2
    said = capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2  # nothing is made
    assert words in said and "Traceback" not in said
    assert (tmp_path / "file").read_text() == "kept" and not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_log_file_that_cannot_be_written_is_told_and_ends_nothing(recipe, data, tmp_path, capsys):
    (tmp_path / "run" / "log.txt").mkdir(parents=True)
    assert train(recipe, tmp_path / "run", data) == 0
    said = capsys.readouterr().err
    assert said.count("log.txt cannot be written (Is a directory); the run goes on without it.") == 1
    assert "Traceback" not in said and recorded(tmp_path / "run") == WHOLE


def test_a_model_directory_is_no_workdir(recipe, data, tmp_path, capsys):
    """It would go on being read as the model that it is, whatever the run learns."""
    (tmp_path / "model.json").write_text("{}")
    for dry in ((), ("--dry_run",)):
        assert train(recipe, tmp_path, data, *dry) == 2
        assert f"the workdir {tmp_path} is a model directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
