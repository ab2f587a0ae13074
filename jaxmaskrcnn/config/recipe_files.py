"""Config files that describe a run: the shipped recipes, and a user's own.

A config file is Python with ``get_config()``, which returns a ``Config`` and may take one argument. It may
also have ``build_model(config, *, rngs)``, which makes the run's model, and
``build_optimizer(config, schedule, params, model_config)``, which returns an optax optimizer. In a checkout
the recipes are in the folder ``configs`` beside the package; an installed package contains them.
"""

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import local_copy

_PACKAGE = Path(__file__).resolve().parents[1]
_MARK = "__jaxmaskrcnn_file__"  # of the modules of `import_file`


class ConfigFile(NamedTuple):
    """A config file and the arguments of its ``get_config``.

    Attributes:
        path: The file.
        arguments: None or one, the text after the colon of ``--config=NAME:ARGUMENT``.
    """

    path: Path
    arguments: tuple[str, ...]

    def load(self) -> Config:
        """Return the result of ``get_config``.

        Raises:
            UserError: It takes another number of arguments, or does not return a ``Config``.
        """
        module = import_file(self.path)
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise UserError(f"{self.path} has no function get_config(); add one that returns a Config.")
        try:
            inspect.signature(get_config).bind(*self.arguments)
        except TypeError:
            with_argument = f"with {self.arguments[0]!r}" if self.arguments else "without an argument"
            raise UserError(
                f"get_config() of {self.path} cannot be called {with_argument}; "
                "its only argument is the text after the colon of --config=FILE:ARGUMENT."
            ) from None
        config = get_config(*self.arguments)
        if not isinstance(config, Config):
            raise UserError(f"{self.path}: get_config() must return a jaxmaskrcnn.config.Config.")
        if callable(getattr(module, "build_model", None)):
            if sys.modules.get(module.__name__) is not module:
                raise UserError(
                    f"{self.path} has a function build_model, but Python has another module of the name "
                    f"{self.path.stem}, by which other processes would import it; rename the file."
                )
            place = f"{self.path.stem}:build_model"
            config.model.architecture = config.model.architecture.replace(build_model=place)
        if hasattr(module, "build_optimizer") and not config.optimizer.build_optimizer:
            config.optimizer.build_optimizer = f"{self.path}:build_optimizer"
        return config


def import_file(path: Path) -> ModuleType:
    """Import a config file, or a file with parts of a model: by its name, as a script in its folder would.

    Other processes then find what is defined in it. Where the name is that of another module, such as one of
    Python's own, the file is imported under another one, which only this process knows.

    Args:
        path: The file, whose name ends in ".py".
    """
    folder, name = str(path.resolve().parent), path.stem
    own = path.resolve().parent != recipe_folder().resolve() and name.isidentifier()
    if hasattr(sys.modules.get(name), _MARK):
        del sys.modules[name]  # the file as it was then, or one of the same name
    if own:
        own = name not in sys.modules
        sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
        importlib.invalidate_caches()
    if own:
        found = importlib.util.find_spec(name)
        own = found is not None and found.origin is not None and Path(found.origin).samefile(path)
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(name if own else f"{name}_config", path)
    assert spec is not None and spec.loader is not None  # as the file's name ends in .py
    module = importlib.util.module_from_spec(spec)
    setattr(module, _MARK, True)
    if own:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if own:
            del sys.modules[name]
        raise
    return module


def recipe_folder() -> Path:
    """Return the folder of the shipped recipes."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def list_recipes() -> list[str]:
    """List the names of the shipped recipes, sorted.

    Example:
        >>> list_recipes()[:2]
        ['figures', 'finetune']
    """
    return sorted(path.stem for path in recipe_folder().glob("*.py"))


def find_config(text: str) -> ConfigFile:
    """Find the config file that ``--config=text`` names.

    Args:
        text: The name of a shipped recipe, or the path or address of a Python file; optionally with
            ``:ARGUMENT``.

    Returns:
        The file, and the argument of its ``get_config``.

    Raises:
        UserError: There is no such file or recipe; the message lists the recipes.

    Example:
        >>> find_config("finetune:jaxmaskrcnn/shapes").arguments
        ('jaxmaskrcnn/shapes',)
    """
    # An address has a colon of its own.
    parts = re.fullmatch(r"(.*?\.py|[A-Za-z0-9+.-]+://[^:]*|[^:]*)(:?)(.*)", text, re.DOTALL)
    assert parts is not None  # any text matches
    name, colon, argument = parts.groups()
    arguments = (argument,) if colon else ()
    recipes = list_recipes()
    if name in recipes:
        return ConfigFile(recipe_folder() / f"{name}.py", arguments)
    path = local_copy(name, "--config")
    if path.suffix == ".py" and path.is_file():
        return ConfigFile(path, arguments)
    close = difflib.get_close_matches(path.stem, recipes, n=1)
    hint = f"; did you mean --config={close[0]}?" if close else ";"
    problem = "does not exist" if path.suffix == ".py" else "is not a shipped recipe"
    raise UserError(
        f"--config={name} {problem}{hint} give the path of a Python file, or one of {', '.join(recipes)}."
    )
