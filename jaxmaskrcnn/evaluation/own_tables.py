"""The tables that are printed of the numbers of `own_rules` and of `benchmark`."""

from typing import Any

from jaxmaskrcnn.evaluation.tables import PREFIXES

_NOUNS = {"box": "Boxes", "mask": "Masks"}


def format_limited(limited: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The numbers with limits of one's own beside COCO's.

    Args:
        limited: From `own_rules.limited_metrics`.
        metrics: COCO's, from `coco_metrics`.
    """
    limit, (low, high) = limited["max_detections"], limited["areas"]
    lines = [
        f"Own limits: {limit} detections of an image and class; small, medium and large objects are "
        f"separated by {low:g} and {high:g} square pixels",
        f"{'':<18}{'own':>8}{'COCO':>8}",
    ]
    for key, value in limited.items():
        prefix, _, name = key.partition("_")
        if prefix in _NOUNS and name:
            coco = metrics.get(f"{prefix}_AR100" if name == f"AR{limit}" else key)
            lines.append(f"{f'{prefix} {name}'.replace('_', ' '):<18}{_number(value):>8}{_number(coco):>8}")
    return "\n".join(lines)


def format_at_score(numbers: dict[str, Any]) -> str:
    """The numbers of the detections above a score; see `own_rules.metrics_at_score`."""
    lines = []
    for prefix in (p for p in PREFIXES.values() if f"{p}_precision" in numbers):
        lines.append(
            f"{_NOUNS[prefix]} with scores above {numbers['score']:g}: AP "
            f"{_number(numbers[f'{prefix}_AP'])}, AR100 {_number(numbers[f'{prefix}_AR100'])}; at IoU 0.50:"
        )
        rows = {"all classes": numbers, **numbers["per_class"]}
        width = max(len(name) for name in rows)
        lines.append(f"{'':<{width}}  precision  recall     F1")
        for name, row in rows.items():
            cells = [_number(row[f"{prefix}_{what}"]) for what in ("precision", "recall", "f1")]
            lines.append(f"{name:<{width}}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>5}")
    return "\n".join(lines)


def format_thresholds(thresholds: dict[str, Any]) -> str:
    """The best threshold of each class; see `own_rules.best_thresholds`."""
    rows = {"all classes": thresholds["all"]}
    for identity, row in thresholds["classes"].items():
        rows[row["name"] if row["name"] not in rows else str(identity)] = row
    width = max(len(name) for name in rows)
    lines = [
        f"Score thresholds with the highest F1 ({thresholds['of']} IoU 0.50)",
        f"{'':<{width}}  threshold     F1  precision  recall  objects",
    ]
    for name, row in rows.items():
        cells = [_number(row[what]) for what in ("threshold", "f1", "precision", "recall")]
        lines.append(
            f"{name:<{width}}  {cells[0]:>9}  {cells[1]:>5}  {cells[2]:>9}  {cells[3]:>6}  "
            f"{row['objects']:>7}"
        )
    return "\n".join(lines)


def format_benchmark(timing: dict[str, Any]) -> str:
    """The times of the stages; see `benchmark.benchmark`."""
    width = max(len(stage) for stage in timing["stages"])
    lines = [
        f"Time of {timing['images']} images on {timing['device']}, one after the other, in milliseconds",
        f"{'':<{width}}{'mean':>9}{'50 %':>9}{'90 %':>9}{'99 %':>9}{'most':>9}",
    ]
    for stage, row in timing["stages"].items():
        lines.append(
            f"{stage:<{width}}" + "".join(f"{row[k]:>9.1f}" for k in ("mean", "p50", "p90", "p99", "max"))
        )
    lines.append(
        f"{timing['one_by_one']:.1f} images/s one after the other, {timing['streamed']:.1f} images/s as a "
        f"stream in batches of {timing['batch_size']}, with its stages side by side"
    )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
