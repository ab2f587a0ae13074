"""Makes the model that training starts from, with random weights, a backbone's or a detector's."""

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from jaxmaskrcnn.checkpoints import directory as model_directory
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.paths import settings
from jaxmaskrcnn.convert.backbone import fill_backbone
from jaxmaskrcnn.convert.detector import arrays_by_path, convert_source, log_report
from jaxmaskrcnn.convert.familiar_names import familiar_names
from jaxmaskrcnn.convert.families import holds_detector
from jaxmaskrcnn.convert.files.foreign import checkpoint_inside
from jaxmaskrcnn.convert.files.reader import read_source
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.convert.structure import structure_differences
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model, init_model
from jaxmaskrcnn.training.weights_in_part import copy_what_fits
from jaxmaskrcnn.weights.locate import locate
from jaxmaskrcnn.zoo.lookup import model_config as preset_config

log = logging.getLogger(__name__)


def first_model(
    model_config: ModelConfig,
    weights: str,
    seed: int,
    init: Callable[[ModelConfig, int], MaskRCNN] = init_model,
    *,
    in_part: bool = False,
) -> MaskRCNN:
    """Makes the model that training starts from.

    Args:
        model_config: The model's configuration in the run.
        weights: Empty for random weights; an ImageNet backbone file; or a detector: a model
            directory, a training workdir, or any file that ``load_model`` reads. Files may be given by a
            name of the registry or an address.
        seed: Seed of the random weights.
        init: Makes the model with random weights from a configuration and a seed.
        in_part: Whether to take what fits of a detector, and report part by part what does not.

    Returns:
        The model. Heads of a detector with another number of classes keep their random weights. Whether a
        file holds a backbone or a detector is recognised by its arrays.

    Raises:
        UserError: The weights do not fit the model.
    """
    if not weights:
        log.info("Weights: random.")
        if problem := fixed_at_random(weights, model_config):
            log.warning("%s.", problem)
        return init(model_config, seed)
    left: tuple[str, ...] = ()
    located = locate(weights)
    path = checkpoint_inside(located.path) or located.path
    if Path(path).is_dir():
        source = model_directory.load_model(path)
        if in_part:
            stored = {name: variable[...] for name, variable in variables_by_path(source).items()}
            return _in_part(stored, init(model_config, seed), weights)
    else:
        file = read_source(path)
        if not holds_detector(familiar_names(file.arrays).arrays, path):
            model = init(model_config, seed)
            fill_backbone(model, file)
            log.info("Weights: backbone from %s, the rest random.", weights)
            return model
        if in_part:
            return _in_part(arrays_by_path(file, model_config), init(model_config, seed), weights)
        source, report = convert_source(file, model_config, allow_new_heads=True)
        left = report.left
        # The new arrays are left out of this report: copy_weights logs them, with this run's random values.
        log_report(report._replace(left=()))
    model = init(model_config, seed)
    copy_weights(source, model, weights, without=left)
    # A file is read with this run's settings; those that its weights were trained with are the preset's.
    trained_with = source.config if located.preset is None else preset_config(located.preset)
    _warn_about_other_settings(trained_with, model_config, weights)
    return model


def fixed_at_random(weights: str, model_config: ModelConfig) -> str:
    """What is wrong with random weights that are partly fixed, and what to do; empty where nothing is.

    Args:
        weights: ``model.weights``.
        model_config: The model's configuration.

    Example:
        >>> fixed_at_random("", jmr.model_config("jaxmaskrcnn/shapes"))
        ''
    """
    part = model_config.backbone
    frozen, norm = getattr(part, "freeze_at", 0), getattr(part, "norm", "")
    if weights or not (frozen or norm == "frozen_bn"):
        return ""
    return (
        f"Random weights are partly fixed (model.backbone.freeze_at={frozen}, model.backbone.norm={norm!r}) "
        "and will not learn well; name weights, or set freeze_at to 0 and norm to 'bn' or 'gn'"
    )


def _in_part(stored: Mapping[str, Any], model: MaskRCNN, name: str) -> MaskRCNN:
    left = copy_what_fits(stored, model, name)
    if left:
        log.warning("%d arrays start from random values, as %s fits in part.", len(left), name)
    return model


def copy_weights(source: nnx.Module, model: MaskRCNN, name: str, without: Collection[str] = ()) -> None:
    """Copy a detector's variables into another one of the same architecture.

    Args:
        source: The detector to copy from.
        model: The detector to copy to; changed in place.
        name: Name of the source, for messages.
        without: Paths of class-dependent heads that the source has no trained values for.

    Raises:
        UserError: A variable other than a class-dependent head is missing or of another shape.
    """
    available = {path: leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(source))}
    needed = nnx.to_flat_state(nnx.state(model))
    by_class = _class_dependent(model)
    copied, initial = [], []
    for path, leaf in needed:
        found, joined = available.get(path), ".".join(map(str, path))
        if joined not in without and found is not None and found.shape == leaf.shape:
            copied.append((path, leaf.replace(found.astype(leaf.dtype))))
        elif path in by_class:
            initial.append(joined)
        else:
            if different := _different_settings(source, model):
                raise UserError(
                    f"{name} does not fit this run's model: {'; '.join(different)}; use the settings it was "
                    "made with, or take what fits with --config.model.weights_in_part=True."
                )
            problem = "does not have it" if found is None else f"has it with shape {tuple(found.shape)}"
            raise UserError(
                f"{name} does not fit this model: {joined} has the shape "
                f"{tuple(leaf.shape)} and the checkpoint {problem}; use the model settings it was made with."
            )
    nnx.update(model, nnx.from_flat_state(copied))
    log.info("Weights: %d of %d arrays from %s.", len(copied), len(needed), name)
    if initial:
        log.warning(
            "The checkpoint has another number of classes, so these arrays start from random values: %s.",
            ", ".join(initial),
        )


def _different_settings(source: nnx.Module, model: MaskRCNN) -> list[str]:
    """List the settings that give two models other arrays, except for the number of classes."""
    found = getattr(source, "config", None)
    return structure_differences(found, model.config, classes=False) if isinstance(found, ModelConfig) else []


def _warn_about_other_settings(source: ModelConfig, model: ModelConfig, name: str) -> None:
    """Warns about differing settings, because weights give the same results only with their own settings."""
    other = [
        f"{path} {value!r} (here {model.get(path)!r})"
        for path, value, _ in settings(source)
        if path not in ("num_classes", "categories", "label_order") and model.get(path) != value
    ]
    if other:
        log.warning("%s was made with other settings than this run's: %s.", name, ", ".join(other))
    there, here = ([category.name for category in x.categories] for x in (source, model))
    if there != here and sorted(there) == sorted(here):
        log.warning(
            "The classes of %s are in another order, %s, than this run's, %s; the last layers start from the "
            "weights of other classes.",
            name, ", ".join(there[:10]), ", ".join(here[:10]),
        )  # fmt: skip


def _class_dependent(model: MaskRCNN) -> set[tuple]:
    """Paths of the variables whose shape depends on the number of classes."""
    other = model.config.replace(num_classes=model.config.num_classes + 1, categories=())
    shapes = abstract_model(other)
    own = {path: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model))}
    return {path for path, leaf in nnx.to_flat_state(nnx.state(shapes)) if leaf.shape != own[path]}
