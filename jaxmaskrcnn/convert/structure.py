"""The parts of a detector by the names files beside them: the names of its arrays, and what the arrays show.

Arrays show kinds of parts, numbers of layers and widths. Where a stride lies, how pixels are normalised,
which anchors were used: no array says that.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.paths import part_classes, replace, type_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.tables import Names, Table


def names_file(part: Any) -> ModuleType:
    """The module that a part's configuration names; see `names/layers.py`.

    Raises:
        UserError: The part has none, so that no library's files can be read or written.
    """
    if not hasattr(part, "names"):
        raise UserError(
            f"{type(part).__name__} says of no library what its arrays are called there; give the class a "
            "`names`, the module with the names."
        )
    return importlib.import_module(part.names)


def backbone_prefix(library: str, neck: Any) -> str:
    """What stands before a backbone's names in a detector with such a neck, or with None."""
    return "backbone." if neck is None else names_file(neck).BACKBONE[library]


def _places() -> tuple[str, ...]:
    """The parts of a model with arrays; the neck comes first, as the names of a backbone depend on it."""
    places = [field.name for field in dataclasses.fields(ModelConfig) if classes_with_names(field.name)]
    return tuple(sorted(places, key=lambda place: place != "neck"))


def detector_names(library: str, config: ModelConfig) -> Iterator[Names]:
    """A library's names for the parts of a detector."""
    prefix = backbone_prefix(library, config.neck)
    for place in _places():
        if (part := getattr(config, place)) is not None:
            yield _names(library, place, part, prefix, config.backbone)


def backbone_names(library: str, structure: Mapping[str, Any]) -> Names:
    """A library's names for the backbone of a structure as `read_structure` returns it."""
    prefix = backbone_prefix(library, part_of(structure, "neck"))
    return _names(library, "backbone", part_of(structure, "backbone"), prefix)


def _names(library: str, place: str, part: Any, prefix: str, backbone: Any = None) -> Names:
    arguments = {"backbone": (prefix,), "trunk": (backbone,)}.get(place, ())
    return names_file(part).names(library, part, *arguments)


def read_structure(library: str, arrays: Mapping[str, np.ndarray], what: str) -> dict[str, Any]:
    """The settings that a detector's arrays show.

    Args:
        library: Whose names they have.
        arrays: By these names.
        what: Names the source in an error.

    Returns:
        Values by dotted path; of a part with kinds, its kind as well, or None where it is missing. Norm
        layers with statistics are "bn".

    Raises:
        UserError: The arrays are no detector of known parts.

    Example:
        >>> arrays = to_state_dict(model, "torchvision")  # doctest: +SKIP
        >>> read_structure("torchvision", arrays, "it") == config_structure(model.config)  # doctest: +SKIP
        True
    """
    found: dict[str, Any] = {}
    prefix, backbone = "", None
    try:
        for place in _places():
            names = functools.partial(_names, library, place, prefix=prefix, backbone=backbone)
            found |= _read_part(place, names, arrays, what)
            if place == "neck":
                prefix = backbone_prefix(library, part_of(found, "neck"))
            elif place == "backbone":
                backbone = part_of(found, "backbone")
    except KeyError as error:
        raise UserError(
            f"{what} has no array for {error.args[0]}, which every Faster or Mask R-CNN has."
        ) from None
    return found


def _read_part(
    place: str, names_of: Callable[[Any], Names], arrays: Mapping[str, np.ndarray], what: str
) -> dict[str, Any]:
    classes = classes_with_names(place)
    for kind, part_class in classes.items():
        part = part_class()
        # The names of a part can depend on what they show, as where a library numbers its layers through.
        for _ in range(2):
            found = names_file(part).read_structure(_shapes(arrays, names_of(part)), what)
            if found is None:
                break
            found = ({place: kind} if kind else {}) | found
            part = part_of(found, place)
        else:
            return found
    if type(None) in getattr(type_of(ModelConfig(), place), "__args__", ()):
        return {place: None}
    raise UserError(f"{what} has no {place} that is known; known are {', '.join(classes)}.")


def _shapes(arrays: Mapping[str, np.ndarray], names: Names) -> dict[str, tuple[int, ...]]:
    table, shapes = Table.of([names]), {}
    for name, array in arrays.items():
        if (translated := table.translate(name)) is not None:
            path, transform = translated
            shapes[path] = transform.to_model_if_possible(array).shape
    return shapes


def part_of(structure: Mapping[str, Any], place: str) -> Any:
    """A part with the settings that arrays show, and the usual ones besides; None where it is missing.

    Example:
        >>> part_of({"backbone": "resnet", "backbone.depth": 18}, "backbone").depth
        18
    """
    kind = structure.get(place, "")
    if kind is None:
        return None
    own = {path: value for path, value in structure.items() if path.startswith(f"{place}.")}
    return replace(
        classes_with_names(place)[kind](), {path.removeprefix(f"{place}."): x for path, x in own.items()}
    )


def classes_with_names(place: str) -> dict[str, type]:
    """The classes with names that a place can hold, by their kind; "" where there is one without a kind."""
    expected = type_of(ModelConfig(), place)
    classes = part_classes(expected) or ({"": expected} if isinstance(expected, type) else {})
    return {kind: part_class for kind, part_class in classes.items() if hasattr(part_class, "names")}


def has_part(kind: str) -> bool:
    """Whether some part of a model can be of a kind, such as "regnet", and has names for its arrays."""
    return bool(kind) and any(kind in classes_with_names(place) for place in _places())


def config_structure(config: ModelConfig) -> dict[str, Any]:
    """What `read_structure` finds in the arrays of a model of this configuration."""
    found: dict[str, Any] = {}
    for place in _places():
        part = getattr(config, place)
        if part_classes(type_of(config, place)):
            found[place] = part and part.kind
        if part is not None:
            found |= names_file(part).structure(config)
    return found
