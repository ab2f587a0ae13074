"""Functions of the user's that a setting names: ``MODULE:FUNCTION``, or ``FILE.py:FUNCTION``."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxmaskrcnn.config.recipe_files import import_file
from jaxmaskrcnn.config.values import ConfigError


def imported_function(name: str, setting: str) -> Callable[..., Any]:
    """Import the function that a setting names.

    Args:
        name: ``package.module:function`` of a module that can be imported, also from the working directory;
            or ``path/to/file.py:function``.
        setting: The setting's path, for messages.

    Returns:
        The function, or another object that can be called.

    Raises:
        ConfigError: There is no such module, file or function, or it cannot be called.

    Example:
        >>> imported_function("math:hypot", "optimizer.build_optimizer")(3, 4)
        5.0
    """
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise ConfigError(f"{setting} is {name!r}; give MODULE:FUNCTION, such as 'my_package.parts:build'.")
    module = _file_module(place, setting) if place.endswith(".py") else _module(place, setting)
    found = getattr(module, function, None)
    if not callable(found):
        problem = "has no function" if found is None else "cannot call"
        raise ConfigError(f"{setting} is {name!r}, but {place} {problem} {function}; give another name.")
    return found


def _module(place: str, setting: str) -> Any:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ConfigError(
            f"{setting} names the module {place}, but there is no module {error.name}; run the command where "
            "it can be imported."
        ) from None


def _file_module(place: str, setting: str) -> Any:
    path = Path(place)
    if not path.is_file():
        raise ConfigError(f"{setting} names the file {place}, which does not exist; give its path.")
    known = sys.modules.get(path.stem)
    if getattr(known, "__file__", None) == os.fspath(path.resolve()):  # a recipe's file was imported with it
        return known
    return import_file(path)
