"""The structure of a detector, by its parts' names files: its arrays' names, and what the arrays imply.

Arrays determine the kinds of parts, numbers of layers and widths. They do not determine where a stride
is, how pixels are normalised or which anchors were used.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.paths import part_classes, replace, settings, type_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.names_files import classes_with_names, names_file
from jaxmaskrcnn.names.tables import Names, Table


def backbone_prefix(library: str, neck: Any) -> str:
    """Return the prefix of a backbone's names in a detector with this neck, or without one."""
    return "backbone." if neck is None else names_file(neck).BACKBONE[library]


def _places() -> tuple[str, ...]:
    """List the parts with arrays; the neck comes first because the backbone's names depend on it."""
    places = [field.name for field in dataclasses.fields(ModelConfig) if classes_with_names(field.name)]
    return tuple(sorted(places, key=lambda place: place != "neck"))


def modules_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the part of everything in a configuration that builds a module of its kind.

    Args:
        config: A part.
        prefix: Its own path, with a dot at the end.

    Example:
        >>> [(path, part.kind) for path, part in modules_of(ModelConfig(mask=None))]
        [('backbone', 'resnet'), ('neck', 'fpn')]
    """
    for field in dataclasses.fields(config):
        part = getattr(config, field.name)
        if hasattr(part, "module"):
            yield f"{prefix}{field.name}", part
        if dataclasses.is_dataclass(part):
            yield from modules_of(part, f"{prefix}{field.name}.")


def detector_names(library: str, config: ModelConfig) -> Iterator[Names]:
    """Yield a library's names for the parts of a detector."""
    prefix = backbone_prefix(library, config.neck)
    for place in _places():
        if (part := getattr(config, place)) is not None:
            yield _names(library, place, part, prefix, config.backbone)


def structure_names(library: str, structure: Mapping[str, Any], box: Any) -> Iterator[Names]:
    """Yield a library's names for the parts of a structure from `read_structure`.

    Args:
        library: The library.
        structure: Values by dotted path.
        box: The box head of a model, whose pooling determines the order of its first layer's inputs.
    """
    prefix = backbone_prefix(library, part_of(structure, "neck"))
    backbone = part_of(structure, "backbone")
    for place in _places():
        part = part_of(structure, place)
        if place == "box":
            part = replace(part, {"pool": box.pool})
        if part is not None:
            yield _names(library, place, part, prefix, backbone)


def backbone_names(library: str, structure: Mapping[str, Any]) -> Names:
    """Return a library's names for the backbone of a structure from `read_structure`."""
    prefix = backbone_prefix(library, part_of(structure, "neck"))
    return _names(library, "backbone", part_of(structure, "backbone"), prefix)


def _names(library: str, place: str, part: Any, prefix: str, backbone: Any = None) -> Names:
    arguments = {"backbone": (prefix,), "trunk": (backbone,)}.get(place, ())
    return names_file(part).names(library, part, *arguments)


def read_structure(library: str, arrays: Mapping[str, np.ndarray], what: str) -> dict[str, Any]:
    """Infer settings from a detector's arrays.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names.
        what: Names the source in an error.

    Returns:
        Values by dotted path. Parts with kinds also have their kind, or None if they are missing. Norm
        layers with statistics are "bn".

    Raises:
        UserError: The arrays are not those of a supported detector.

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
            f"{what} has no array for {error.args[0]}, which every Faster or Mask R-CNN has; give a complete "
            "detector."
        ) from None
    return found


def _read_part(
    place: str, names_of: Callable[[Any], Names], arrays: Mapping[str, np.ndarray], what: str
) -> dict[str, Any]:
    classes = classes_with_names(place)
    # A kind that extends another one comes before it, as its arrays are more.
    for kind, part_class in sorted(classes.items(), key=lambda item: -len(item[1].__mro__)):
        part = part_class()
        # A part's names can depend on its own settings, e.g. if all its layers share one numbering.
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
    raise UserError(f"{what} has no known {place}; give a detector with one of these: {', '.join(classes)}.")


def _shapes(arrays: Mapping[str, np.ndarray], names: Names) -> dict[str, tuple[int, ...]]:
    table, shapes = Table.of([names]), {}
    for name, array in arrays.items():
        if (translated := table.translate(name)) is not None:
            path, transform = translated
            shapes[path] = transform.to_model_if_possible(array).shape
    return shapes


def part_of(structure: Mapping[str, Any], place: str) -> Any:
    """Return a part with the settings of a structure and defaults for the others; None if it is missing.

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


def has_layer_norm(kind: str | None) -> bool:
    """Whether backbones of a kind have layer norm, for which they have no setting; None is a ResNet."""
    return getattr(classes_with_names("backbone").get(kind or "resnet"), "norm", None) == "ln"


def has_part(kind: str) -> bool:
    """Whether some part of a model can be of a kind, such as "regnet", and has names for its arrays."""
    return bool(kind) and any(kind in classes_with_names(place) for place in _places())


def config_structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers from the arrays of this configuration's model."""
    return dict(_config_structure(config))


@functools.lru_cache(maxsize=1024)
def _config_structure(config: ModelConfig) -> dict[str, Any]:
    """What `config_structure` returns a copy of; files are compared with hundreds of presets."""
    found: dict[str, Any] = {}
    for place in _places():
        part = getattr(config, place)
        if part_classes(type_of(config, place)):
            found[place] = part and part.kind
        if part is not None:
            found |= names_file(part).structure(config)
    return found


def structure_differences(found: ModelConfig, wanted: ModelConfig, classes: bool = True) -> list[str]:
    """List the settings that give two models other arrays, such as "backbone.depth 18, here 50".

    Args:
        found: The configuration of what is there.
        wanted: The configuration of what is needed.
        classes: Whether the number of classes counts.

    Returns:
        One text for each setting.

    Example:
        >>> structure_differences(ModelConfig(), ModelConfig().replace({"backbone.depth": 101}))
        ['backbone.depth 50, here 101']
    """
    there, here = _structure_or_settings(found), _structure_or_settings(wanted)
    lines = [
        f"{path} {there.get(path)}, here {here.get(path)}"
        for path in dict.fromkeys((*here, *there))
        if there.get(path) != here.get(path) and (classes or path != "num_classes")
    ]
    # The settings of a part that one of the models lacks follow from that.
    places = {*here, *there}
    absent = tuple(f"{x}." for x in places if None in (here.get(x, ""), there.get(x, "")))
    return [line for line in lines if not line.startswith(absent)]


def _structure_or_settings(config: ModelConfig) -> dict[str, Any]:
    """Return a configuration's structure, with what the arrays of a file show only by their shapes."""
    try:
        found = config_structure(config)
    except UserError:  # a part of another package, without names in other libraries
        parts = tuple(
            f"{place}." for place in ("backbone", "neck", "trunk", "box", "mask", "keypoints", "semantic")
        )
        found = {path: value for path, value, _ in settings(config) if path.startswith(parts)}
        found["num_classes"] = config.num_classes
    found["box.pool.size"] = config.box.pool.size
    found["anchors in each cell (rpn.anchors)"] = config.rpn.anchors.per_cell
    return found
