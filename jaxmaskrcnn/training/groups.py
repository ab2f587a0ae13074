"""Learning rate and weight decay by parameter, from patterns that a command line can hold.

A group is written ``PATTERN:FACTOR`` or ``PATTERN:FACTOR:DECAY``. Detectron2's
``SOLVER.BIAS_LR_FACTOR = 2`` with ``WEIGHT_DECAY_BIAS = 0`` is ``*.bias:2:0``.
"""

import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import optax
from flax import nnx

from jaxmaskrcnn.config import ConfigError


class Group(NamedTuple):
    """Training settings of the parameters that match a pattern.

    Attributes:
        pattern: Glob pattern of parameter paths.
        factor: Multiplies the learning rate, above 0.
        decay: Weight decay that replaces the optimizer's; None keeps it.
    """

    pattern: str
    factor: float
    decay: float | None


def parse_groups(texts: Iterable[str]) -> tuple[Group, ...]:
    """Parses the groups of ``optimizer.groups``.

    Args:
        texts: Each ``PATTERN:FACTOR`` or ``PATTERN:FACTOR:DECAY``.

    Returns:
        One group per text.

    Raises:
        ConfigError: A text cannot be read, a factor is not above 0, or a decay is negative.

    Example:
        >>> parse_groups(["backbone.*:0.1", "*.bias:2:0"])[1]
        Group(pattern='*.bias', factor=2.0, decay=0.0)
    """
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> Group:
    pattern, *numbers = text.strip().split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if not pattern or len(values) not in (1, 2) or not all(map(math.isfinite, values)):
        raise ConfigError(
            f"optimizer.groups has {text!r}; write PATTERN:FACTOR or PATTERN:FACTOR:DECAY, such as "
            "'backbone.*:0.1' or '*.bias:2:0'."
        )
    if values[0] <= 0:
        raise ConfigError(
            f"optimizer.groups has {text!r}; the factor of the learning rate must be above 0. "
            "Name parameters that are not to be trained in optimizer.freeze."
        )
    if values[1:] and values[1] < 0:
        raise ConfigError(f"optimizer.groups has {text!r}; the weight decay cannot be negative.")
    return Group(pattern, values[0], values[1] if values[1:] else None)


def group_values(params, groups: Sequence[Group], decays: Sequence[float]) -> tuple:
    """Finds the learning-rate factor and weight decay of every parameter. The first matching group counts.

    Args:
        params: The parameters to train (an ``nnx.State`` or nested dicts).
        groups: From `parse_groups`.
        decays: The optimizer's weight decay of each parameter, in the order of the tree.

    Returns:
        Two trees of floats with the structure of ``params``: factors and decays.

    Raises:
        ConfigError: A group matches no parameter that is trained.
    """
    names = parameter_names(params)
    for group in groups:
        if not fnmatch.filter(names, group.pattern):
            raise ConfigError(
                f"optimizer.groups has {group.pattern!r}, which matches no parameter that is trained; "
                f"{_examples(names)}."
            )
    factors, chosen = [], []
    for name, decay in zip(names, decays, strict=True):
        group = next((g for g in groups if fnmatch.fnmatchcase(name, g.pattern)), Group("", 1.0, None))
        factors.append(group.factor)
        chosen.append(decay if group.decay is None else group.decay)
    structure = jax.tree.structure(params)
    return jax.tree.unflatten(structure, factors), jax.tree.unflatten(structure, chosen)


def parameter_names(params) -> list[str]:
    """The parameters' paths, joined with dots, in the order of the tree's leaves."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=lambda n: isinstance(n, nnx.Variable))
    return [".".join(str(getattr(part, "key", part)) for part in path) for path, _ in flat]


def check_freeze(model: nnx.Module, patterns: Sequence[str]) -> None:
    """Check that every pattern of ``optimizer.freeze`` matches a parameter.

    Args:
        model: The detector.
        patterns: Glob patterns of parameter paths.

    Raises:
        ConfigError: A pattern matches no parameter.
    """
    names = parameter_names(nnx.state(model, nnx.Param))
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"optimizer.freeze has {pattern!r}, which matches no parameter; {_examples(names)}."
            )


def _examples(names: list[str]) -> str:
    parts = list(dict.fromkeys(name.split(".")[0] for name in names))
    return f"paths begin with {', '.join(parts)} and look like {names[0]}" if names else "there are none"


def add_decay(decays) -> optax.GradientTransformation:
    """``g + decay * p`` with a decay for each parameter.

    Args:
        decays: Tree of floats like the parameters.
    """

    def update(updates, params):
        return jax.tree.map(lambda decay, g, p: g + decay * p if decay else g, decays, updates, params)

    return optax.stateless(update)


def scale_by_factors(factors) -> optax.GradientTransformation:
    """Multiply every update by its group's factor.

    Args:
        factors: Tree of floats like the parameters.
    """
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda f, u: u if f == 1 else f * u, factors, updates)
    )
