"""Load complete detectors from checkpoint files of torchvision, Detectron2 and MMDetection."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.choice import check_structure, choose_config, count_classes
from jaxmaskrcnn.convert.familiar_names import familiar_names
from jaxmaskrcnn.convert.families import refuse_other_families
from jaxmaskrcnn.convert.files.reader import SourceFile, read_source
from jaxmaskrcnn.convert.libraries import Library, recognise
from jaxmaskrcnn.convert.missing_settings import other_anchors
from jaxmaskrcnn.convert.state_dict import fill_detector, of_classes
from jaxmaskrcnn.convert.structure import structure_names
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.names.tables import Table
from jaxmaskrcnn.weights.locate import locate

log = logging.getLogger(__name__)


class ConversionReport(NamedTuple):
    """Report of `load_detector`.

    Attributes:
        path: The file.
        container: The kind of file, and the key that holds its parameters.
        library: Title of the library whose names it has.
        model: Origin of the configuration: a preset's name, a config file, ...
        config: The model's configuration.
        assigned: Paths of the model's arrays that were set.
        ignored: Names in the file that no model needs.
        left: Paths of the model's arrays that keep their initial values.
        notes: Decisions and conversions, one sentence each.
        warnings: Reasons why detections may differ from the source library's, one sentence each.
        seconds: Duration.
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
    """Load a detector from another library's checkpoint.

    Args:
        path: A checkpoint file, whose library is recognised from its names; or the name of a model of the
            registry or an address, whose published weights are fetched if they are not on this machine.
        model: A preset's name, a ModelConfig, a model directory, or the path of a Detectron2 yaml or
            MMDetection config. None is enough for torchvision, whose conventions are always the same, for
            MMDetection files that contain their config, and for names.
        num_classes: The number of classes without the background; another one than the file's is an error.
            None takes the file's, whatever ``model`` has, unless that is a ModelConfig.
        allow_new_heads: If the file has another number of classes than ``num_classes``, or else
            ``model``, keep the initial values of the layers that depend on it.
        bn_eps: Epsilon of the backbone's norm layers. None takes 1e-5 for a file with
            ``num_batches_tracked``, else the model's.
        weights: Which weights to load if the file also has averaged ones: "model", "ema" or "auto".

    Returns:
        The detector in float32, and a report.

    Raises:
        UserError: The file cannot be read, is unsupported, does not determine the model, or does not
            fit it; lists every mismatched name and shape.

    Example:
        >>> model, report = load_detector("maskrcnn_resnet50_fpn_coco.pth")  # doctest: +SKIP
        >>> report.library, report.config.num_classes  # doctest: +SKIP
        ('torchvision', 90)
    """
    start = time.perf_counter()
    located = locate(path, detector=True)
    detector, report = convert_source(
        read_source(located.path, weights),
        located.preset if model is None else model,
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
    """Like `load_detector`, for a file that has already been read."""
    start = time.perf_counter()
    names, older = familiar_names(source.arrays)
    refuse_other_families(names, source.path)
    library, arrays, prefix = recognise(names, source.path)
    choice = choose_config(library, arrays, source, model, num_classes, bn_eps, allow_new_heads, older)
    try:
        filled = fill_detector(
            arrays, choice.config, library.name, allow_new_heads=allow_new_heads, what=source.path
        )
    except UserError:
        check_structure(library, arrays, choice, source.path)  # settings say more than a list of arrays
        raise
    used = {name: array for name, array in arrays.items() if name not in set(filled.ignored)}
    report = ConversionReport(
        path=source.path,
        container=f"{Path(source.path).suffix} file".strip()
        + (f", in {source.taken!r}" if source.taken else ""),
        library=older or library.title,
        model=choice.name,
        config=choice.config,
        assigned=filled.assigned,
        ignored=filled.ignored,
        left=filled.left,
        notes=(*_place(source), *_removed(prefix), *choice.notes, *_conversions(used)),
        warnings=(
            *choice.warnings,
            *other_anchors(arrays, choice.config),
            *_not_finite(used),
            *_other_input(library, arrays, choice.config),
        ),
        seconds=time.perf_counter() - start,
    )
    return filled.model, report


def arrays_by_path(source: SourceFile, config: ModelConfig) -> dict[str, np.ndarray]:
    """Return a detector's arrays by a model's paths, whether or not they fit it.

    Args:
        source: A file that has been read.
        config: The model's configuration.

    Returns:
        Arrays in the model's order of axes. Layers that depend on the classes are left out if the file and
        the model have the background in different places.

    Raises:
        UserError: The file is of another kind.
    """
    names = familiar_names(source.arrays).arrays
    refuse_other_families(names, source.path)
    library, arrays, _ = recognise(names, source.path)
    structure = library.structure(arrays, source.path)
    table = Table.of(structure_names(library.name, structure, config.box), library.ignorable)
    found = {}
    for name, array in arrays.items():
        if (translated := table.translate(name)) is not None:
            path, transform = translated
            found[path] = transform.to_model_if_possible(array)
    if library.background != config.background:
        found = {path: array for path, array in found.items() if not of_classes(path)}
    return found


def log_report(report: ConversionReport) -> None:
    """Log a report: facts at INFO, possible problems at WARNING."""
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
            "%s has a different number of classes, so these arrays keep their initial values: %s.",
            report.path, ", ".join(report.left),
        )  # fmt: skip


def _place(source: SourceFile) -> list[str]:
    """Report which weights were read, if the file has several sets."""
    if not source.others:
        return []
    taken = repr(source.taken) if source.taken else "the file's top level"
    return [
        f"The weights were read from {taken}; the file has others in {', '.join(map(repr, source.others))} "
        "(weights=, --weights=)."
    ]


def _removed(prefix: str) -> list[str]:
    return [f"The names begin with {prefix!r}, which was left out."] if prefix else []


def _conversions(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Report every dtype that became float32, one sentence each."""
    counts: dict[str, int] = {}
    for array in arrays.values():
        counts[str(array.dtype)] = counts.get(str(array.dtype), 0) + 1
    return [
        f"{count} array{'s' if count > 1 else ''} of {dtype} became float32."
        for dtype, count in counts.items()
        if dtype != "float32"
    ]


def _not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    # Diverged training runs leave such files; the libraries load them, so they are accepted here too.
    names = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    return [f"There are NaN or infinite values in {_some(names)}."] if names else []


def _other_input(library: Library, arrays: Mapping[str, np.ndarray], config: ModelConfig) -> list[str]:
    """Compare a file's pixel mean and standard deviation, if it has them, with the model's."""
    found = []
    paths = zip(library.input_names, ("input.pixel_mean", "input.pixel_std"), strict=False)
    for name, path in paths:
        expected = np.asarray(config.get(path)) / config.input.pixel_scale
        if name in arrays and not np.allclose(np.ravel(arrays[name]), expected, rtol=1e-3, atol=1e-3):
            values = ", ".join(f"{x:g}" for x in np.ravel(arrays[name]))
            found.append(f"{name} {values} (the model's {path}: {', '.join(f'{x:g}' for x in expected)})")
    return [f"The file was made with {' and '.join(found)}; check the model."] if found else []


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} array{'s' if len(names) > 1 else ''}: {', '.join(names[:5])}{rest}"
