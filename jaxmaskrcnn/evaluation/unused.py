"""Annotations that cannot be used and are therefore not scored."""

import collections
import logging
import pathlib

from jaxmaskrcnn.data.coco.problems import FEW, AllProblems
from jaxmaskrcnn.errors import UserError

logger = logging.getLogger(__name__)


class ScoredProblems(AllProblems):
    """Problems of annotations that are scored; a problem of the whole file is refused."""

    def __init__(self):
        super().__init__()
        self.leaves_out = True

    def refuse(self, reason, message):
        raise UserError(f"{message}.")


def refuse_or_log(problems: AllProblems, path: pathlib.Path, on_error: str, log: bool, places: int) -> None:
    """Refuse a mask of another size than its image, or log which annotations are not scored.

    Args:
        problems: What was found while the annotations were read.
        path: Their file.
        on_error: As of `GroundTruth`.
        log: Whether to log.
        places: Number of places in which detections are not scored either.

    Raises:
        UserError: A mask has another size than its image, and ``on_error`` is "stop".
    """
    for problem in problems.found:
        if problem.reason == "RLE size" and on_error == "stop":
            raise UserError(f"{problem.message}.")
    unused = [problem for problem in problems.found if problem.reason != "missing image"]
    if not log or not unused:
        return
    ids = [str(p.annotation_id or p.image_id) for p in unused]
    reasons = collections.Counter(problem.reason for problem in unused)
    logger.warning(
        "%s: %d images or annotations cannot be used and are not scored (%s; ids %s): %s. "
        "Nor are detections in the places of those whose class and place are known: %d.",
        path,
        len(ids),
        ", ".join(f"{reason}: {count}" for reason, count in reasons.items()),
        ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else ""),
        "; ".join(problem.message for problem in unused[:FEW]),
        places,
    )
