"""Detectors from another library's parameters by name, and back."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.box_head import BoxHead
from jaxmaskrcnn.models.mask_head import MaskHead
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN

# The layers whose shapes depend on the number of classes.
CLASS_LAYERS = ("box_head.cls_score", "box_head.bbox_pred", "mask_head.logits")


class Filled(NamedTuple):
    """A model made of another library's parameters.

    Attributes:
        model: MaskRCNN.
        assigned: Paths of its arrays that have their value from there.
        ignored: Names that no model needs.
        left: Paths of the arrays that have their initial value.
    """

    model: MaskRCNN
    assigned: tuple[str, ...]
    ignored: tuple[str, ...]
    left: tuple[str, ...]


def fill_detector(
    arrays: Mapping[str, np.ndarray],
    config: ModelConfig,
    library: str,
    *,
    allow_new_heads: bool = False,
    what: str | None = None,
) -> Filled:
    """As `from_state_dict`, with an account of what went where."""
    abstract = nnx.eval_shape(lambda: MaskRCNN(config, rngs=nnx.Rngs(0)))
    variables = {".".join(map(str, path)): v for path, v in nnx.to_flat_state(nnx.state(abstract))}
    source = LIBRARIES[library]
    new_heads = [p for p in variables if p.startswith(CLASS_LAYERS)] if allow_new_heads else []
    values, ignored, left = source.table(config).assign(
        arrays,
        {name: variable.shape for name, variable in variables.items()},
        f"{what or f'The {source.title} state dict'} does not fit the model",
        new_heads,
    )
    assigned = tuple(values)
    if left:
        values |= {path: value for path, value in initial_heads(config).items() if path in left}
    graphdef, state = nnx.split(abstract)
    filled = []
    for path, variable in nnx.to_flat_state(state):
        value = values[".".join(map(str, path))]
        # A copy: the array may be a view of a mapped file, which JAX would take over as it is.
        filled.append((path, variable.replace(jnp.array(value, variable.dtype, copy=True))))
    return Filled(nnx.merge(graphdef, nnx.from_flat_state(filled)), assigned, ignored, left)


def from_state_dict(
    arrays: Mapping[str, np.ndarray], config: ModelConfig, library: str, *, allow_new_heads: bool = False
) -> MaskRCNN:
    """A detector from another library's parameters, for example those of a torch model in memory.

    Args:
        arrays: By the library's names, without a wrapper's prefix.
        config: The model's; its structure must be that of the arrays.
        library: "torchvision", "detectron2" or "mmdet".
        allow_new_heads: Leave layers that another number of classes gives another shape at their
            initial values.

    Returns:
        The detector; float32 whatever the arrays' precision.

    Raises:
        UserError: Lists every name and shape that does not fit.

    Example:
        >>> arrays = {k: v.numpy() for k, v in net.state_dict().items()}  # doctest: +SKIP
        >>> model = from_state_dict(arrays, config, "torchvision")  # doctest: +SKIP
    """
    return fill_detector(arrays, config, library, allow_new_heads=allow_new_heads).model


def to_state_dict(model: MaskRCNN, library: str) -> dict[str, np.ndarray]:
    """A detector's parameters by another library's names, as its own ``load_state_dict`` takes them.

    Args:
        model: The detector.
        library: "torchvision", "detectron2" or "mmdet".

    Returns:
        Contiguous arrays, bit for bit the model's; batch norm's counters are 0.

    Raises:
        UserError: The library has no names for a part of this model, or another order of classes.

    Example:
        >>> import jaxmaskrcnn as jmr
        >>> from flax import nnx
        >>> model = jmr.MaskRCNN(jmr.model_config("jaxmaskrcnn/shapes"), rngs=nnx.Rngs(0))
        >>> to_state_dict(model, "detectron2")["roi_heads.box_predictor.cls_score.weight"].shape
        (4, 512)
    """
    source = LIBRARIES[library]
    background = "first" if library == "torchvision" else "last"
    if model.config.background != background:
        raise UserError(
            f"The model has the background {model.config.background} among its classes and {source.title} "
            f"{background}; export it in the format of the library it comes from."
        )
    values = {
        ".".join(map(str, path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }
    arrays = source.table(model.config).export(values)
    return arrays | source.counters(arrays, model.config)


def initial_heads(config: ModelConfig) -> dict[str, jax.Array]:
    """The initial arrays of the class-dependent layers, the same ones every time."""

    def build(key):
        heads = {"box_head": BoxHead(config, rngs=nnx.Rngs(key))}
        if config.mask_head:
            heads["mask_head"] = MaskHead(config, rngs=nnx.Rngs(jax.random.fold_in(key, 1)))
        arrays = {
            ".".join(map(str, (name, *path))): variable[...]
            for name, head in heads.items()
            for path, variable in nnx.to_flat_state(nnx.state(head))
        }
        return {path: array for path, array in arrays.items() if path.startswith(CLASS_LAYERS)}

    # Compiled as one, the layers that are not asked for are never made.
    return jax.jit(build)(jax.random.key(0))
