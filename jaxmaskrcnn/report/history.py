"""Reads the metrics of a training run from ``metrics.jsonl`` in its workdir."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import copied
from jaxmaskrcnn.stores.filesystem import local_or_stored
from jaxmaskrcnn.utils.json_values import is_finite, parse_json

FILE = "metrics.jsonl"
_LARGEST = 2**53  # whole numbers below are exact as floats, in which a chart computes


class Series(NamedTuple):
    """One number over a run.

    Attributes:
        steps: int [N], in the file's order.
        values: float64 [N]; NaN where the file has null, because the value was not finite.
    """

    steps: np.ndarray
    values: np.ndarray


def read_history(workdir: str | os.PathLike) -> dict[str, Series]:
    """Reads every number of a run over its steps.

    Args:
        workdir: The run's folder, also in a store (``gs://``, ``s3://``).

    Returns:
        The series by name, such as ``loss``, ``learning_rate`` and ``eval/mask_AP``.

    Raises:
        UserError: The file is missing, one of its lines is damaged, or it has no values yet. An
            incomplete last line, which a run may be writing at the moment, is left out.

    Example:
        >>> read_history("runs/shapes")["loss"].values[0]  # doctest: +SKIP
        3.1
    """
    place = local_or_stored(workdir, "the workdir")
    path = place / FILE if isinstance(place, Path) else copied(place.below(FILE))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{workdir} has no {FILE}; give the workdir of a training run.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); give the workdir of a training run.") from error
    points: dict[str, list[tuple[int, float]]] = {}
    # The text after the last line end is empty or an incomplete line.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        entry = _parse(line, f"{path}, line {number},")
        step = entry.pop("step")
        for name, value in entry.items():
            points.setdefault(name, []).append((step, math.nan if value is None else float(value)))
    if not points:
        raise UserError(f"{path} has no values yet; wait until the run has written some.")
    return {name: Series(*map(np.array, zip(*pairs, strict=True))) for name, pairs in points.items()}


def _parse(line: str, place: str) -> dict[str, float | None]:
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise UserError(f"{place} is not json ({error}); remove the line.") from error
    step = entry.get("step") if isinstance(entry, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or not -_LARGEST < step < _LARGEST:
        raise UserError(f"{place} is not an object with a whole number as its step; remove the line.")
    for name, value in entry.items():
        number = value is None or is_finite(value) or isinstance(value, float)
        if not number:
            raise UserError(f"{place} has {value!r:.60} as {name}, where a number belongs; remove the line.")
    return entry
