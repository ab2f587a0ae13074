"""Config files that describe a run: the shipped recipes, and a user's own.

A config file is Python with ``get_config()``, which returns a ``Config`` and may take one argument. It may
also have ``build_optimizer(config, schedule, params, model_config)``, which returns an optax optimizer. In a
checkout the recipes are in the folder ``configs`` beside the package; an installed package contains them.
"""

import difflib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import local_copy

_PACKAGE = Path(__file__).resolve().parents[1]


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
        spec = importlib.util.spec_from_file_location(f"{self.path.stem}_config", self.path)
        assert spec is not None and spec.loader is not None  # as the file's name ends in .py
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
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
        if hasattr(module, "build_optimizer") and not config.optimizer.build_optimizer:
            config.optimizer.build_optimizer = f"{self.path}:build_optimizer"
        return config


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
