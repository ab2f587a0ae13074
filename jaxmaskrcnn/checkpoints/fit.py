"""Checks that stored arrays fit the requested configuration, and makes a model of them.

Arrays are named by their path in the model, such as "box_head.cls_score.kernel".
"""

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import count_classes
from jaxmaskrcnn.convert.epsilon import with_epsilon
from jaxmaskrcnn.convert.named_model import resolve_model
from jaxmaskrcnn.convert.state_dict import initial_heads, of_classes, set_arrays, variables_by_path
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model

log = logging.getLogger(__name__)


class LoadSettings(NamedTuple):
    """Settings of a call of `load_model`; the attributes are its arguments."""

    model: str | os.PathLike | ModelConfig | None
    allow_new_heads: bool
    bn_eps: float | None
    num_classes: int | None = None


def requested_config(
    settings: LoadSettings, stored: ModelConfig, source: str = "The directory"
) -> ModelConfig:
    """The configuration that a caller requests, with the stored categories if it names none.

    Args:
        settings: The caller's settings.
        stored: The configuration stored beside the arrays.
        source: The directory, for messages.

    Returns:
        The model's configuration.

    Raises:
        UserError: The caller asks for another number of classes, and new heads are not allowed.
    """
    model, config = settings.model, stored
    if isinstance(model, ModelConfig):
        config = model
    elif model is not None:
        config = resolve_model(model, num_classes=stored.num_classes)
        # No library's configuration has this setting; the weights were trained with the stored one.
        config = config.replace({"input.pixels": stored.input.pixels})
    if settings.num_classes not in (None, config.num_classes):
        if not settings.allow_new_heads:
            raise UserError(
                f"{source} has {count_classes(config.num_classes)}, but num_classes={settings.num_classes} "
                f"asks for {settings.num_classes}; leave the number out, or give allow_new_heads=True for "
                "new class-dependent layers."
            )
        config = config.replace(num_classes=settings.num_classes, categories=())
    if config.categories != stored.categories and config.num_classes == stored.num_classes:
        if not isinstance(model, ModelConfig) or not config.categories:
            config = config.replace(categories=stored.categories, label_order=stored.label_order)
    return config if settings.bn_eps is None else with_epsilon(config, settings.bn_eps)


def check_fits_config(model: MaskRCNN) -> None:
    """Check that a model can be built again from its configuration, as `load_model` does.

    Args:
        model: The detector.

    Raises:
        UserError: Its arrays have other paths or shapes than those that its configuration builds.
    """
    present, expected = (
        {path: tuple(variable.shape) for path, variable in variables_by_path(x).items()}
        for x in (model, abstract_model(model.config))
    )
    other = [path for path in present | expected if present.get(path) != expected.get(path)]
    if other:
        raise UserError(
            f"The model cannot be saved, because {len(other)} of its arrays are not those that its config "
            f"builds ({other[0]} is the first) and load_model could not read it back; save its arrays by "
            "their paths, as docs/modules.md does."
        )


def new_arrays(
    stored: dict[str, Any],
    expected: dict[str, Any],
    settings: LoadSettings,
    source: str,
    different: Sequence[str] = (),
) -> tuple[str, ...]:
    """Finds the arrays that must be initialised because the number of classes differs.

    Args:
        stored: The stored arrays by path; anything with a shape.
        expected: The model's arrays by path.
        settings: Gives whether new arrays are allowed.
        source: The file, for messages.
        different: The settings in which the stored configuration and the model's differ, for messages.

    Returns:
        The paths of the new arrays.

    Raises:
        UserError: Lists the settings that differ, or, if none does, every array that is missing, not in the
            model, or of another shape.
    """
    other = [
        name
        for name in expected
        if name in stored and tuple(stored[name].shape) != tuple(expected[name].shape)
    ]
    new = tuple(name for name in other if settings.allow_new_heads and of_classes(name))
    problems = [
        ("missing", [name for name in expected if name not in stored]),
        ("not in the model", [name for name in stored if name not in expected]),
        (
            "of another shape",
            [
                f"{name} {tuple(stored[name].shape)}, in the model {tuple(expected[name].shape)}"
                for name in other
                if name not in new
            ],
        ),
    ]
    if any(names for _, names in problems):
        if different:
            classes = any(text.startswith("num_classes ") for text in different)
            raise UserError(
                f"{source} does not fit the model that is asked for: {'; '.join(different)}; give its own "
                "settings, or leave model out"
                + (", or give allow_new_heads=True for new class-dependent layers." if classes else ".")
            )
        lists = "".join(
            f"\n{len(names)} {label}:\n  " + "\n  ".join(names) for label, names in problems if names
        )
        raise UserError(f"The arrays of {source} do not fit its model configuration.{lists}")
    if new:
        log.warning(
            "%s has another number of classes, so these arrays get initial values: %s.",
            source,
            ", ".join(new),
        )
    return new


def fill_model(abstract: MaskRCNN, arrays: dict[str, jax.Array], new: tuple[str, ...]) -> MaskRCNN:
    """Makes a model from arrays, with initial values for those named in ``new``.

    Args:
        abstract: A model from `abstract_model`; filled in place.
        arrays: The stored arrays by path.
        new: Paths from `new_arrays`.

    Returns:
        The model.
    """
    if new:
        initial = initial_heads(abstract.config)
        arrays = arrays | {name: initial[name] for name in new}
    set_arrays(abstract, arrays)
    return abstract
