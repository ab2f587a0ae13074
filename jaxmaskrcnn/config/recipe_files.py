"""The files that describe a run: the recipes that are shipped, and a user's own.

Such a file is Python with ``get_config()``, which returns a ``Config`` and may take one argument. In a
checkout the recipes are the folder ``configs`` beside the package; an installed package has them inside.
"""

import difflib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]


class ConfigFile(NamedTuple):
    """A config file, and what its ``get_config`` is called with.

    Attributes:
        path: The file.
        arguments: None or one, the text behind the colon of ``--config=NAME:ARGUMENT``.
    """

    path: Path
    arguments: tuple[str, ...]

    def load(self) -> Config:
        """What ``get_config`` returns.

        Raises:
            UserError: It takes another number of arguments, or returns something else.
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
                "what stands behind the colon of --config=FILE:ARGUMENT is its one argument."
            ) from None
        config = get_config(*self.arguments)
        if not isinstance(config, Config):
            raise UserError(f"{self.path}: get_config() has to return a jaxmaskrcnn.config.Config.")
        return config


def recipe_folder() -> Path:
    """The folder of the recipes that are shipped."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def list_recipes() -> list[str]:
    """Names of the recipes that are shipped, sorted.

    Example:
        >>> list_recipes()[:2]
        ['finetune', 'maskrcnn_r101_fpn_3x']
    """
    return sorted(path.stem for path in recipe_folder().glob("*.py"))


def find_config(text: str) -> ConfigFile:
    """The config file that ``--config=text`` names.

    Args:
        text: The name of a shipped recipe or the path of a Python file, either with ``:ARGUMENT``.

    Returns:
        The file, and the argument of its ``get_config``.

    Raises:
        UserError: There is no such file or recipe; the message lists the recipes.

    Example:
        >>> find_config("finetune:jaxmaskrcnn/shapes").arguments
        ('jaxmaskrcnn/shapes',)
    """
    parts = re.fullmatch(r"(.*?\.py|[^:]*)(:?)(.*)", text, re.DOTALL)
    assert parts is not None  # any text fits
    name, colon, argument = parts.groups()
    arguments = (argument,) if colon else ()
    recipes = list_recipes()
    if name in recipes:
        return ConfigFile(recipe_folder() / f"{name}.py", arguments)
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return ConfigFile(path, arguments)
    close = difflib.get_close_matches(path.stem, recipes, n=1)
    hint = f"; did you mean --config={close[0]}?" if close else ";"
    problem = "does not exist" if path.suffix == ".py" else "is no recipe that is shipped"
    raise UserError(
        f"--config={name} {problem}{hint} give the path of a Python file, or one of {', '.join(recipes)}."
    )
