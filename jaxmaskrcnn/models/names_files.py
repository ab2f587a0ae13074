"""Find the names files of the parts of a detector, which `names/layers.py` describes."""

import functools
from types import ModuleType
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.paths import part_classes, type_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.parts import import_for


def names_file(part: Any) -> ModuleType:
    """Return the module that a part's configuration class gives as ``names``; see `names/layers.py`.

    Raises:
        UserError: The part has none, so no library's files can be read or written; or it is no such module.
    """
    if not hasattr(part, "names"):
        raise UserError(
            f"{type(part).__name__} has no array names for other libraries; set the class attribute `names` "
            "to the module that has them."
        )
    meaning = "the module with its arrays' names in other libraries, as 'package.module', or leave it out"
    module = import_for(part, "names", part.names, meaning)
    if missing := [name for name in ("names", "read_structure", "structure") if not hasattr(module, name)]:
        name = part.__name__ if isinstance(part, type) else type(part).__name__
        raise UserError(
            f"{name}.names is {part.names!r}, which has no function {missing[0]}; write it as "
            "jaxmaskrcnn.names.layers describes it, or leave out names."
        )
    return module


def classes_with_names(place: str) -> dict[str, type]:
    """Return the classes with array names that a place can hold, by kind ("" if it has no kinds).

    Args:
        place: Dotted path of the place in a ModelConfig.

    Example:
        >>> list(classes_with_names("trunk")), list(classes_with_names("rpn"))
        (['res5'], [''])
    """
    expected = _type_of_place(place)
    classes = part_classes(expected) or ({"": expected} if isinstance(expected, type) else {})
    return {kind: part_class for kind, part_class in classes.items() if hasattr(part_class, "names")}


@functools.cache
def _type_of_place(place: str) -> Any:
    return type_of(ModelConfig(), place)


def names_files(place: str) -> dict[str, ModuleType]:
    """Return the names files of the classes that a place can hold, by kind.

    Args:
        place: As of `classes_with_names`.
    """
    return {kind: names_file(part) for kind, part in classes_with_names(place).items()}
