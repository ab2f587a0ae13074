"""Load ImageNet weights into the ResNet of a detector.

Two layouts are supported: Detectron2's (its ImageNet files, including MSRA's weights, and the
Caffe2 files they were converted from) and torchvision's ``resnet*``. Both hold torch tensors, so
only the order of axes changes.
"""

import logging
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.config.paths import get_path
from jaxmaskrcnn.convert.backbone_origin import differences, find_origin
from jaxmaskrcnn.convert.familiar_names import familiar_names
from jaxmaskrcnn.convert.files.reader import SourceFile, read_source
from jaxmaskrcnn.convert.first_convolution import for_channels
from jaxmaskrcnn.convert.libraries import wrappers_prefix
from jaxmaskrcnn.convert.state_dict import set_arrays, variables_by_path
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.names.prefixes import WRAPPERS, find_prefix, without_prefix
from jaxmaskrcnn.names.tables import Table

log = logging.getLogger(__name__)

# Detectron2 comes first because its stem's name ends with torchvision's.
_LAYOUTS = {"detectron2": "Detectron2", "torchvision": "torchvision", "mmdet": "MMDetection"}
_BLOCK = re.compile(r"\.(layer\d+|blocks|stages\.\d+)\.\d+\.")  # in the path of an array of a stage
_IGNORABLE = (r"((stem|head)\.)?(fc|linear)\.(weight|bias)", r".*\.num_batches_tracked")
_FIRST = "backbone.body.conv1.kernel"
_OFFSETS = (
    r".*\.offset\..*"  # ImageNet's networks have ordinary convolutions; deformable ones begin like them
)


class _Layout(NamedTuple):
    """A recognised layout.

    Attributes:
        name: The library's name, for messages.
        table: Its name table for a backbone alone.
    """

    name: str
    table: Table


# Prefixes that wrappers and detectors add to a ResNet's names.
_PREFIXES = re.compile(rf"{WRAPPERS.pattern}(backbone\.)?(body\.|bottom_up\.)?")

# Names of a detector's parts other than the ResNet.
_DETECTOR_PARTS = (
    "backbone.fpn", "neck.", "proposal_generator.", "rpn.", "rpn_head.", "roi_heads.", "roi_head.",
    "pixel_mean", "pixel_std", "anchor_generator.", "fpn.", "fpn_lateral", "fpn_output",
)  # fmt: skip


class BackboneReport(NamedTuple):
    """Report of `load_backbone`.

    Attributes:
        path: The file.
        layout: Library whose names the file has, such as "Detectron2" or "torchvision".
        assigned: Paths of the model's arrays that were set.
        ignored: Names in the file that a backbone does not need.
        warnings: Differences between the model and the settings the weights were trained with.
    """

    path: str
    layout: str
    assigned: tuple[str, ...]
    ignored: tuple[str, ...]
    warnings: tuple[str, ...]


class WithBackbone(Protocol):
    """A module that weights can be loaded into: a `MaskRCNN`, or another one with these attributes.

    Attributes:
        config: Its configuration.
        backbone: A module whose ``body`` is a `ResNet`.
        trunk: The module of ``config.trunk``; only needed if that is set.
    """

    config: ModelConfig
    backbone: Any
    trunk: Any


def load_backbone(model: WithBackbone, path: str | os.PathLike) -> BackboneReport:
    """Load ImageNet weights into a detector's backbone only.

    Every array of the ResNet is set exactly once; the pyramid and the heads keep their values, and so do the
    convolutions that compute the offsets of deformable ones, unless the file has them. If
    the weights were trained with a stride, channel order or input scale other than the model's, a
    warning in the log names the matching presets.

    Args:
        model: A ``MaskRCNN`` (or any module whose ``backbone.body`` is a `ResNet`); changed in place.
        path: A checkpoint file with Detectron2's, Caffe2's or torchvision's ResNet names, with or
            without a prefix such as "module." or "backbone.". A complete detector of these
            libraries or of MMDetection also works; its other parts are ignored. Or the name of a
            backbone or a model of the registry, or an address.

    Returns:
        A report.

    Raises:
        UserError: The file cannot be read or does not fit the model, which is then left unchanged.
            The message lists every mismatched name and shape.

    Example:
        >>> report = load_backbone(model, "R-18.pkl")
        >>> report.layout, report.assigned[0]
        ('Detectron2', 'backbone.body.bn1.bias')
    """
    return fill_backbone(model, read_source(path))


