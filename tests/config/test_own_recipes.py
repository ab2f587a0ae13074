"""Recipes with parts, and a model, of their own: how they are imported, and what is said of mistakes."""

import sys

import pytest

import jaxmaskrcnn as jmr
from jaxmaskrcnn.config import ConfigError, SwinConfig
from jaxmaskrcnn.config.json import config_from_json, config_to_json
from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.recipe_files import find_config, import_file
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.new_models import abstract_model

RECIPE = """
from jaxmaskrcnn.config import Config, ModelConfig, ModelSection
from own_neighbour import NUMBER

def get_config():
    config = Config(model=ModelSection(architecture=ModelConfig(num_classes=2)))
    config.train.steps = NUMBER
    return config

def build_model(config, *, rngs):
    raise NotImplementedError
"""

BUILDERS = """
import jaxmaskrcnn as jmr

def other_config(config, *, rngs):
    return jmr.MaskRCNN(config.replace(num_classes=7), rngs=rngs)

def nothing(config, *, rngs):
    return None

def part(config, *, rngs):
    return jmr.models.Backbone(config, rngs=rngs)

def without_keys(config):
    return None
"""


@pytest.fixture
def folder(tmp_path):
    """A folder for recipes; modules and places to look for them are as before after the test."""
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in [name for name, module in sys.modules.items() if name not in modules]:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def recipe(folder, name="own_recipe", number=7):
    (folder / "own_neighbour.py").write_text(f"NUMBER = {number}\n")
    path = folder / f"{name}.py"
    path.write_text(RECIPE)
    return path


def test_a_recipe_names_its_function_and_finds_its_neighbours(folder):
    config = find_config(str(recipe(folder))).load()
    assert config.train.steps == 7
    assert config.model.architecture.build_model == "own_recipe:build_model"
    assert sys.modules["own_recipe"].get_config().train.steps == 7


def test_a_recipe_of_the_same_name_elsewhere_takes_its_place(folder):
    first, second = folder / "first", folder / "second"
    for place in (first, second):
        place.mkdir()
        assert find_config(str(recipe(place))).load()
        assert sys.modules["own_recipe"].__file__ == str(place / "own_recipe.py")
    assert import_file(first / "own_recipe.py").__file__ == str(first / "own_recipe.py")


def test_a_recipe_with_the_name_of_another_module(folder):
    path = recipe(folder, "csv")
    with pytest.raises(UserError, match="csv.py has a function build_model, but Python has another module"):
        find_config(str(path)).load()
    path.write_text(RECIPE[: RECIPE.index("def build_model")])
    assert find_config(str(path)).load().train.steps == 7
    assert sys.modules.get("csv") is None or "own" not in vars(sys.modules["csv"])


def test_a_recipe_that_fails_leaves_no_module(folder):
    path = folder / "own_recipe.py"
    path.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        import_file(path)
    assert "own_recipe" not in sys.modules


def test_a_part_by_the_place_of_its_class():
    flag = "--config.model.backbone=jaxmaskrcnn.config:SwinConfig"
    config = override(jmr.config.Config(), [flag, "--config.model.backbone.width=48"])
    assert isinstance(config.model.architecture.backbone, SwinConfig)
    assert config.model.architecture.backbone.width == 48
    again = jmr.ModelConfig().replace({"backbone": "jaxmaskrcnn.config:SwinConfig"})
    assert isinstance(again.backbone, SwinConfig)


@pytest.mark.parametrize(
    "place, said",
    [
        ("no.such.place:Mine", "and there is no module no; give the place of a class of settings as"),
        (
            "jaxmaskrcnn.config:Nothing",
            "which is no class of settings for it; give a class that is derived from Ba",
        ),
        (
            "jaxmaskrcnn.config:FPNConfig",
            "which is no class of settings for it; give a class that is derived fr",
        ),
        (":", "and there is no module ; give the place of a class"),
    ],
)
def test_places_without_a_class(place, said):
    with pytest.raises(UserError, match=said):
        override(jmr.config.Config(), [f"--config.model.backbone={place}"])
    with pytest.raises(ConfigError, match=said):
        jmr.ModelConfig().replace({"backbone": place})


@pytest.mark.parametrize(
    "place, said",
    [
        ("own_builders:nothing", "own_builders:nothing returns a NoneType; return a MaskRCNN, with parts"),
        ("own_builders:part", "own_builders:part returns a Backbone without loss_terms; return a MaskRCNN"),
        ("own_builders:other_config", "returns a detector with another config than it was given; make it of"),
        (
            "own_builders:without_keys",
            r"cannot be called with \(config, rngs=...\); define it as build_model",
        ),
        ("own_builders:missing", "'own_builders:missing', and own_builders has no function missing; give"),
        ("no_such_module:build", "ModelConfig.build_model is 'no_such_module:build', and there is no module"),
    ],
)
def test_functions_that_make_no_model(folder, place, said):
    (folder / "own_builders.py").write_text(BUILDERS)
    import_file(folder / "own_builders.py")
    config = jmr.model_config("jaxmaskrcnn/shapes", num_classes=2).replace(build_model=place)
    with pytest.raises(ConfigError, match=said):
        abstract_model(config)


def test_a_place_is_spelt_as_module_and_function():
    with pytest.raises(ConfigError, match="give the place of a function or class as 'package.module:name'"):
        jmr.ModelConfig(build_model="mine.build_model")


def test_a_file_imports_nothing_by_itself(folder):
    config = find_config(str(recipe(folder))).load().model.architecture
    text = config_to_json(config)
    assert config_from_json(text) == config
    del sys.modules["own_recipe"]
    with pytest.raises(UserError) as error:
        config_from_json(text, "model.json")
    assert str(error.value) == (
        "model.json: the model is made by own_recipe:build_model, whose module is not imported; import that "
        "first "
        "(for a command: --import=own_recipe, or the path of its file)."
    )
    assert "own_recipe" not in sys.modules
