"""Which configuration a checkpoint's arrays are read with, and why that one.

torchvision has one set of conventions, so that its arrays' structure is all that is needed.
Detectron2 and MMDetection keep strides, pixel means and the like in a config beside the weights.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.files.reader import SourceFile
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.convert.structure import backbone_names, config_structure, names_file, part_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.tables import Table
from jaxmaskrcnn.zoo.lookup import list_models, model_config, model_info

ORDINARY_EPSILON = 1e-5  # of batch norm in all three libraries
_CONFIG_FILES = {suffix: library.name for library in LIBRARIES.values() for suffix in library.config_suffixes}


class Choice(NamedTuple):
    """A configuration and where it comes from.

    Attributes:
        config: For the model.
        name: The preset, the config file or what else it is, for messages.
        notes: What was decided, one sentence each.
    """

    config: ModelConfig
    name: str
    notes: tuple[str, ...]


def resolve_model(model: str | os.PathLike | ModelConfig, num_classes: int | None = None) -> ModelConfig:
    """The configuration that a user names.

    Args:
        model: A preset's name, a ModelConfig, or the path of a Detectron2 yaml or MMDetection config.
        num_classes: Number of classes in place of its own; another one drops its categories.

    Raises:
        UserError: There is no such preset or file.

    Example:
        >>> resolve_model("detectron2/mask_rcnn_R_50_FPN_3x", num_classes=2).num_classes
        2
    """
    if isinstance(model, ModelConfig):
        config = model
    elif os.fspath(model) not in list_models() and _is_config_file(model):
        # What changes training only has no effect on weights that are trained.
        config = config_from_file(model, training=False)
    else:
        return model_config(os.fspath(model), num_classes)
    if num_classes in (None, config.num_classes):
        return config
    return config.replace(num_classes=num_classes, categories=())


def with_epsilon(config: ModelConfig, bn_eps: float) -> ModelConfig:
    """A configuration with another epsilon of the backbone's norm layers.

    Raises:
        UserError: It is negative or no number.
    """
    if not (math.isfinite(bn_eps) and bn_eps >= 0):
        raise UserError(f"bn_eps is {bn_eps}; give a small number that is not negative, such as 1e-5.")
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
    """The configuration for a detector's arrays.

    Args:
        library: Whose names they have.
        arrays: By these names, without a wrapper's prefix.
        source: The file.
        model: As in `resolve_model`; None where the file says enough.
        num_classes: In place of the model's.
        bn_eps: Epsilon of the backbone's norm layers, in place of the one found.
        allow_new_heads: Whether the model may have another number of classes than the file.

    Raises:
        UserError: The file does not say enough and ``model`` is not given, ``model`` is another
            library's, or the numbers of classes differ.
    """
    shown = library.structure(arrays, source.path)
    counted, variances = _backbone_norms(library, arrays, shown)
    if model is None:
        choice = _choice_of_file(library, shown, source, counted)
        if num_classes not in (None, choice.config.num_classes):
            changed = choice.config.replace(num_classes=num_classes, categories=())
            choice = choice._replace(config=changed)
    else:
        _check_library(model, library, source.path)
        config = resolve_model(model, num_classes)
        choice = Choice(config, "the given ModelConfig" if isinstance(model, ModelConfig) else str(model), ())
    _check_background(choice, library, source.path)
    found, wanted = shown["num_classes"], choice.config.num_classes
    if found != wanted and not allow_new_heads:
        raise UserError(
            f"{source.path} has {count_classes(found)} and {choice.name} {count_classes(wanted)}; for the "
            f"file's give num_classes={found} (convert --num_classes={found}), or a ModelConfig or config "
            f"file with that number, and for {wanted} with new class-dependent layers allow_new_heads=True "
            "(--allow_new_heads)."
        )
    config, note = _found_epsilon(choice.config, bn_eps, counted, variances, source.path)
    return Choice(config, choice.name, (*choice.notes, note))


def misfits(library: Library, arrays: Mapping[str, np.ndarray], choice: Choice, path: str) -> str:
    """How the structure of a file differs from a configuration's, to be put behind the file's name."""
    shown, wanted = library.structure(arrays, path), config_structure(choice.config)
    different = [
        f"{path} is {shown.get(path)!r} in the file and {wanted.get(path)!r} in {choice.name}"
        for path in dict.fromkeys((*wanted, *shown))
        if shown.get(path) != wanted.get(path) and path != "num_classes"
    ]
    return f" ({', '.join(different)})" if different else ""


def fitting_presets(library: Library, shown: Mapping[str, Any]) -> list[str]:
    """Names of a library's presets that have a structure.

    Args:
        library: Of the presets.
        shown: As ``Library.structure`` returns it; presets with its number of classes come first.
    """
    presets = {name: model_config(name) for name in list_models() if name.startswith(f"{library.name}/")}
    # Whether heads are class-agnostic does not show in a file with one class.
    skipped = {"num_classes"} | (_AGNOSTIC if shown["num_classes"] == 1 else set())
    wanted = {path: value for path, value in shown.items() if path not in skipped}
    fitting = [
        name
        for name, config in presets.items()
        if wanted == {path: v for path, v in config_structure(config).items() if path not in skipped}
    ]
    return sorted(fitting, key=lambda name: presets[name].num_classes != shown["num_classes"])


_AGNOSTIC = {"box.class_agnostic", "mask.class_agnostic"}


def _choice_of_file(library: Library, shown: dict[str, Any], source: SourceFile, counted: bool) -> Choice:
    if library.config_file is None:
        return _choice_of_structure(library, shown, counted)
    text = library.config_inside(source.attributes) if library.config_inside else None
    if text is not None:
        config = library.read_settings(text, f"the config inside of {source.path}", training=False)
        return Choice(config, "the config inside of the file", ())
    if fitting := fitting_presets(library, shown):
        ways = f"one of the presets with its structure or the path of {library.config_file}."
        for name in fitting:
            ways += f"\n  {name}"
            if model_info(name).file == Path(source.path).name:
                ways += " (has this file name)"
            if model_config(name).num_classes != shown["num_classes"]:
                ways += f" with num_classes={shown['num_classes']}"
    else:
        ways = f"the path of {library.config_file}, because no preset has its structure ({_describe(shown)})."
    raise UserError(
        f"{source.path} has {library.title}'s names, which do not tell the stride, the pixel mean and the "
        f"channel order; give with model= (--model=) what says it: {ways}"
    )


def _choice_of_structure(library: Library, shown: dict[str, Any], counted: bool) -> Choice:
    classes, usual = shown["num_classes"], library.usual
    fields = {"categories": usual.categories if classes == usual.num_classes else ()}
    # torchvision freezes the batch norm of backbones that come with weights.
    if shown["backbone.norm"] == "bn":
        fields["backbone.norm"] = "bn" if counted or shown["neck.norm"] == "bn" else "frozen_bn"
    if fitting := fitting_presets(library, shown):
        return Choice(model_config(fitting[0], classes).replace(fields), fitting[0], ())
    config = usual.replace({**shown, **fields})
    return Choice(config, f"{library.title}'s conventions ({_describe(shown)})", ())


def _backbone_norms(
    library: Library, arrays: Mapping[str, np.ndarray], shown: Mapping[str, Any]
) -> tuple[bool, list[np.ndarray]]:
    """Whether the backbone's batch norm counted batches, which frozen ones do not, and its variances."""
    table = Table.of([backbone_names(library.name, shown)])
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
    """The epsilon that the weights were trained with, and a sentence about it."""
    if bn_eps is not None:
        epsilon, why = with_epsilon(config, bn_eps).backbone.norm_epsilon, "as asked for"
    elif config.backbone.norm_epsilon:
        epsilon, why = config.backbone.norm_epsilon, "the model's"
        if config.background == "first" and config.backbone.norm == "frozen_bn" and not counted:
            why += " (torchvision's COCO_V1 weights and what was fine-tuned from them were made with 0)"
    elif counted:
        epsilon = ORDINARY_EPSILON
        why = "because num_batches_tracked shows that the file was made with ordinary batch norm"
    elif any((x == 0).any() for x in variances):
        epsilon, why = ORDINARY_EPSILON, "because there are channels of variance 0"
    else:
        epsilon = 0.0
        why = (
            "which belongs to the COCO_V1 weights and to what was fine-tuned from them (after a training "
            "from ImageNet weights alone it is 1e-5: bn_eps=1e-5, --bn_eps=1e-5)"
        )
    if epsilon == 0 and any((x <= 0).any() for x in variances):
        raise UserError(
            f"{path} has channels of variance 0, by which a model with a norm epsilon of 0 would divide; "
            "give bn_eps=1e-5 (--bn_eps=1e-5)."
        )
    note = f"The epsilon of the backbone's norm layers is {epsilon:g}, {why}."
    return with_epsilon(config, epsilon), note


