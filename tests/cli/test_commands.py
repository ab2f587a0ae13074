"""The program: its help, its names in messages, config files by name, and what it does without JAX."""

import ast
import errno
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from folders import ROOT

import jaxmaskrcnn
from jaxmaskrcnn.cli import export, plot
from jaxmaskrcnn.cli import import_ as importers
from jaxmaskrcnn.cli import main as program
from jaxmaskrcnn.cli.train import override
from jaxmaskrcnn.config import Config
from jaxmaskrcnn.config.recipe_files import find_config, list_recipes
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import augmentation, outputs, stablehlo


def run(*words, cwd=ROOT):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def printed(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        program.main(words)
    return ended.value.code, capsys.readouterr()


def test_the_help_page_lists_every_command(capsys):
    code, page = printed(capsys, "--help")
    assert code == 0 and page.out.startswith("usage: jaxmaskrcnn [-h]")
    for name, command in program.COMMANDS.items():
        assert re.search(rf"^    {name} +{re.escape(command.help[:30])}", page.out, re.M), name


@pytest.mark.parametrize("name", program.COMMANDS)
def test_every_command_has_a_help_page(name, capsys):
    code, page = printed(capsys, name, "--help")
    assert code == 0 and page.out.startswith(f"usage: jaxmaskrcnn {name} ")


def test_help_pages_name_what_there_is(capsys):
    """They are written without the modules that have it, which wait for JAX."""
    page = " ".join(printed(capsys, "predict", "--help")[1].out.split())
    assert f"some of {', '.join(outputs.FORMATS)}, with commas" in page
    assert f"({','.join(f'{scale:g}' for scale in augmentation.SCALES)})" in page
    assert tuple(export.FORMATS) == (*LIBRARIES, *export.FUNCTIONS)
    assert f"some of {','.join(stablehlo.PLATFORMS)} (" in printed(capsys, "export", "--help")[1].out
    for name in importers.FORMATS:
        module = importlib.import_module(f"jaxmaskrcnn.data.importers.{name.replace('-', '_')}")
        assert module.OPTIONS >= {"names"} and module.read and module.images


def test_version(capsys):
    assert printed(capsys, "--version")[1].out == f"jaxmaskrcnn {jaxmaskrcnn.__version__}\n"
    assert f"## {jaxmaskrcnn.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == jaxmaskrcnn.__version__


def test_help_and_tables_do_not_wait_for_jax():
    """In the two ways that a process can be started; neither imports what takes seconds."""
    script = (
        "import sys; from jaxmaskrcnn.cli.main import main\n"
        "try:\n    main({words})\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('jax', 'flax', 'orbax', 'tensorflow_datasets') if m in sys.modules])"
    )
    for words in (["--help"], ["models", "R_50"], *([name, "--help"] for name in program.COMMANDS)):
        assert run("-c", script.format(words=words)).stdout.endswith("\n[]\n"), words
    done = run("-m", "jaxmaskrcnn", "nonsense")
    assert done.returncode == 2 and done.stderr.startswith("usage: python -m jaxmaskrcnn [-h]")


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_messages_have_the_name_that_was_typed(name, capsys):
    arguments = ["--config=nothing"] if name == "train" else (
        ["--checkpoint=no", "--annotations=no", "--images=no", "--batch_size=0"]
    )  # fmt: skip
    assert program.main([name, *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"jaxmaskrcnn {name}: --")
    done = run(f"{name}.py", *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"{name}.py: --")
    assert run(f"{name}.py", "--help").stdout.startswith(f"usage: {name}.py ")


def test_arguments_that_no_command_takes(capsys):
    code, said = printed(capsys, "models", "--nonsense")
    assert code == 2 and "jaxmaskrcnn models: error: unrecognized arguments: --nonsense" in said.err
    # A misspelt flag leaves one that is required missing, and is what is told.
    code, said = printed(capsys, "evaluate", "--checkpont=a", "--images=b")
    assert code == 2 and said.err.endswith(
        "unrecognized arguments: --checkpont=a; did you mean --checkpoint?\n"
    )
    code, said = printed(capsys, "inspect", "--", "--no", "--such")  # what follows -- are no flags
    assert "unrecognized arguments: --such\n" in said.err
    code, said = printed(capsys, "train", "--workdr=runs/a")
    assert code == 2 and "unrecognized arguments: --workdr=runs/a; did you mean --workdir?" in said.err
    assert program.main(["train", "--confg.train.steps=3"]) == 2
    said = "jaxmaskrcnn train: '--confg.train.steps=3' is not an argument; did you mean --config.train.steps?"
    assert said in capsys.readouterr().err
    assert program.main(["train", "nonsense"]) == 2
    assert "jaxmaskrcnn train: 'nonsense' is not an argument; see --help." in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder.png").mkdir()
    Path("run").mkdir()
    Path("run/metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for output, named in (("file/x.png", "file"), ("folder.png", "folder.png")):
        assert program.main(["plot", "run", f"--output={output}"]) == 2
        said = capsys.readouterr().err
        start = f"jaxmaskrcnn plot: {named} cannot be read or written ("
        assert said.startswith(start) and said.endswith("); give another path, or repair this one.\n")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder.png", "metrics.jsonl", "run"}
    data = [f"--{name}=file" for name in ("checkpoint", "annotations", "images", "output")]
    assert program.main(["evaluate", *data]) == 2
    assert "--output is the file file; give a folder." in capsys.readouterr().err


def test_an_interruption_has_no_traceback(capsys, monkeypatch):
    def run(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(plot, "run", run)  # no command fails like this on purpose
    assert program.main(["plot", "x"]) == 130
    assert capsys.readouterr().err == "jaxmaskrcnn plot: interrupted.\n"


@pytest.mark.parametrize("number, told", [(errno.ENOSPC, True), (errno.ECONNREFUSED, False)])
def test_a_full_disk_is_told_and_other_errors_of_the_system_are_not(number, told, capsys, monkeypatch):
    def run(arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(plot, "run", run)  # no command fails like this on purpose
    if told:
        assert program.main(["plot", "x"]) == 2
        assert "the output cannot be written (No space left on device);" in capsys.readouterr().err
    else:
        with pytest.raises(ConnectionRefusedError):
            program.main(["plot", "x"])


# -- config files


def test_recipes_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    assert list_recipes() == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    by_name, by_path = find_config("finetune"), find_config(f"{ROOT / 'configs' / 'finetune.py'}:a:b")
    assert by_name.path.samefile(by_path.path) and (by_name.arguments, by_path.arguments) == ((), ("a:b",))
    assert find_config("finetune:jaxmaskrcnn/shapes").load().model.architecture.backbone.width == 32
    monkeypatch.chdir(tmp_path)
    Path("shapes.py").write_text("def get_config():\n    return 3\n")
    assert isinstance(find_config("shapes").load(), Config)  # a name is always a shipped recipe
    with pytest.raises(UserError, match=r"shapes.py: get_config\(\) must return a .*Config"):
        find_config("shapes.py").load()
    with pytest.raises(UserError, match="shapes.py cannot be called with 'x'"):
        find_config("shapes.py:x").load()
    Path("shapes.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"shapes.py has no function get_config\(\)"):
        find_config("shapes.py").load()


@pytest.mark.parametrize(
    "text, said",
    [
        ("finetun", "finetun is not a shipped recipe; did you mean --config=finetune?"),
        ("nonsense", "nonsense is not a shipped recipe;"),
        ("configs/none.py", "--config=configs/none.py does not exist;"),
        ("", "--config= is not a shipped recipe"),
    ],
)
def test_unknown_configs_list_what_there_is(text, said):
    with pytest.raises(UserError) as error:
        find_config(text)
    assert said in str(error.value) and ", ".join(list_recipes()) in str(error.value)


def test_settings_override_fields():
    settings = ["--config.train.steps", "7", "--config.model.mask=false", "-config.train.seed=3"]
    settings += ["--config.data.min_sizes=64,80", "--config.optimizer.freeze=a.*,*.b"]
    settings += ["--config.model.box.stages.0.foreground_iou", "0.6", "--config.train.tensorboard=TRUE"]
    config = override(Config(), settings)
    model = config.model.architecture
    assert config.train.steps == 7 and config.train.seed == 3 and config.train.tensorboard is True
    assert model.mask is None and model.box.stages[0].foreground_iou == 0.6
    assert config.data.min_sizes == (64, 80) and config.optimizer.freeze == ("a.*", "*.b")
    again = override(config, ["--config.model.mask.pool.size=7", "--config.model.mask=true"])
    assert again.model.architecture.mask.pool.size == 7
    for text in ("none", "None", "False", "false"):
        assert override(Config(), [f"--config.model.mask={text}"]).model.architecture.mask is None


@pytest.mark.parametrize(
    "setting, said",
    [
        ("--config.train.step=1", "no setting --config.train.step; did you mean --config.train.steps"),
        ("--config.learning_rate=3", "did you mean --config.optimizer.learning_rate?"),
        ("--config.nms_threshold=3", "did you mean --config.model.rpn.nms_threshold or --config.model.detec"),
        ("--config.training.stepss=3", "did you mean --config.train.steps"),
        ("--config.nonsense=3", "--config.nonsense; the sections are model, data, optimizer, train."),
        ("--config.train.steps.x=3", "There is no setting --config.train.steps.x"),
        ("--config.model.rpn.nms_thresold=1", "did you mean --config.model.rpn.nms_threshold"),
        ("--config.train.steps=many", "--config.train.steps is 'many'; give a whole number of"),
        ("--config.train.steps=True", "--config.train.steps is 'True'; give a whole number of"),
        ("--config.train.steps", "--config.train.steps has no value; give --config.train.steps=VALUE."),
        ("--config.train.eval_loss=maybe", "--config.train.eval_loss is 'maybe'; give True or False."),
        ("--config.train.steps={[]: 1}", "--config.train.steps is '{[]: 1}'; give a whole"),
        ("--config.optimizer.freeze=('a', 1)", "--config.optimizer.freeze is "),
        ("--config.data.min_sizes=64,abc", "--config.data.min_sizes is '64,abc'; give one or more"),
        ("--config.data.min_sizes=64.5", "--config.data.min_sizes is '64.5'; give one or more"),
        ("--config.train=3", "--config.train is a section; set one of its fields"),
        ("--config.model=3", "--config.model is a section; set one of its fields"),
        ("--config.model.rpn=3", "--config.model.rpn is a section; set one of its fields"),
        ("--config.model.rpn.anchors.sizes=a,8", "--config.model.rpn.anchors.sizes is 'a,8'; give groups of"),
        (
            "--config.model.rpn.batch_size=0",
            "--config.model.rpn.batch_size is '0'; give a whole number of at least 1",
        ),
        ("--config.model.backbone=vgg", "backbone is 'vgg'; give 'resnet'"),
        ("--config.model.mask_head=False", "is called --config.model.mask now; use that name."),
        ("--config.model.rpn_post_nms_test=9", "is called --config.model.rpn.post_nms_test now"),
        ("--config.model.delta_clamp=both", "and --config.model.box.delta_clamp now; use these names."),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_one_sentence(setting, said, capsys):
    with pytest.raises(UserError, match=re.escape(said)):
        override(Config(), [setting])
    assert program.main(["train", setting]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


# -- the package


def test_public_names_are_the_same_in_all_three_lists():
    tree = ast.parse(Path(jaxmaskrcnn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(homes) == sorted(jaxmaskrcnn.__all__) and set(jaxmaskrcnn.__all__) <= set(dir(jaxmaskrcnn))
    for name, module in homes.items():
        value = getattr(jaxmaskrcnn, name)
        assert name == "ops" or getattr(value, "__module__", module) == module, name
        assert name == "ops" or jaxmaskrcnn._HOMES[name] == module.removeprefix("jaxmaskrcnn.")
    assert jaxmaskrcnn.losses.__name__ == "jaxmaskrcnn.losses"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        jaxmaskrcnn.nonsense  # noqa: B018


def test_pre_commit_runs_what_ci_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    for hook in hooks:
        tool = hook["entry"].removesuffix(" --force-exclude")
        assert any(line.startswith(tool) for line in lines), tool
    tested = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]
    for package in ("ruff", "pyright", "import-linter"):
        assert any(requirement.startswith(package) for requirement in tested), package


def test_misspelt_commands(capsys):
    for typed, said in (
        ("inspct", "'inspct' is not a command; did you mean inspect?"),
        ("trian", "'trian' is not a command; did you mean train?"),
        ("exprot", "'exprot' is not a command; did you mean export?"),
        ("nonsense", "'nonsense' is not a command; the commands are train, evaluate, predict, "),
    ):
        code, page = printed(capsys, typed, "--whatever")
        assert code == 2 and f"jaxmaskrcnn: error: {said}" in page.err


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["import", "a", "--format=voc", "--output=b", "--split="],
            "--split is empty; give it a value, or leave",
        ),
        (
            ["import", "a", "--format=voc", "--output=b", "--names="],
            "--names is empty; give it a value, or leave",
        ),
        (["import", "a", "--format=voc", "--output="], "--output is empty; give it a value."),
        (["inspect", "a", "--class_name="], "--class_name is empty; give it a value, or leave it out."),
        (["import", "", "--format=voc", "--output=b"], "SOURCE is empty; give it a value."),
        (
            ["predict", "a.png", "--checkpoint="],
            "--checkpoint is empty; give it a value.",
        ),
        (["convert", "a", "b", "--model="], "--model is empty; give it a value, or leave it out."),
        (["predict", "a.png", "", "--checkpoint=b"], "INPUT is empty; give it a value."),
        (["train", "--workdir="], "--workdir is empty; give it a value, or leave it out."),
    ],
)
def test_arguments_of_a_variable_that_is_not_set(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.main(words) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_modules_that_a_command_imports_first(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts_of_mine.py").write_text("print('imported')")
    (tmp_path / "broken_parts.py").write_text("import nothing_of_this_name")
    assert program.main(["models", "R_50", "--import=parts_of_mine"]) == 0
    assert capsys.readouterr().out.startswith("imported\n")
    for name, said in (
        (
            "parts_of_yours",
            "--import=parts_of_yours: there is no module parts_of_yours; give its name with dots",
        ),
        ("jaxmaskrcnn.nothing", "there is no module jaxmaskrcnn.nothing; give its name with dots"),
        (".", "--import=. is not the name of a module; give one such as package.module."),
    ):
        assert program.main(["models", f"--import={name}"]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        program.main(["models", "--import=broken_parts"])
