"""Whether a run has stopped getting better, from its record of evaluations."""

from collections.abc import Mapping


def score(metrics: Mapping, prefix: str = "") -> float:
    """What evaluations are compared by: mask AP, or box AP where masks are not scored.

    Args:
        metrics: Of one evaluation.
        prefix: In front of their names.

    Returns:
        In 0..1; 0 where there is no number.
    """
    value = metrics.get(f"{prefix}mask_AP")
    return (metrics.get(f"{prefix}box_AP") if value is None else value) or 0.0


def since_best(evaluations: Mapping[int, Mapping]) -> int:
    """How many evaluations there have been since the best one; equal is no better.

    Args:
        evaluations: Lines of metrics.jsonl by step, with names such as ``eval/mask_AP``.

    Example:
        >>> since_best({10: {"eval/mask_AP": 0.2}, 20: {"eval/mask_AP": 0.3}, 30: {"eval/mask_AP": 0.3}})
        1
    """
    scores = [score(evaluations[step], "eval/") for step in sorted(evaluations)]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0
