"""Choose the configuration for a checkpoint's arrays, and explain the choice.

torchvision has one set of conventions, so the structure of its arrays is enough. Detectron2 and
MMDetection keep strides, pixel means and the like in a config file beside the weights.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.values import shown
from jaxmaskrcnn.convert.config_files import config_from_file, library_of_config_file
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.convert.structure import backbone_names, config_structure, names_file, part_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.tables import Table
from jaxmaskrcnn.zoo.lookup import list_models, model_config, model_info

ORDINARY_EPSILON = 1e-5  # of batch norm in all three libraries
_CONFIG_FILES = {suffix: library.name for library in LIBRARIES.values() for suffix in library.config_suffixes}


class Choice(NamedTuple):
    """A configuration and its origin.

    Attributes:
        config: The model's configuration.
        name: Its origin (a preset, a config file, ...), for messages.
        notes: Decisions, one sentence each.
    """

    config: ModelConfig
    name: str
    notes: tuple[str, ...]


def resolve_model(model: str | os.PathLike | ModelConfig, num_classes: int | None = None) -> ModelConfig:
    """Return the configuration that a user chose.

    Args:
        model: A preset's name, a ModelConfig, or the path of a Detectron2 yaml, an MMDetection config or a
            file with a class of matterport's.
        num_classes: Replaces its number of classes; a different number drops its categories.

    Raises:
        UserError: There is no such preset or file, or ``model`` is something else.

    Example:
        >>> resolve_model("detectron2/mask_rcnn_R_50_FPN_3x", num_classes=2).num_classes
        2
    """
    if isinstance(model, ModelConfig):
        config = model
    elif not isinstance(model, str | os.PathLike):
        raise UserError(
            f"model is {shown(model)}; give a preset's name, a ModelConfig, or the path of a Detectron2 yaml "
            "or MMDetection config."
        )
    elif os.fspath(model) not in list_models() and _is_config_file(model):
        # Settings that only affect training do not matter for trained weights.
        config = config_from_file(model, training=False)
    else:
        return model_config(os.fspath(model), num_classes)
    if num_classes in (None, config.num_classes):
        return config
    return config.replace(num_classes=num_classes, categories=())


def with_epsilon(config: ModelConfig, bn_eps: float) -> ModelConfig:
    """Return the configuration with this epsilon in the backbone's norm layers.

    Raises:
        UserError: The epsilon is negative or not finite.
    """
    if not (math.isfinite(bn_eps) and bn_eps >= 0):
        raise UserError(f"bn_eps is {bn_eps}; give a small number of at least 0, such as 1e-5.")
    return config.replace({"backbone.norm_epsilon": float(bn_eps)})


def choose_config(
    library: Library,
    arrays: Mapping[str, np.ndarray],
    source: SourceFile,
    model: str | os.PathLike | ModelConfig | None,
    num_classes: int | None,
    bn_eps: float | None,
    allow_new_heads: bool,
) -> Choice:
    """Choose the configuration for a detector's arrays.

    Args:
        library: The library whose names the arrays have.
        arrays: Arrays by these names, without a wrapper's prefix.
        source: The file.
        model: As in `resolve_model`; None to infer the configuration from the file.
        num_classes: Replaces the model's number of classes.
        bn_eps: Epsilon of the backbone's norm layers; replaces the inferred one.
        allow_new_heads: Whether the numbers of classes in model and file may differ.

    Raises:
        UserError: ``model`` is not given and cannot be inferred, ``model`` is another library's, or
            the numbers of classes differ.
    """
    structure = library.structure(arrays, source.path)
    counted, variances = _backbone_norms(library, arrays, structure)
    if model is None:
        choice = _choice_of_file(library, structure, source, counted)
        if num_classes not in (None, choice.config.num_classes):
            changed = choice.config.replace(num_classes=num_classes, categories=())
            choice = choice._replace(config=changed)
    else:
        _check_library(model, library, source.path)
        config = resolve_model(model, num_classes)
        choice = Choice(config, "the given ModelConfig" if isinstance(model, ModelConfig) else str(model), ())
    _check_background(choice, library, source.path)
    found, expected = structure["num_classes"], choice.config.num_classes
    if found != expected and not allow_new_heads:
        raise UserError(
            f"{source.path} has {count_classes(found)} and {choice.name} {count_classes(expected)}; to keep "
            f"the file's, give num_classes={found} (convert --num_classes={found}), or a ModelConfig or "
            f"config file with that number; for {expected} with new class-dependent layers, give "
            "allow_new_heads=True (--allow_new_heads)."
        )
    config, note = _found_epsilon(choice.config, bn_eps, counted, variances, source.path)
    return Choice(config, choice.name, (*choice.notes, note))


def misfits(library: Library, arrays: Mapping[str, np.ndarray], choice: Choice, path: str) -> str:
    """List differences between a file's structure and a configuration's, as a suffix to the file's name."""
    found, expected = library.structure(arrays, path), config_structure(choice.config)
    different = [
        f"{path} is {found.get(path)!r} in the file and {expected.get(path)!r} in {choice.name}"
        for path in dict.fromkeys((*expected, *found))
        if found.get(path) != expected.get(path) and path != "num_classes"
    ]
    return f" ({', '.join(different)})" if different else ""