def fill_backbone(model: WithBackbone, source: SourceFile) -> BackboneReport:
    """Like `load_backbone`, for a file that has already been read.

    Args:
        model: As in `load_backbone`.
        source: The result of ``read_source``.

    Returns:
        A report.

    Raises:
        UserError: The file does not fit the model, which is then left unchanged.
    """
    config = model.config
    named = familiar_names(source.arrays).arrays
    prefix = wrappers_prefix(named, source.path)
    source = source._replace(arrays={name.removeprefix(prefix): array for name, array in named.items()})
    layout, arrays, outside = _strip_prefix(source, config)
    outside = tuple(f"{prefix}{name}" if f"{prefix}{name}" in named else name for name in outside)
    _check_norm(source.path, arrays, config)
    owners = {"backbone.body.": model.backbone.body}
    if config.trunk is not None:
        owners["trunk."] = model.trunk
    variables = {
        f"{place}{path}": variable
        for place, module in owners.items()
        for path, variable in variables_by_path(module).items()
    }
    # Arrays that only detectors have keep their values, unless the file is a detector's.
    new = re.compile(getattr(names_file(config.backbone), "NEW_IN_DETECTORS", _OFFSETS))
    kept: dict[str, Any] = {}
    if not any(map(new.fullmatch, _targets(layout, arrays))):
        kept = {path: variable for path, variable in variables.items() if new.fullmatch(path)}
        variables = {path: variable for path, variable in variables.items() if path not in kept}
    if config.input.pixels.channels != 3:
        arrays = _for_pictures(layout, arrays, config.input.pixels.channels, source.path)
    assignment = layout.table.assign(
        arrays,
        {name: variable.shape for name, variable in variables.items()},
        f"{source.path} does not fit a {names_file(config.backbone).describe(config.backbone)}",
    )
    variances = [value for name, value in assignment.values.items() if name.endswith(".var")]
    lowest = min((value.min() for value in variances), default=1)
    if get_path(config, "backbone.norm_epsilon") == 0 and lowest <= 0:
        raise UserError(
            f"{source.path} has channels of variance 0, so a model with a norm epsilon of 0 would divide by "
            "zero; set backbone.norm_epsilon to 1e-5."
        )
    arrays = {name: _like(assignment.values[name], variable[...]) for name, variable in variables.items()}
    arrays |= {name: variable[...] for name, variable in kept.items()}
    for place, module in owners.items():
        own = {path: value for path, value in arrays.items() if path.startswith(place)}
        set_arrays(module, {path.removeprefix(place): value for path, value in own.items()})
    report = BackboneReport(
        path=source.path,
        layout=layout.name,
        assigned=tuple(variables),
        ignored=(*assignment.ignored, *outside),
        warnings=differences(
            config, find_origin(config, layout.name, source.attributes, outside), bool(outside)
        ),
    )
    log.info(
        "%s: loaded %d backbone arrays by %s names, ignored %d.",
        report.path, len(report.assigned), report.layout, len(report.ignored),
    )  # fmt: skip
    for warning in report.warnings:
        log.warning("%s: %s", report.path, warning)
    return report


def _for_pictures(layout: _Layout, arrays: dict[str, np.ndarray], channels: int, path: str):
    """The arrays with a first convolution, [out, 3, h, w] in files, that reads another number of channels."""
    made = dict(arrays)
    for name, array in arrays.items():
        if _targets(layout, [name]) == [_FIRST] and array.ndim == 4 and array.shape[1] == 3:
            kernel = for_channels(np.asarray(array).transpose(2, 3, 1, 0), channels)
            made[name] = kernel.transpose(3, 2, 0, 1)
            how = "their sum" if channels == 1 else "these in turn, scaled"
            log.info("%s: %s has kernels of 3 channels, and of %d here: %s.", path, name, channels, how)
    return made


