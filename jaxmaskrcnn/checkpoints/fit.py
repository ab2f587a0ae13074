"""Whether stored arrays fit the configuration that a caller asks for, and a model of them.

Arrays go by their path in the model, such as "box_head.cls_score.kernel".
"""

import logging
import os
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import resolve_model, with_epsilon
from jaxmaskrcnn.convert.state_dict import CLASS_LAYERS, initial_heads, set_arrays, variables_by_path
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN

log = logging.getLogger(__name__)


class LoadSettings(NamedTuple):
    """What a caller of `load_model` asks for; the attributes are its arguments."""

    model: str | os.PathLike | ModelConfig | None
    allow_new_heads: bool
    bn_eps: float | None


def choose_config(settings: LoadSettings, stored: ModelConfig) -> ModelConfig:
    """The configuration a caller asks for, with the stored categories where it names none.

    Args:
        settings: What was asked for.
        stored: The configuration beside the arrays.

    Returns:
        The model's configuration.
    """
    model, config = settings.model, stored
    if isinstance(model, ModelConfig):
        config = model
    elif model is not None:
        config = resolve_model(model, num_classes=stored.num_classes)
    if config.categories != stored.categories and config.num_classes == stored.num_classes:
        if not isinstance(model, ModelConfig) or not config.categories:
            config = config.replace(categories=stored.categories)
    return config if settings.bn_eps is None else with_epsilon(config, settings.bn_eps)


def abstract_model(config: ModelConfig) -> MaskRCNN:
    """A detector of shapes without arrays, which takes no time to initialise."""
    return nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))


def check_fits_config(model: MaskRCNN) -> None:
    """See that a model's configuration is enough to build it again, as `load_model` does.

    Args:
        model: The detector.

    Raises:
        UserError: Its arrays have other paths or shapes than those that its configuration builds.
    """
    have, want = (
        {path: tuple(variable.shape) for path, variable in variables_by_path(x).items()}
        for x in (model, abstract_model(model.config))
    )
    other = [path for path in have | want if have.get(path) != want.get(path)]
    if other:
        raise UserError(
            f"The model cannot be saved, because {len(other)} of its arrays are not those that its config "
            f"builds ({other[0]} is the first) and load_model could not read it back; save its arrays by "
            "their paths, as docs/modules.md does."
        )


def new_arrays(
    have: dict[str, Any], want: dict[str, Any], settings: LoadSettings, source: str
) -> tuple[str, ...]:
    """The arrays that a model with another number of classes has new.

    Args:
        have: What is stored, by path; anything with a shape.
        want: What the model has.
        settings: Whether there may be new ones.
        source: The file, for messages.

    Returns:
        Their paths.

    Raises:
        UserError: Lists every array that is missing, too many or of another shape.
    """
    other = [name for name in want if name in have and tuple(have[name].shape) != tuple(want[name].shape)]
    new = tuple(name for name in other if settings.allow_new_heads and name.startswith(CLASS_LAYERS))
    problems = [
        ("missing", [name for name in want if name not in have]),
        ("not in the model", [name for name in have if name not in want]),
        (
            "of another shape",
            [
                f"{name} {tuple(have[name].shape)}, the model has {tuple(want[name].shape)}"
                for name in other
                if name not in new
            ],
        ),
    ]
    if any(names for _, names in problems):
        lists = "".join(
            f"\n{len(names)} {label}:\n  " + "\n  ".join(names) for label, names in problems if names
        )
        raise UserError(f"The arrays of {source} do not fit its model configuration.{lists}")
    if new:
        log.warning(
            "%s has another number of classes, so these have initial values: %s.", source, ", ".join(new)
        )
    return new


def fill_model(abstract: MaskRCNN, arrays: dict[str, jax.Array], new: tuple[str, ...]) -> MaskRCNN:
    """A model of arrays, with initial values in the place of those named ``new``.

    Args:
        abstract: Of `abstract_model`; filled in place.
        arrays: By path.
        new: Of `new_arrays`.

    Returns:
        The model.
    """
    if new:
        initial = initial_heads(abstract.config)
        arrays = arrays | {name: initial[name] for name in new}
    set_arrays(abstract, arrays)
    return abstract