def fitting_presets(library: Library, structure: Mapping[str, Any]) -> list[str]:
    """List a library's presets with a given structure.

    Args:
        library: The presets' library.
        structure: As ``Library.structure`` returns it; presets with its number of classes come first.
    """
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
    if not (counted or structure["neck.norm"] == "bn"):
        fields |= {path: usual.get(path) for path in fixed}
    if fitting := fitting_presets(library, structure):
        named = [name for name in fitting if model_info(name).file == Path(path).name]
        name = (named or fitting)[0]
        return Choice(model_config(name, classes).replace(fields), name, ())
    config = usual.replace({**structure, **fields})
    return Choice(config, f"{library.title}'s conventions ({_describe(structure)})", ())


def _backbone_norms(
    library: Library, arrays: Mapping[str, np.ndarray], structure: Mapping[str, Any]
) -> tuple[bool, list[np.ndarray]]:
    """Return whether the backbone's batch norm counts batches (frozen layers do not), and its variances."""
    table = Table.of([backbone_names(library.name, structure)])
    counted, variances = False, []
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind in ("num_batches_tracked", "running_var"):
            if table.translate(f"{layer}.weight") is not None:
                counted |= kind == "num_batches_tracked"
                variances += [array] if kind == "running_var" else []
    return counted, variances


def _found_epsilon(
    config: ModelConfig, bn_eps: float | None, counted: bool, variances: list[np.ndarray], path: str
) -> tuple[ModelConfig, str]:
    """Set the epsilon that the weights were trained with, and explain it in a sentence."""
    if bn_eps is not None:
        epsilon, why = with_epsilon(config, bn_eps).backbone.norm_epsilon, "as given by bn_eps"
    elif config.backbone.norm_epsilon:
        epsilon, why = config.backbone.norm_epsilon, "as in the model"
        if config.background == "first" and config.backbone.norm == "frozen_bn" and not counted:
            why += " (torchvision's COCO_V1 weights and models fine-tuned from them use 0)"
    elif counted:
        epsilon = ORDINARY_EPSILON
        why = "because num_batches_tracked implies that the model had ordinary batch norm"
    elif any((x == 0).any() for x in variances):
        epsilon, why = ORDINARY_EPSILON, "because some channels have variance 0"
    else:
        epsilon = 0.0
        why = (
            "as in the COCO_V1 weights and models fine-tuned from them (for a model trained from ImageNet "
            "weights alone, give bn_eps=1e-5, --bn_eps=1e-5)"
        )
    if epsilon == 0 and any((x <= 0).any() for x in variances):
        raise UserError(
            f"{path} has channels of variance 0, so a model with a norm epsilon of 0 would divide by zero; "
            "give bn_eps=1e-5 (--bn_eps=1e-5)."
        )
    note = f"The epsilon of the backbone's norm layers is {epsilon:g}, {why}."
    return with_epsilon(config, epsilon), note


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


def _is_config_file(model: str | os.PathLike) -> bool:
    return Path(model).suffix.lower() in _CONFIG_FILES or Path(model).is_file()


def _describe(structure: Mapping[str, Any]) -> str:
    detector = "Mask R-CNN" if structure["mask"] else "Faster R-CNN"
    parts = [part_of(structure, place) for place in ("backbone", "neck")]
    words = [names_file(part).describe(part) for part in parts if part is not None]
    return ", ".join([detector, *words, count_classes(structure["num_classes"])])


def count_classes(classes: int) -> str:
    """Format a number of classes for a message."""
    return f"{classes} class{'es' if classes != 1 else ''}"
