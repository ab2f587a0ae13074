"""The problems of a data set: raised, or logged and counted."""

import collections
import logging
from typing import NamedTuple

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.texts import visible

log = logging.getLogger(__name__)

FEW = 5  # problems that are reported for each reason; the others are counted


class Problem(NamedTuple):
    """One problem of a data set.

    Attributes:
        reason: Short name that problems of this sort are counted under.
        message: A sentence without its full stop.
        image_id: Id of the image, where the json gives a usable one.
        annotation_id: Id of the annotation, where the json gives a usable one.
    """

    reason: str
    message: str
    image_id: int | None = None
    annotation_id: int | None = None


class Problems:
    """The problems of a data set: collected and then raised, or logged and counted.

    Attributes:
        skipped: Number of images and annotations left out, by reason.
        keeps_missing: Whether the annotations of an image whose file is missing are checked too.
        leaves_out: Whether data are used without what has a problem.
    """

    keeps_missing = False
    leaves_out = False

    def __init__(self, on_error: str):
        if on_error not in ("stop", "skip"):
            raise UserError(f"on_error is {on_error!r}; it is 'stop' or 'skip'.")
        self._skip = self.leaves_out = on_error == "skip"
        self._first: str | None = None
        self._told: collections.Counter[str] = collections.Counter()
        self.skipped: collections.Counter[str] = collections.Counter()

    def add(
        self, reason: str, message: str, *, image_id: int | None = None, annotation_id: int | None = None
    ) -> None:
        """Records one problem; the arguments are the fields of `Problem`."""
        self.skipped[reason] += 1
        if self._skip:
            if self.skipped[reason] <= FEW:
                log.warning("left out: %s.", visible(message))
        elif self._first is None:
            self._first = message

    def refuse(self, reason: str, message: str) -> None:
        """Records a problem that cannot be left out: raises it, even if others are skipped."""
        raise UserError(f"{message}.")

    def stop_if_any(self) -> None:
        """Raises the first problem, with the number of further ones, unless they are skipped."""
        if self._skip or self._first is None:
            return
        others = sum(self.skipped.values()) - 1
        more = f" (one of {others + 1} problems)" if others else ""
        raise UserError(f"{self._first}, or set on_error to 'skip' to leave it out{more}.")

    def tell_rest(self) -> None:
        """Logs the number of the problems that were skipped without a message of their own."""
        for reason, count in self.skipped.items():
            more = count - max(FEW, self._told[reason])
            if self._skip and more > 0:
                log.warning("left out: %d more (%s).", more, reason)
                self._told[reason] = count


class AllProblems(Problems):
    """Collects every problem, for a report of them all; nothing is raised or logged.

    Attributes:
        found: The problems, in the order in which they were found.
    """

    keeps_missing = True

    def __init__(self):
        super().__init__("stop")
        self.found: list[Problem] = []

    def add(self, reason, message, *, image_id=None, annotation_id=None):
        self.skipped[reason] += 1
        self.found.append(Problem(reason, message, image_id, annotation_id))

    def refuse(self, reason, message):
        self.add(reason, message)

    def stop_if_any(self):
        pass
