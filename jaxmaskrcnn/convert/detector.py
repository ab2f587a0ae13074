"""Whole detectors of torchvision, Detectron2 and MMDetection, from their checkpoint files."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import choose_config, count_classes, misfits
from jaxmaskrcnn.convert.families import refuse_other_families
from jaxmaskrcnn.convert.files.reader import SourceFile, read_source
from jaxmaskrcnn.convert.libraries import Library, recognise
from jaxmaskrcnn.convert.state_dict import fill_detector
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.names import caffe2

log = logging.getLogger(__name__)


class ConversionReport(NamedTuple):
    """What `load_detector` did.

    Attributes:
        path: The file.
        container: Its kind, and the key that its parameters are in.
        library: Title of the library whose names it has.
        model: What the configuration comes from: a preset's name, a config file, ...
        config: Of the model.
        assigned: Paths of the model's arrays that were set.
        ignored: Names in the file that no model needs.
        left: Paths of the model's arrays that have their initial values.
        notes: What was decided and converted, one sentence each.
        warnings: What may give other detections than the source library, one sentence each.
        seconds: How long it took.
    """

    path: str
    container: str
    library: str
    model: str
    config: ModelConfig
    assigned: tuple[str, ...]
    ignored: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


def load_detector(
    path: str | os.PathLike,
    model: str | os.PathLike | ModelConfig | None = None,
    *,
    num_classes: int | None = None,
    allow_new_heads: bool = False,
    bn_eps: float | None = None,
    weights: str = "auto",
) -> tuple[MaskRCNN, ConversionReport]:
    """Read a detector of another library.

    Args:
        path: A checkpoint file. Its library is recognised from its names.
        model: A preset's name, a ModelConfig, or the path of a Detectron2 yaml or MMDetection config.
            None suffices for torchvision, whose conventions are always the same, and for MMDetection
            files that hold their config.
        num_classes: Number of classes in place of the model's, without the background.
        allow_new_heads: If the model has another number of classes than the file, leave the layers
            that depend on it at their initial values; otherwise that is an error.
        bn_eps: Epsilon of the backbone's norm layers. None takes 1e-5 for a file with
            ``num_batches_tracked``, else the model's.
        weights: Which of a file's two sets of weights, where it has an averaged one: "model", "ema",
            or "auto".

    Returns:
        The detector in float32, and a report.

    Raises:
        UserError: The file cannot be read, is of another kind, does not say enough, or does not fit;
            every name and shape that is wrong is listed.

    Example:
        >>> model, report = load_detector("maskrcnn_resnet50_fpn_coco.pth")  # doctest: +SKIP
        >>> report.library, report.config.num_classes  # doctest: +SKIP
        ('torchvision', 90)
    """
    start = time.perf_counter()
    detector, report = convert_source(
        read_source(path, weights),
        model,
        num_classes=num_classes,
        allow_new_heads=allow_new_heads,
        bn_eps=bn_eps,
    )
    return detector, report._replace(seconds=time.perf_counter() - start)


def convert_source(
    source: SourceFile,
    model: str | os.PathLike | ModelConfig | None = None,
    *,
    num_classes: int | None = None,
    allow_new_heads: bool = False,
    bn_eps: float | None = None,
) -> tuple[MaskRCNN, ConversionReport]:
    """As `load_detector`, for a file that has been read."""
    start = time.perf_counter()
    names = caffe2.rename(source.arrays)
    refuse_other_families(names, source.path)
    library, arrays = recognise(names, source.path)
    choice = choose_config(library, arrays, source, model, num_classes, bn_eps, allow_new_heads)
    filled = fill_detector(
        arrays,
        choice.config,
        library.name,
        allow_new_heads=allow_new_heads,
        what=source.path + misfits(library, arrays, choice, source.path),
    )
    used = {name: array for name, array in arrays.items() if name not in set(filled.ignored)}
    report = ConversionReport(
        path=source.path,
        container=f"{Path(source.path).suffix} file".strip()
        + (f", in {source.taken!r}" if source.taken else ""),
        library=library.title,
        model=choice.name,
        config=choice.config,
        assigned=filled.assigned,
        ignored=filled.ignored,
        left=filled.left,
        notes=(*_place(source), *choice.notes, *_conversions(used)),
        warnings=(*_not_finite(used), *_other_input(library, arrays, choice.config)),
        seconds=time.perf_counter() - start,
    )
    return filled.model, report


def log_report(report: ConversionReport) -> None:
    """Write a report to the log: what is of interest at INFO, what may be wrong at WARNING."""
    log.info(
        "%s: %s, %s, %s: %d arrays, %d ignored, %.1f s.",
        report.path, report.library, report.model, count_classes(report.config.num_classes),
        len(report.assigned), len(report.ignored), report.seconds,
    )  # fmt: skip
    for note in report.notes:
        log.info("%s: %s", report.path, note)
    for warning in report.warnings:
        log.warning("%s: %s", report.path, warning)
    if report.left:
        log.warning(
            "%s has another number of classes, so these have initial values: %s.",
            report.path, ", ".join(report.left),
        )  # fmt: skip


def _place(source: SourceFile) -> list[str]:
    """Which of a file's sets of weights were read, where there are several."""
    if not source.others:
        return []
    taken = repr(source.taken) if source.taken else "the file's top level"
    return [
        f"The weights are those of {taken}; there are others in {', '.join(map(repr, source.others))} "
        "(weights=, --weights=)."
    ]


def _conversions(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for each dtype that became float32."""
    counts: dict[str, int] = {}
    for array in arrays.values():
        counts[str(array.dtype)] = counts.get(str(array.dtype), 0) + 1
    return [
        f"{count} array{'s' if count > 1 else ''} of {dtype} became float32."
        for dtype, count in counts.items()
        if dtype != "float32"
    ]


def _not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    # A training that diverged leaves such files; their libraries load them, so this does as well.
    names = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    return [f"There are NaN or infinite values in {_some(names)}."] if names else []


def _other_input(library: Library, arrays: Mapping[str, np.ndarray], config: ModelConfig) -> list[str]:
    """Where a file carries its pixel mean and standard deviation, whether they are the model's."""
    found = []
    paths = zip(library.input_names, ("input.pixel_mean", "input.pixel_std"), strict=False)
    for name, path in paths:
        wanted = np.asarray(config.get(path)) / config.input.pixel_scale
        if name in arrays and not np.allclose(np.ravel(arrays[name]), wanted, rtol=1e-3, atol=1e-3):
            values = ", ".join(f"{x:g}" for x in np.ravel(arrays[name]))
            found.append(f"{name} {values} (the model's {path}: {', '.join(f'{x:g}' for x in wanted)})")
    return [f"The file was made with {' and '.join(found)}; check the model."] if found else []


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} array{'s' if len(names) > 1 else ''}: {', '.join(names[:5])}{rest}"
