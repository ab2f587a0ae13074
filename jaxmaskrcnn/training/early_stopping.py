"""Decides from a run's record of evaluations whether it has stopped improving."""

from collections.abc import Mapping


def score(metrics: Mapping, prefix: str = "") -> float:
    """The number by which evaluations are compared: PQ, or AP of keypoints, of masks or of boxes.

    It is the first of these that is scored.

    Args:
        metrics: Metrics of one evaluation.
        prefix: Prefix of their names.

    Returns:
        A score in 0..1; 0 if there is no number.
    """
    found = (metrics.get(f"{prefix}{name}") for name in ("PQ", "keypoint_AP", "mask_AP", "box_AP"))
    return next((value for value in found if value is not None), 0.0)


def since_best(evaluations: Mapping[int, Mapping]) -> int:
    """The number of evaluations since the best one; an equal score is not an improvement.

    Args:
        evaluations: Lines of metrics.jsonl by step, with names such as ``eval/mask_AP``.

    Example:
        >>> since_best({10: {"eval/mask_AP": 0.2}, 20: {"eval/mask_AP": 0.3}, 30: {"eval/mask_AP": 0.3}})
        1
    """
    scores = [score(evaluations[step], "eval/") for step in sorted(evaluations)]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0
