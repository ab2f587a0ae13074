"""Names of a package that are imported when they are asked for."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package that imports its names late.

    JAX, Flax and Orbax take seconds, and importing any module of a package runs its ``__init__.py``: a
    command's help page, which needs none of them, would wait.

    Args:
        package: Its ``__name__``.
        homes: For each name that it exports the module in it that has the name.

    Returns:
        The two functions; modules of the package are found as well.

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
