"""A whole torch model in a pickle, ``torch.save(model, path)``: its parameters, and its settings.

The pickle describes each module as a class and its attributes, which the reader keeps as an `Inert` without
importing the class. Parameters get the names that ``state_dict()`` gives them. (Source:
torch/nn/modules/module.py, ``_save_to_state_dict``.)
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxmaskrcnn.utils.pickles.stand_ins import Inert

# The packages whose modules may be described; models of other packages are refused by name.
DESCRIBED = ("torch.nn.modules.", "torch.nn.parallel.", "torchvision.models.", "torchvision.ops.")
_WRAPPERS = ("torch.nn.parallel.distributed.", "torch.nn.parallel.data_parallel.")


def is_module(value: Any) -> bool:
    """Whether a value from a pickle describes a torch module.

    Args:
        value: Any value.

    Example:
        >>> is_module(Inert("torch.nn.modules.linear.Linear", (), {"_parameters": {}, "_modules": {}}))
        True
    """
    return isinstance(value, Inert) and isinstance(value.state, Mapping) and "_modules" in value.state


def attributes(module: Any) -> Mapping[str, Any]:
    """Return the attributes of a described object; {} if it has none.

    Args:
        module: An `Inert`, or anything else.
    """
    state = module.state if isinstance(module, Inert) else None
    return state if isinstance(state, Mapping) else {}


def child(module: Any, path: str) -> Any:
    """Return a module inside of a module, by its dotted path; None if there is none.

    Args:
        module: A described module.
        path: Such as "roi_heads.box_roi_pool".
    """
    for name in path.split("."):
        children = attributes(module).get("_modules")
        module = children.get(name) if isinstance(children, Mapping) else None
    return module


def unwrapped(module: Inert) -> Inert:
    """Return the model inside of the wrappers that train on several devices.

    Args:
        module: A described module.
    """
    while module.name.startswith(_WRAPPERS) and is_module(inner := child(module, "module")):
        module = inner
    return module


def module_arrays(module: Inert) -> dict[str, np.ndarray]:
    """Return a described module's arrays by the names of its ``state_dict()``.

    Args:
        module: For which `is_module` is true.
    """
    return dict(_arrays(module, ""))


def _arrays(module: Inert, prefix: str) -> Iterator[tuple[str, Any]]:
    own = attributes(module)
    passing = own.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, value in _items(own.get(group)):
            if value is not None and not (group == "_buffers" and name in passing):
                yield f"{prefix}{name}", value
    for name, value in _items(own.get("_modules")):
        if is_module(value):
            yield from _arrays(value, f"{prefix}{name}.")


def _items(values: Any) -> list[tuple[Any, Any]]:
    return list(values.items()) if isinstance(values, Mapping) else []
