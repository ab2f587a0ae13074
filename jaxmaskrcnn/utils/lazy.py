"""Imports the names of a package only when they are used."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes ``__getattr__`` and ``__dir__`` of a package that imports its names when they are used.

    Importing JAX, Flax and Orbax takes seconds, and importing any module of a package runs its
    ``__init__.py``. A command's help page, which needs none of them, would have to wait.

    Args:
        package: The package's ``__name__``.
        homes: For each exported name, the module of the package that defines it.

    Returns:
        The two functions; ``__getattr__`` also finds modules of the package.

    Example:
        >>> from jaxmaskrcnn.utils.lazy import lazy_names
        >>> get, names = lazy_names("jaxmaskrcnn", {"UserError": "errors"})
        >>> get("UserError").__name__
        'UserError'
    """

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        elif importlib.util.find_spec(f"{package}.{name}") is not None:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