def _check_library(model: str | os.PathLike | ModelConfig, library: Library, path: str) -> None:
    """Refuse a preset or config file of another library than the arrays'."""
    if isinstance(model, ModelConfig):
        return
    name = os.fspath(model)
    other = name.split("/")[0] if name in list_models() else _CONFIG_FILES.get(Path(name).suffix.lower())
    if other in LIBRARIES and other != library.name:
        what = "preset" if name in list_models() else "config file"
        hint = (
            "leave model out, its names say enough"
            if library.config_file is None
            else f"give a preset {library.name}/..."
        )
        raise UserError(
            f"{path} has {library.title}'s names and {name} is a {what} of {LIBRARIES[other].title}; {hint}."
        )


def _check_background(choice: Choice, library: Library, path: str) -> None:
    wanted = library.background
    if choice.config.background != wanted:
        raise UserError(
            f"{path} has {library.title}'s names, so its background class comes {wanted}, and {choice.name} "
            f"has it {choice.config.background}; give a model with {library.title}'s conventions."
        )


def _is_config_file(model: str | os.PathLike) -> bool:
    return Path(model).suffix.lower() in _CONFIG_FILES or Path(model).is_file()


def _describe(shown: Mapping[str, Any]) -> str:
    detector = "Mask R-CNN" if shown["mask"] else "Faster R-CNN"
    parts = [part_of(shown, place) for place in ("backbone", "neck")]
    words = [names_file(part).describe(part) for part in parts if part is not None]
    return ", ".join([detector, *words, count_classes(shown["num_classes"])])


def count_classes(classes: int) -> str:
    """A number of classes in words."""
    return f"{classes} class{'es' if classes != 1 else ''}"
