"""How well objects were followed: MOTA, IDF1 and identity switches.

MOTA (Bernardin and Stiefelhagen 2008) counts, frame by frame, objects that were missed, detections without
an object and changes of identity. IDF1 (Ristani et al. 2016) matches whole tracks with whole objects, so
that it tells for how much of the time an object has its one identity.

Shape legend: G objects and N tracked detections of a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.tracking.places import Place, iou, place_of
from jaxmaskrcnn.tracking.tracker import assign


class Frame(NamedTuple):
    """What is there in a frame, or what was found.

    Attributes:
        numbers: Identities.
        places: Their places.
    """

    numbers: Sequence[int]
    places: Sequence[Place]


class TrackingScores(NamedTuple):
    """How well objects were followed.

    Attributes:
        mota: 1 - (missed + false + switches) / objects; None without objects.
        idf1: 2 IDTP / (objects + found), where IDTP are the frames in which an object is found by the track
            that it is matched with; None if there is nothing.
        switches: Changes of an object's identity.
        missed: Objects without a detection, over all frames.
        false: Detections without an object, over all frames.
        objects: Objects, over all frames.
        found: Detections, over all frames.
    """

    mota: float | None
    idf1: float | None
    switches: int
    missed: int
    false: int
    objects: int
    found: int


def frame_of(result: Mapping[str, Any], numbers: Sequence[int]) -> Frame:
    """A frame of results; objects with the identity 0 are left out.

    Args:
        result: As returned by ``Predictor`` with ``masks="rle"``.
        numbers: The identity of each object.
    """
    kept = [i for i, number in enumerate(numbers) if number]
    return Frame([int(numbers[i]) for i in kept], [place_of(result, i) for i in kept])


def tracking_scores(
    truth: Sequence[Frame], found: Sequence[Frame], iou_threshold: float = 0.5
) -> TrackingScores:
    """Scores the tracks of a video.

    Args:
        truth: The objects of each frame.
        found: The tracked detections of each frame.
        iou_threshold: Least IoU of an object and a detection of it.
    """
    switches = matched = 0
    last: dict[int, int] = {}  # the track of each object
    together: dict[tuple[int, int], int] = {}  # frames in which an object and a track are in one place
    for there, here in zip(truth, found, strict=True):
        overlaps = np.array([[iou(a, b) for b in here.places] for a in there.places])
        overlaps = overlaps.reshape(len(there.places), len(here.places))
        overlaps[overlaps < iou_threshold] = 0
        for g, i in np.argwhere(overlaps):
            key = there.numbers[g], here.numbers[i]
            together[key] = together.get(key, 0) + 1
        for number, track in _matched(there, here, overlaps, last).items():
            matched += 1
            switches += last.get(number, track) != track
            last[number] = track
    objects, detections = (sum(len(frame.numbers) for frame in frames) for frames in (truth, found))
    missed, false = objects - matched, detections - matched
    both = 2 * _identity_matches(together)
    return TrackingScores(
        1 - (missed + false + switches) / objects if objects else None,
        both / (objects + detections) if objects + detections else None,
        switches, missed, false, objects, detections,
    )  # fmt: skip


def _matched(there: Frame, here: Frame, overlaps: np.ndarray, last: Mapping[int, int]) -> dict[int, int]:
    """The track of each object that is found in a frame: the one of before, if it is still there."""
    pairs: dict[int, int] = {}
    for g, number in enumerate(there.numbers):
        track = last.get(number)
        if track in here.numbers and overlaps[g, here.numbers.index(track)]:
            pairs[g] = here.numbers.index(track)
    rows = [g for g in range(len(there.numbers)) if g not in pairs]
    columns = [i for i in range(len(here.numbers)) if i not in pairs.values()]
    for row, column in assign(overlaps[np.ix_(rows, columns)]).items():
        pairs[rows[row]] = columns[column]
    return {there.numbers[g]: here.numbers[i] for g, i in pairs.items()}


def _identity_matches(together: Mapping[tuple[int, int], int]) -> int:
    """The most frames in which objects and tracks are together, if each object has one track."""
    objects = sorted({g for g, _ in together})
    tracks = sorted({i for _, i in together})
    counts = np.zeros((len(objects), len(tracks)))
    for (g, i), count in together.items():
        counts[objects.index(g), tracks.index(i)] = count
    return int(sum(counts[g, i] for g, i in assign(counts).items()))
