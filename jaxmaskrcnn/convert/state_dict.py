"""Build detectors from other libraries' state dicts, and export them as such."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.libraries import LIBRARIES, Library
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.heads.box_stages import build_box_head
from jaxmaskrcnn.models.heads.keypoint import KeypointHead
from jaxmaskrcnn.models.heads.semantic import SemanticHead
from jaxmaskrcnn.models.heads.stage_heads import build_mask_head
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import abstract_model
from jaxmaskrcnn.utils.device_arrays import placed_copy

# The layers whose shapes depend on the number of classes, keypoints or classes of stuff.
_CLASS_LAYERS = re.compile(
    r"(box_head(\.\d+)?\.(cls_score|bbox_pred|seen)|mask_head(\.\d+)?(\.coarse)?\.logits"
    r"|mask_head\.points\.(fcs\.\d+|logits)"
    r"|mask_head\.iou\.ious|(keypoint|semantic)_head\.logits)\."
)


class Filled(NamedTuple):
    """A model filled with another library's parameters.

    Attributes:
        model: MaskRCNN.
        assigned: Paths of its arrays that were set from the parameters.
        ignored: Names that no model needs.
        left: Paths of its arrays that keep their initial values.
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
    """Like `from_state_dict`, but also report what was assigned."""
    model = abstract_model(config)
    variables = variables_by_path(model)
    source = LIBRARIES[library]
    new_heads = [path for path in variables if of_classes(path)] if allow_new_heads else []
    values, ignored, left = source.table(config).assign(
        arrays,
        {name: variable.shape for name, variable in variables.items()},
        f"{what or f'The {source.title} state dict'} does not fit the model",
        new_heads,
    )
    assigned = tuple(values)
    if left:
        values |= {path: value for path, value in initial_heads(config).items() if path in left}
    # Copies, because an array may be a view of the file's bytes, which JAX would share.
    set_arrays(model, {path: placed_copy(values[path], v.dtype) for path, v in variables.items()})
    return Filled(model, assigned, ignored, left)


def from_state_dict(
    arrays: Mapping[str, np.ndarray], config: ModelConfig, library: str, *, allow_new_heads: bool = False
) -> MaskRCNN:
    """Build a detector from another library's parameters, for example those of a torch model in memory.

    Args:
        arrays: Arrays by the library's names, without a wrapper's prefix.
        config: The model's configuration; its structure must match the arrays.
        library: "torchvision", "detectron2", "mmdet" or "matterport".
        allow_new_heads: Keep the initial values of layers whose shape differs because of the number of
            classes.

    Returns:
        The detector in float32, whatever the arrays' precision.

    Raises:
        UserError: Lists every name and shape that does not fit.

    Example:
        >>> arrays = {k: v.numpy() for k, v in net.state_dict().items()}  # doctest: +SKIP
        >>> model = from_state_dict(arrays, config, "torchvision")  # doctest: +SKIP
    """
    return fill_detector(arrays, config, library, allow_new_heads=allow_new_heads).model


def to_state_dict(model: MaskRCNN, library: str) -> dict[str, np.ndarray]:
    """Return a detector's parameters by another library's names, as its ``load_state_dict`` expects them.

    Args:
        model: The detector.
        library: "torchvision", "detectron2", "mmdet" or "matterport".

    Returns:
        Contiguous arrays, bit for bit the model's; batch norm's counters are 0.

    Raises:
        UserError: The library has no names for a part of this model, or a different order of classes.

    Example:
        >>> to_state_dict(model, "detectron2")["roi_heads.box_predictor.cls_score.weight"].shape
        (4, 8)
    """
    source = LIBRARIES[library]
    check_background(model.config, source)
    values = {path: np.asarray(variable[...]) for path, variable in variables_by_path(model).items()}
    arrays = source.table(model.config).export(values)
    return arrays | source.counters(arrays, model.config)


def check_background(config: ModelConfig, library: Library) -> None:
    """Reject a model whose order of classes differs from the library's.

    Raises:
        UserError: The background comes first in one of them and last in the other.
    """
    found = config.background
    if found != library.background:
        raise UserError(
            f"{library.title} cannot express this model: its background class comes {found}, not "
            f"{library.background}; export it in the format of the library it comes from."
        )


def of_classes(path: str) -> bool:
    """Return whether the shape of an array depends on the number of classes.

    Args:
        path: The array's path in a model.

    Example:
        >>> of_classes("box_head.cls_score.bias"), of_classes("box_head.2.bbox_pred.kernel")
        (True, True)
    """
    return _CLASS_LAYERS.match(path) is not None


def initial_heads(config: ModelConfig) -> dict[str, jax.Array]:
    """Return the initial arrays of the class-dependent layers, the same ones every time."""

    def build(key):
        heads = nnx.Module()
        heads.box_head = build_box_head(config, nnx.Rngs(key))
        heads.mask_head = build_mask_head(config, nnx.Rngs(jax.random.fold_in(key, 1)))
        if config.keypoints is not None:
            heads.keypoint_head = KeypointHead(
                config.keypoints, config.region_channels, config.classes,
                rngs=nnx.Rngs(jax.random.fold_in(key, 2)), dtype=config.compute.dtype,
            )  # fmt: skip
        if config.semantic is not None:
            heads.semantic_head = SemanticHead(
                config.semantic, config.pooled_levels,
                rngs=nnx.Rngs(jax.random.fold_in(key, 3)), dtype=config.compute.dtype,
            )  # fmt: skip
        return {path: v[...] for path, v in variables_by_path(heads).items() if of_classes(path)}

    # As one compiled function, this never makes the layers that are not returned.
    return jax.jit(build)(jax.random.key(0))


def variables_by_path(module: nnx.Module) -> dict[str, nnx.Variable]:
    """Return a module's variables by paths such as "box_head.cls_score.kernel"."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(module))}


def set_arrays(module: nnx.Module, arrays: Mapping[str, jax.Array]) -> None:
    """Set every variable of a module to its array, by the same paths; abstract ones become concrete."""
    flat = nnx.to_flat_state(nnx.state(module))
    nnx.update(
        module,
        nnx.from_flat_state([(path, v.replace(arrays[".".join(map(str, path))])) for path, v in flat]),
    )
