"""Types of errors of detections, and how much average precision each type costs.

The types, thresholds and corrections follow TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for
Identifying Object Detection Errors", https://arxiv.org/abs/2008.08115, section 2), and the order of the
authors' program where the paper does not give one.

Shape legend: D detections and G objects of one image; N detections of all images, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.curves import class_curves
from jaxmaskrcnn.report.matches import Match, Pool, Sample, pool

FOREGROUND = 0.5  # a detection with at least this IoU has found an object
BACKGROUND = 0.1  # a detection with a lower IoU is not related to an object

# In the order in which a detection is tested; "missed" refers to objects.
KINDS = ("place", "class", "duplicate", "background", "both", "missed")


class ImageErrors(NamedTuple):
    """The errors of one image.

    Attributes:
        kind: int [D], index into ``KINDS``; -1 for detections that are right or ignored.
        target: int [D], for class and place errors the object that they should have found; else -1.
        missed: bool [G], objects that no detection found and to which no class or place error refers.
    """

    kind: np.ndarray
    target: np.ndarray
    missed: np.ndarray


class ErrorRow(NamedTuple):
    """One type of error over all images.

    Attributes:
        kind: One of ``KINDS``.
        count: Number of such errors.
        gain: Increase of AP50 (mean over classes) if all of them, and no others, were corrected.
    """

    kind: str
    count: int
    gain: float


def classify(sample: Sample, match: Match) -> ImageErrors:
    """Classifies the error of each detection, and finds the missed objects.

    A detection that is neither right nor ignored gets the first type that applies to its largest IoU
    with the objects (crowd regions excluded):

    - place: in [0.1, 0.5) with an object of its class;
    - class: at least 0.5 with an object of another class;
    - duplicate: at least 0.5 with an object of its class that a detection with a higher score found;
    - background: below 0.1 with every object;
    - both: in [0.1, 0.5) with an object of another class.

    Args:
        sample: The image.
        match: Its matching at the IoU ``FOREGROUND``.

    Returns:
        The errors.
    """
    same = np.where(_is_same(sample) & ~sample.crowd, sample.ious, 0.0)
    other = np.where(~_is_same(sample) & ~sample.crowd, sample.ious, 0.0)
    best_same, best_other = same.max(1, initial=0.0), other.max(1, initial=0.0)
    tests = (
        (best_same >= BACKGROUND) & (best_same < FOREGROUND),
        best_other >= FOREGROUND,
        best_same >= FOREGROUND,
        np.maximum(best_same, best_other) < BACKGROUND,
    )
    wrong = (match.partner < 0) & ~match.ignored
    kind = np.where(wrong, np.select(tests, range(4), default=4), -1)
    target = np.full(len(kind), -1)
    for number, overlaps in enumerate((same, other)):
        target[kind == number] = overlaps[kind == number].argmax(1) if overlaps.shape[1] else -1
    missed = ~sample.crowd
    missed[match.partner[match.partner >= 0]] = False
    missed[target[target >= 0]] = False
    return ImageErrors(kind, target, missed)


def _is_same(sample) -> np.ndarray:
    return sample.labels[:, None] == sample.object_labels[None]


def error_table(
    samples: Sequence[Sample],
    matches: Sequence[Match],
    errors: Sequence[ImageErrors],
    num_classes: int,
) -> list[ErrorRow]:
    """Counts the errors and corrects each type separately.

    Duplicate, background and both: the detections are removed. Place and class: the detection
    becomes right, with the object's class and its own score. An object can be found only once: if
    it was found already the detection is removed, and if several place or class errors refer to it,
    all but the one with the highest score are removed. Missed: the object is removed.

    Args:
        samples: The images.
        matches: Matching of each image, at the IoU ``FOREGROUND``.
        errors: Errors of each image, from ``classify``.
        num_classes: K.

    Returns:
        A row for each of ``KINDS``.
    """
    found = pool(samples, matches, num_classes)
    kinds, corrected = [], []
    for sample, match, error in zip(samples, matches, errors, strict=True):
        kept = ~match.ignored
        kinds.append(error.kind[kept])
        corrected.append(_corrected_labels(sample, match, error)[kept])
    kinds = np.concatenate([np.zeros(0, int), *kinds])
    corrected = np.concatenate([np.zeros(0, int), *corrected])
    lost = [s.object_labels[e.missed] for s, e in zip(samples, errors, strict=True)]
    missed = np.bincount(np.concatenate([np.zeros(0, int), *lost]), minlength=num_classes)

    before = mean_ap(found, found.counts > 0)
    rows = []
    for number, name in enumerate(KINDS):
        if name == "missed":
            after, count = found._replace(counts=found.counts - missed), int(missed.sum())
        else:
            mine = kinds == number
            right = mine & (corrected >= 0)
            kept = ~mine | right
            after = Pool(
                found.scores[kept],
                np.where(right, corrected, found.labels)[kept],
                (found.correct | right)[kept],
                found.counts,
            )
            count = int(mine.sum())
        rows.append(ErrorRow(name, count, mean_ap(after, found.counts > 0) - before))
    return rows


def _corrected_labels(sample, match, error) -> np.ndarray:
    """int [D]: the corrected class of a place or class error, -1 for detections that are removed."""
    labels = np.full(len(sample.scores), -1)
    taken = set(match.partner.tolist())
    for d in np.flatnonzero(error.target >= 0):  # in descending order of score
        if error.target[d] not in taken:
            taken.add(error.target[d])
            labels[d] = sample.object_labels[error.target[d]]
    return labels


def mean_ap(pool: Pool, classes: np.ndarray) -> float:
    """Mean average precision over some classes.

    Args:
        pool: All detections, matched at one IoU threshold.
        classes: bool [K]. A class without objects has AP 0 if it has detections; otherwise it is left out.

    Returns:
        The mean in 0..1; 0 if all classes are left out.
    """
    ap = class_curves(pool).mean(1)
    detected = np.bincount(pool.labels, minlength=len(ap)) > 0
    ap = np.where(np.isnan(ap) & detected, 0.0, ap)[classes]
    ap = ap[~np.isnan(ap)]
    return float(ap.mean()) if len(ap) else 0.0