def _targets(layout: _Layout, arrays: Iterable[str]) -> list[str]:
    """Return the paths of a file's arrays that have one."""
    translated = map(layout.table.translate, arrays)
    return [path for path, _ in (x for x in translated if x is not None)]


def _check_norm(path: str, arrays: dict[str, np.ndarray], config: ModelConfig):
    """Report a mix-up of batch norm and group norm, which have two array names in common."""
    norm = getattr(config.backbone, "norm", "ln")
    if norm == "ln":
        return
    statistics = any(name.endswith("running_var") for name in arrays)
    if statistics and norm in GROUP_NORMS:
        raise UserError(
            f"{path} has batch norm, but the model's backbone has group norm "
            f'(backbone.norm "{norm}"); set backbone.norm to "frozen_bn", "bn_eval" or "bn".'
        )
    if not statistics and norm not in GROUP_NORMS:
        raise UserError(
            f"{path} has no batch norm statistics, but the model's backbone has batch norm "
            f'(backbone.norm {norm!r}); set backbone.norm to "gn" if the file '
            "has group norm."
        )


def _strip_prefix(
    source: SourceFile, config: ModelConfig
) -> tuple[_Layout, dict[str, np.ndarray], tuple[str, ...]]:
    """Return the layout, the backbone's arrays without their prefix, and the names of all others."""
    part, trunk = config.backbone, config.trunk
    names = names_file(part)
    for library, title in _LAYOUTS.items():
        if library not in names.STEMS:
            continue
        prefix = find_prefix(source.arrays, names.STEMS[library], _PREFIXES, source.path, "ResNets")
        if prefix is not None:
            rows = [names.names(library, part, "")]
            if trunk is not None:  # its rows come first because the backbone's rows match its arrays too
                rows.insert(0, names_file(trunk).of_backbone(library, trunk, part))
            ignorable = (*_IGNORABLE, *getattr(names, "CLASSIFIERS", ()))
            layout = _Layout(title, Table.of(rows, ignorable))
            inside, outside = _split_parts(source.arrays, prefix, layout.table)
            if _has_stages(inside, layout.table):
                return layout, inside, outside
    some = ", ".join(list(source.arrays)[:3])
    if part.kind != "resnet":
        raise UserError(
            f"{source.path} has no names of a {names.describe(part)}, but {some}, ...; give weights of this "
            "backbone or a detector with it."
        )
    raise UserError(
        f"{source.path} has neither Detectron2's ResNet names (stem.conv1.weight, res2.0.conv1.weight, ...) "
        f"nor torchvision's (conv1.weight, layer1.0.conv1.weight, ...), but {some}, ...; give an ImageNet "
        "ResNet from one of these libraries."
    )


def _has_stages(arrays: Iterable[str], table: Table) -> bool:
    """Whether there is more of a backbone than its first layers, which many other networks begin with too."""
    found = filter(None, map(table.translate, arrays))
    return any(_BLOCK.search(path) for path, _ in found)


def _split_parts(
    arrays: dict[str, np.ndarray], prefix: str, table: Table
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the arrays with a prefix, now without it, and the names of a detector's other parts."""
    wrappers = WRAPPERS.match(prefix)
    assert wrappers is not None  # the pattern also matches an empty string
    wrapper = wrappers.group()
    parts = tuple(wrapper + part for part in _DETECTOR_PARTS)
    inside, outside = {}, []
    for name, array in arrays.items():
        if name.startswith(parts) or not name.startswith(prefix) and table.ignores(name):
            outside.append(name)
        else:
            inside[without_prefix(name, prefix)] = array
    return inside, tuple(outside)


def _like(value: np.ndarray, old: jax.Array) -> jax.Array:
    """Return ``value`` with the dtype and the sharding of ``old``."""
    return jax.device_put(np.ascontiguousarray(value, dtype=old.dtype), old.sharding)
