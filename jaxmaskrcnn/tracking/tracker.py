"""Follows objects from frame to frame: a detection belongs to the track that expects it where it is.

Every track moves on with its velocity, and each pair of a track and a detection gets an affinity: the IoU of
their masks, plus a smaller share for being near. The pairs with the largest sum of affinities are joined
(Kuhn 1955, "The Hungarian method"; SciPy's ``linear_sum_assignment``). Detections that no track expects
begin a new one. A track without a detection is occluded; it moves on for a number of frames and then ends.

Shape legend: T tracks, N detections of a frame.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.tracking.places import Place, iou, place_of

_NEAR = 0.3  # share of being near in an affinity, beside the IoU of masks
_LEAST = 0.1  # least affinity of a pair
_OTHER_CLASS = 0.4  # by which the affinity of another class is multiplied
_STEADY = 0.3  # share of a new measurement in a velocity
_WHOLE = 0.85  # an object whose area is at least this share of the whole one's is not covered
_SMALLER = 15  # frames after which a smaller area is believed to be the whole one


class Track(NamedTuple):
    """An object that is followed.

    Attributes:
        number: Its identity, from 1; 0 while it has not been seen in enough frames.
        votes: Sum of scores by label.
        last: Its place when it was seen last, moved on since.
        whole: The same of when it was not covered by another object.
        velocity: float [2], x and y, pixels a frame.
        seen: Frames in which it was seen.
        missed: Frames since.
        covered: Frames in which it was smaller than the whole.
    """

    number: int
    votes: dict[int, float]
    last: Place
    whole: Place
    velocity: np.ndarray
    seen: int = 1
    missed: int = 0
    covered: int = 0

    @property
    def label(self) -> int:
        """The label with the largest sum of scores."""
        return max(self.votes, key=lambda label: self.votes[label])


class Tracker:
    """Gives the detections of successive frames the identities of objects.

    Args:
        memory: Frames without a detection after which a track ends.
        birth: Frames in a row in which an object has to be seen before it gets an identity.

    Raises:
        UserError: A number is out of range.

    Example:
        >>> tracker = Tracker()
        >>> frames = [{"boxes": [[x, 0, x + 20, 20]], "labels": [1], "scores": [0.9]} for x in (0, 8, 16)]
        >>> [tracker(frame, (64, 64)).tolist() for frame in frames]
        [[1], [1], [1]]
    """

    def __init__(self, memory: int = 30, birth: int = 1):
        if memory < 0:
            raise UserError(f"The memory of tracks is {memory} frames; give 0 or more.")
        if birth < 1:
            raise UserError(f"The birth of tracks takes {birth} frames; give 1 or more.")
        self._memory, self._birth = memory, birth
        self._tracks: list[Track] = []
        self._given = 0

    def __call__(self, result: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
        """The identities of a frame's objects.

        Args:
            result: As returned by ``Predictor`` with ``masks="rle"``; without masks boxes are compared.
            size: Height and width of the frame.

        Returns:
            int [N], from 1; 0 for an object that has not been seen in enough frames.
        """
        expected = [self._moved(track) for track in self._tracks]
        places = [place_of(result, i) for i in range(len(result["boxes"]))]
        labels = np.asarray(result["labels"], int)
        scores = np.asarray(result.get("scores", np.ones(len(labels))), np.float64)
        pairs = assign(affinities(expected, places, labels))
        tracks, numbers = [], np.zeros(len(places), int)
        for t, track in enumerate(expected):
            if t not in pairs:
                if track.seen >= self._birth and track.missed < self._memory and _inside(track.whole, size):
                    tracks.append(track._replace(missed=track.missed + 1))
                continue
            i = pairs[t]
            track = _seen(track, places[i], int(labels[i]), float(scores[i]), size)
            if not track.number and track.seen >= self._birth:
                track = track._replace(number=self._next())
            numbers[i] = track.number
            tracks.append(track)
        for i in sorted(set(range(len(places))) - set(pairs.values())):
            numbers[i] = self._next() if self._birth == 1 else 0
            votes = {int(labels[i]): float(scores[i])}
            tracks.append(Track(int(numbers[i]), votes, places[i], places[i], np.zeros(2)))
        self._tracks = tracks
        return numbers

    def _next(self) -> int:
        self._given += 1
        return self._given

    @staticmethod
    def _moved(track: Track) -> Track:
        return track._replace(last=track.last.moved(track.velocity), whole=track.whole.moved(track.velocity))


def affinities(tracks: list[Track], places: list[Place], labels: np.ndarray) -> np.ndarray:
    """How well each track and each detection go together.

    Args:
        tracks: T tracks, moved on to the frame.
        places: N places of detections.
        labels: int [N], their labels.

    Returns:
        float64 [T, N]; 0 where they do not.
    """
    values = np.zeros((len(tracks), len(places)))
    for t, track in enumerate(tracks):
        # Nobody knows where exactly an object is after a time without being seen, or before its velocity is.
        reach = track.whole.side * (1 + 0.1 * min(track.missed, 10) + (track.seen == 1))
        for i, place in enumerate(places):
            distance = float(np.hypot(*(place.centre - track.whole.centre)))
            if distance > 2 * reach + place.side:
                continue
            common = max(iou(track.last, place), iou(track.whole, place))
            near = float(np.exp(-((distance / (0.5 * reach)) ** 2) / 2))
            values[t, i] = common + _NEAR * near
            if labels[i] != track.label:
                values[t, i] *= _OTHER_CLASS
    return np.where(values >= _LEAST, values, 0.0)


def assign(values: np.ndarray) -> dict[int, int]:
    """The pairs with the largest sum.

    Args:
        values: float [T, N], affinities; 0 where two do not go together.

    Returns:
        Columns by rows, of pairs above 0.

    Example:
        >>> assign(np.array([[0.9, 0.8], [0.7, 0.0]]))
        {0: 1, 1: 0}
    """
    # Imported here, as it takes time. SciPy is there wherever JAX is.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(values, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if values[row, column] > 0}


def _seen(track: Track, place: Place, label: int, score: float, size: tuple[int, int]) -> Track:
    """A track that was expected where ``last`` and ``whole`` are, and was seen at a place."""
    votes = {**track.votes, label: track.votes.get(label, 0.0) + score}
    track = track._replace(votes=votes, last=place, seen=track.seen + 1, missed=0)
    covered = place.area < _WHOLE * track.whole.area
    if covered and track.covered < _SMALLER and track.seen > 2:
        # What is seen of it does not tell where its centre is, so that it is believed to have moved on.
        return track._replace(covered=track.covered + 1)
    error = place.centre - track.whole.centre
    share = 1.0 if track.seen == 2 else _STEADY
    if _at_border(place, size):
        share = 0.0  # an object that is cut off by the border does not move as its visible part
    return track._replace(velocity=track.velocity + share * error, whole=place, covered=0)


def _at_border(place: Place, size: tuple[int, int]) -> bool:
    ends = place.origin + place.window.shape
    return bool((place.origin <= 0).any() or (ends >= np.array(size)).any())


def _inside(place: Place, size: tuple[int, int]) -> bool:
    x, y = place.centre
    return 0 <= x < size[1] and 0 <= y < size[0]
