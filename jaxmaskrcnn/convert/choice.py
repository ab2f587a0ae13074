"""Choose the configuration for a checkpoint's arrays, and explain the choice.

torchvision has one set of conventions, so the structure of its arrays is enough. Detectron2 and
MMDetection keep strides, pixel means and the like in a config file beside the weights.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.config_files import library_of_config_file
from jaxmaskrcnn.convert.epsilon import backbone_norms, found_epsilon
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.convert.missing_settings import (
    check_anchors,
    is_published,
    missing_settings_warning,
    name_classes_of_file,
)
from jaxmaskrcnn.convert.named_model import resolve_model
from jaxmaskrcnn.convert.older import older_config, other_library_warning
from jaxmaskrcnn.convert.structure import config_structure, part_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.zoo.lookup import list_models, model_config, model_info


class Choice(NamedTuple):
    """A configuration and its origin.

    Attributes:
        config: The model's configuration.
        name: Its origin (a preset, a config file, ...), for messages.
        notes: Decisions, one sentence each.
        warnings: What the file cannot tell, one sentence each.
    """

    config: ModelConfig
    name: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def choose_config(
    library: Library,
    arrays: Mapping[str, np.ndarray],
    source: SourceFile,
    model: str | os.PathLike | ModelConfig | None,
    num_classes: int | None,
    bn_eps: float | None,
    allow_new_heads: bool,
    older: str = "",
) -> Choice:
    """Choose the configuration for a detector's arrays.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names, without a wrapper's prefix.
        source: The file.
        model: As in `resolve_model`; None to infer the configuration from the file. Its number of classes
            only counts if it is a ModelConfig; otherwise the file's does.
        num_classes: The number of classes that the user asks for, or None.
        bn_eps: Epsilon of the backbone's norm layers; replaces the inferred one.
        allow_new_heads: Whether to take the number of classes that is asked for, or else the model's, where
            the file has another.
        older: The library before Detectron2 that the file comes from, or "".

    Raises:
        UserError: ``model`` is not given and cannot be inferred, ``model`` is another library's, or
            the file has another number of classes than the user asks for.
    """
    structure = library.structure(arrays, source.path)
    counted, variances = backbone_norms(library, arrays, structure)
    if model is None and older:
        config, note = older_config(older, structure)
        choice = Choice(config, f"{older}'s conventions ({_describe(structure)})", (note,))
    elif model is None:
        choice = _choice_of_file(library, structure, source, counted)
    else:
        _check_library(model, library, source.path)
        name = "the given ModelConfig" if isinstance(model, ModelConfig) else str(model)
        choice = Choice(resolve_model(model), name, ())
    _check_background(choice, library, source.path)
    given = isinstance(model, ModelConfig)
    choice = _with_classes(choice, structure["num_classes"], num_classes, allow_new_heads, source.path, given)
    names = library.class_names(source.attributes) if library.class_names else ()
    order = "list" if older else library.label_order
    config, notes = name_classes_of_file(order, choice.config, names, given)
    stored = library.stored_settings(config, source) if library.stored_settings and not given else None
    if stored is not None:
        config, notes = stored.config, [*notes, stored.note]
        bn_eps = stored.epsilon if bn_eps is None else bn_eps
    check_anchors(library, arrays, config, choice.name, source.path)
    # What no file states is assumed, but for published weights, whose settings are known.
    assumed = (
        library.stored_settings
        and stored is None
        and model is None
        and not is_published(choice.name, source.path)
    )
    warnings = [missing_settings_warning(config, choice.name, source.path)] if assumed else []
    warnings += other_library_warning(older, config, choice.name)
    config, note = found_epsilon(config, bn_eps, counted, variances, source.path)
    return Choice(config, choice.name, (*choice.notes, *notes, note), tuple(warnings))


def _with_classes(
    choice: Choice, found: int, requested: int | None, allow_new_heads: bool, path: str, given: bool
) -> Choice:
    """Give a choice the file's number of classes, or the one that the user asks for.

    Args:
        choice: The choice, with its own number.
        found: The file's number.
        requested: The number that the user asks for, or None.
        allow_new_heads: As in `choose_config`.
        path: The file, for messages.
        given: Whether the choice's own number is one that the user gave, in a ModelConfig.
    """
    usual = choice.config.num_classes
    if requested is None and not given and not allow_new_heads:
        if found == usual:
            return choice
        note = f"The number of classes is the file's, {found}; {choice.name} has {usual}."
        config = choice.config.replace(num_classes=found, categories=())
        return choice._replace(config=config, notes=(*choice.notes, note))
    wanted = usual if requested is None else requested
    if found != wanted and not allow_new_heads:
        where = choice.name if requested is None else f"num_classes={requested}"
        raise UserError(
            f"{path} has {count_classes(found)}, but {where} asks for {wanted}; give num_classes={found} "
            f"(--num_classes={found}) to load it as it is, or allow_new_heads=True (--allow_new_heads) for "
            f"{wanted} with new class-dependent layers."
        )
    if wanted == usual:
        return choice
    return choice._replace(config=choice.config.replace(num_classes=wanted, categories=()))


def check_structure(library: Library, arrays: Mapping[str, np.ndarray], choice: Choice, path: str) -> None:
    """Explain by settings why a file does not fit a configuration.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names.
        choice: The configuration and its origin.
        path: The file.

    Raises:
        UserError: Settings differ; the message lists them.
    """
    found, expected = library.structure(arrays, path), config_structure(choice.config)
    # With one class, arrays do not determine whether heads are class-agnostic.
    free = {"num_classes"} | (_AGNOSTIC if found["num_classes"] == 1 else set())
    different = [
        f"{place} {found.get(place)}, here {expected.get(place)}"
        for place in dict.fromkeys((*expected, *found))
        if found.get(place) != expected.get(place) and place not in free
    ]
    if different:
        raise UserError(
            f"{path} does not fit {choice.name}: {'; '.join(different)}; nothing was loaded. Give the "
            "settings that it was made with."
        )


def fitting_presets(
    library: Library, structure: Mapping[str, Any], presets: Mapping[str, ModelConfig] | None = None
) -> list[str]:
    """List a library's presets with a given structure.

    Args:
        library: The presets' library.
        structure: As ``Library.structure`` returns it; presets with its number of classes come first.
        presets: Configurations by name to choose from; None takes all of the library's.
    """
    if presets is None:
        presets = {name: model_config(name) for name in list_models() if name.startswith(f"{library.name}/")}
    # With one class, arrays do not determine whether heads are class-agnostic.
    skipped = {"num_classes"} | (_AGNOSTIC if structure["num_classes"] == 1 else set())
    expected = {path: value for path, value in structure.items() if path not in skipped}
    fitting = [
        name
        for name, config in presets.items()
        if expected == {path: v for path, v in config_structure(config).items() if path not in skipped}
    ]
    return sorted(fitting, key=lambda name: presets[name].num_classes != structure["num_classes"])


_AGNOSTIC = {"box.class_agnostic", "mask.class_agnostic"}


def _choice_of_file(library: Library, structure: dict[str, Any], source: SourceFile, counted: bool) -> Choice:
    if library.config_file is None:
        return _choice_of_structure(library, structure, counted, source.path)
    text = library.config_inside(source.attributes) if library.config_inside else None
    if text is not None:
        config = library.read_settings(text, f"the config inside {source.path}", training=False)
        return Choice(config, "the config inside the file", ())
    if fitting := fitting_presets(library, structure):
        ways = f"one of the presets with the same structure or the path of {library.config_file}."
        for name in fitting:
            ways += f"\n  {name}"
            if model_info(name).file == Path(source.path).name:
                ways += " (has this file name)"
            if model_config(name).num_classes != structure["num_classes"]:
                ways += f" with num_classes={structure['num_classes']}"
    else:
        what = _describe(structure)
        ways = f"the path of {library.config_file}, because no preset has its structure ({what})."
    raise UserError(
        f"{source.path} has {library.title}'s names, which do not determine the stride, the pixel mean or "
        f"the channel order; give as model= (--model=) {ways}"
    )


def _choice_of_structure(library: Library, structure: dict[str, Any], counted: bool, path: str) -> Choice:
    classes, usual = structure["num_classes"], library.usual
    fields = {"categories": usual.categories if classes == usual.num_classes else ()}
    # Some libraries have batch norm with fixed statistics, which arrays do not tell from ordinary one.
    fixed = [p for p, norm in structure.items() if norm == "bn" and usual.get(p) in ("frozen_bn", "bn_eval")]
    # torchvision freezes the batch norm of pretrained backbones.
    ordinary = counted or structure["neck.norm"] == "bn"
    fields |= {place: "bn" if ordinary else usual.get(place) for place in fixed}
    if fitting := fitting_presets(library, structure):
        named = [name for name in fitting if model_info(name).file == Path(path).name]
        name = (named or fitting)[0]
        return Choice(model_config(name, classes).replace(fields), name, ())
    config = usual.replace({**structure, **fields})
    return Choice(config, f"{library.title}'s conventions ({_describe(structure)})", ())


def _check_library(model: str | os.PathLike | ModelConfig, library: Library, path: str) -> None:
    """Reject a preset or config file of a library other than the arrays'."""
    if isinstance(model, ModelConfig):
        return
    name = os.fspath(model)
    other = name.split("/")[0] if name in list_models() else library_of_config_file(name)
    if other in LIBRARIES and other != library.name:
        what = "preset" if name in list_models() else "config file"
        hint = (
            "leave model out, since it can be inferred"
            if library.config_file is None
            else f"give a preset {library.name}/..."
        )
        raise UserError(
            f"{path} has {library.title}'s names, but {name} is a {what} of {LIBRARIES[other].title}; {hint}."
        )


def _check_background(choice: Choice, library: Library, path: str) -> None:
    expected = library.background
    if choice.config.background != expected:
        raise UserError(
            f"{path} has {library.title}'s names, so its background class comes {expected}, but it comes "
            f"{choice.config.background} in {choice.name}; give a model with {library.title}'s conventions."
        )


def _describe(structure: Mapping[str, Any]) -> str:
    detector = "Mask R-CNN" if structure["mask"] else "Faster R-CNN"
    if structure["keypoints"]:
        detector = f"{detector} with keypoints" if structure["mask"] else "Keypoint R-CNN"
    if structure["semantic"]:
        detector = "Panoptic FPN"
    parts = [part_of(structure, place) for place in ("backbone", "neck")]
    words = [names_file(part).describe(part) for part in parts if part is not None]
    return ", ".join([detector, *words, count_classes(structure["num_classes"])])


def count_classes(classes: int) -> str:
    """Format a number of classes for a message."""
    return f"{classes} class{'es' if classes != 1 else ''}"
