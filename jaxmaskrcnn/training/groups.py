"""Learning rate and weight decay by parameter, from the patterns of ``optimizer.groups`` and from layers."""

import fnmatch
from collections.abc import Sequence

import jax
import optax
from flax import nnx

from jaxmaskrcnn.config import BackboneConfig, ConfigError
from jaxmaskrcnn.config.groups import Group


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


def layer_factors(params, backbone: BackboneConfig, rate: float):
    """Finds the learning-rate factor of every parameter by its layer, ``rate ** (last - layer)``.

    Source: ViTDet (Li et al., 2022, appendix), as in BEiT; Detectron2's ``get_vit_lr_decay_rate``.

    Args:
        params: The parameters to train (an ``nnx.State`` or nested dicts).
        backbone: Its ``layer_of`` numbers the layers of paths in it. All parts after it are the last layer,
            whose factor is 1.
        rate: The factor between two layers.

    Returns:
        A tree of floats with the structure of ``params``.

    Raises:
        ConfigError: The backbone numbers no layers.
    """
    if not hasattr(backbone, "layer_of"):
        raise ConfigError(
            f"optimizer.layer_decay is {rate:g}, but the layers of the backbone {backbone.kind!r} have no "
            "numbers; set it to 1, or take a backbone whose layers have (docs/configuration.md)."
        )
    prefix, last = "backbone.body.", backbone.layer_of("")  # no path of the backbone
    numbers = [
        backbone.layer_of(name.removeprefix(prefix)) if name.startswith(prefix) else last
        for name in parameter_names(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), [rate ** (last - number) for number in numbers])


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
