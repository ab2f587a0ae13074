"""Repeat-factor sampling: images of rare classes are repeated within an epoch.

Gupta, Dollar and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (2019),
appendix B; Detectron2 ``RepeatFactorTrainingSampler``, MMDetection ``ClassBalancedDataset``.

Shape legend: N images, U of them in use, M of them on one canvas, P pairs of an image and a class in it.
"""

import logging

import numpy as np

log = logging.getLogger(__name__)


def repeat_factors(pairs: np.ndarray, images: int, threshold: float) -> np.ndarray:
    """How many times each image appears in an epoch, on average.

    ``f(c)`` is the share of the images that show class c, ``r(c) = max(1, sqrt(t / f(c)))``, and an
    image takes the largest ``r`` of its classes, 1 where it shows none.

    Args:
        pairs: int [P, 2], distinct pairs of an image (0 to N - 1) and a class in it.
        images: N.
        threshold: t, the share of images below which a class is repeated.

    Returns:
        float64 [N], at least 1.

    Example:
        >>> repeat_factors(np.array([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]]), 4, threshold=1.0)
        array([1., 1., 1., 2.])
    """
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    factors = np.ones(images)
    if len(pairs):
        share = np.bincount(pairs[:, 1]) / images
        by_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-300)))
        np.maximum.at(factors, pairs[:, 0], by_class[pairs[:, 1]])
    return factors


def epoch_length(factors: np.ndarray) -> int:
    """The largest number of images that `repeated` can return, the same in every epoch."""
    whole = np.floor(factors)
    return int(whole.sum() + np.ceil(np.round((factors - whole).sum(), 6)))


def repeated(members: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images of one epoch in random order, each ``floor(r)`` or ``ceil(r)`` times.

    An image is rounded up with the probability of its fraction, as in Detectron2. The draws are not
    independent of each other (systematic sampling over a random order), so that their number varies
    by one at most and every epoch has the same number of steps.

    Args:
        members: int [M], images.
        factors: float [M], the repeat factor of each.
        rng: The epoch's random generator.

    Returns:
        int [epoch_length] or one less.
    """
    order = rng.permutation(len(members))
    whole = np.floor(factors[order])
    # Rounded, so that a sum of fractions that misses a whole number by its last bits does not add one.
    reached = np.floor(np.round(rng.random() + np.cumsum(factors[order] - whole), 6))
    extra = np.diff(reached, prepend=0.0)
    return rng.permutation(np.repeat(members[order], (whole + extra).astype(np.int64)))


def class_image_counts(source) -> tuple[int, ...]:
    """How many images of a data set show each class, without crowd regions.

    Args:
        source: The data set; its ``learned_labels`` and ``categories``.

    Returns:
        A number for each class.
    """
    labels = np.asarray(source.learned_labels).reshape(-1, 2)[:, 1]
    return tuple(np.bincount(labels, minlength=len(source.categories)).tolist())


def source_factors(source, used: np.ndarray, threshold: float, rule: str = "stochastic") -> np.ndarray | None:
    """Repeat factors of the images in use.

    Args:
        source: The data set; its ``image_labels``.
        used: int [U], positions of the images in use; classes are counted over them.
        threshold: ``data.repeat_threshold``.
        rule: ``data.repeat_rule``: "stochastic" leaves fractions to `repeated`, as Detectron2 does; "ceil"
            rounds them up, as MMDetection does, so that every epoch has the same images.

    Returns:
        float64 [U]; None where every image appears once.
    """
    weights = getattr(source, "weights", None)  # of several jsons
    if not threshold:
        return None if weights is None else weights[used]
    place = np.full(len(source), -1)
    place[used] = np.arange(len(used))
    pairs = np.asarray(source.image_labels).reshape(-1, 2)
    pairs = np.stack([place[pairs[:, 0]], pairs[:, 1]], axis=1)
    factors = repeat_factors(pairs[pairs[:, 0] >= 0], len(used), threshold)
    if rule == "ceil":
        factors = np.ceil(factors)
    if weights is not None:
        factors = factors * weights[used]
    log.info(
        "Repeat factors: %d of %d images come more than once per epoch, up to %.2f times; an epoch has %d.",
        (factors > 1).sum(), len(used), factors.max(), epoch_length(factors),
    )  # fmt: skip
    return factors
