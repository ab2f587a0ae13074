"""Starts a model from what fits of a checkpoint, and reports part by part what that is.

Arrays that are not in the checkpoint, or have another shape there, keep their random values: the last layers
of the region proposal network with other anchors, a mask head that a Faster R-CNN lacks, heads for other
classes. One shape is adapted, that of a first convolution for images with another number of channels.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxmaskrcnn.convert.first_convolution import for_channels
from jaxmaskrcnn.convert.state_dict import set_arrays, variables_by_path
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.device_arrays import placed_copy

log = logging.getLogger(__name__)

_FEW = 4  # up to this many arrays of a part are listed


def copy_what_fits(stored: Mapping[str, Any], model: nnx.Module, name: str) -> tuple[str, ...]:
    """Copy the arrays of a checkpoint that fit a model, and log the others by part.

    Args:
        stored: The checkpoint's arrays by the model's paths, such as "rpn.cls_logits.kernel", in the model's
            order of axes.
        model: The model; changed in place.
        name: Name of the checkpoint, for messages.

    Returns:
        Paths of the model's arrays that keep their values.

    Raises:
        UserError: None of the arrays fits; the model is left unchanged.

    Example:
        >>> from jaxmaskrcnn.convert.state_dict import variables_by_path
        >>> stored = {path: value[...] for path, value in variables_by_path(model).items()}
        >>> del stored["rpn.bbox_pred.bias"]
        >>> copy_what_fits(stored, model, "it")
        ('rpn.bbox_pred.bias',)
    """
    variables = variables_by_path(model)
    values, notes = {}, []
    for path, variable in variables.items():
        found = stored.get(path)
        if found is None:
            continue
        if tuple(found.shape) == tuple(variable.shape):
            values[path] = found
        elif _is_first_convolution(path, found.shape, variable.shape):
            values[path] = for_channels(np.asarray(found), variable.shape[2])
            notes.append(
                f"{path} was made for {found.shape[2]} input channels and is made for {variable.shape[2]}: "
                f"{'the sum' if variable.shape[2] == 1 else 'its channels in turn, scaled'}."
            )
    if not values:
        raise UserError(
            f"{name} has no array that fits this model, not even in part; give a checkpoint of a similar "
            "model, or leave model.weights empty."
        )
    left = tuple(path for path in variables if path not in values)
    for line in (*_by_part(variables, values, stored), *notes):
        log.info("Weights: %s", line)
    unused = [path for path in stored if path not in variables]
    if unused:
        log.info("Weights: %d arrays of %s have no place here: %s.", len(unused), name, _some(unused))
    copies = {path: placed_copy(values.get(path, v[...]), v.dtype) for path, v in variables.items()}
    set_arrays(model, copies)
    return left


def _is_first_convolution(path: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether two kernels of a backbone's first layer differ in nothing but the input channels."""
    stem = path.startswith("backbone.body.") and path.endswith("kernel") and path.count(".") <= 4
    same = len(found) == len(wanted) == 4 and found[:2] + found[3:] == wanted[:2] + wanted[3:]
    return stem and same and 3 in (found[2], wanted[2]) and "layer" not in path


def _by_part(variables: Mapping[str, Any], values: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Describe each part of a model in a sentence: how many of its arrays have values, and what lacks one."""
    parts: dict[str, list[str]] = {}
    for path in variables:
        words = path.split(".")
        parts.setdefault(".".join(words[:2]) if words[0] == "backbone" else words[0], []).append(path)
    lines = []
    for part, paths in parts.items():
        new = [path for path in paths if path not in values]
        line = f"{part} has {len(paths) - len(new)} of its {len(paths)} arrays from the checkpoint"
        if absent := [path for path in new if path not in stored]:
            line += f"; not in it: {_some(absent)}"
        if other := [path for path in new if path in stored]:
            shapes = [
                f"{path} {tuple(stored[path].shape)}, here {tuple(variables[path].shape)}" for path in other
            ]
            line += f"; of another shape: {_some(shapes)}"
        lines.append(f"{line}.")
    return lines


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + rest
