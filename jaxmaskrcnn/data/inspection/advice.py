"""Compares a data set's objects with a model's anchors and limits, and suggests settings.

Shape legend: G objects that are not crowd regions, A shapes of anchors.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.inspection.statistics import Table, quantiles

_TINY = (8, 16, 32)  # pixels
# Share of objects from which a hint is given. In COCO, for which the default anchors and the default size
# were made, about half of this share is tiny, and as much is elongated.
_MANY = 0.1
_FITS = 0.5


def anchor_fit(table: Table, model: ModelConfig, data: DataConfig) -> dict[str, Any]:
    """Object sizes at the training size, and how well anchors fit them at best.

    An anchor is compared with an object of the same centre, so the figures are upper limits: the
    anchors of an image lie on a grid, and none of them fits better than this.

    Args:
        table: The objects.
        model: Gives the anchors.
        data: Gives ``min_sizes``, of which the largest is taken, and ``max_size``.

    Returns:
        Plain values that json can hold; a share is None if there are no objects.
    """
    plain = ~table.crowd
    short_side, sizes = _short_side(model, data), table.sizes.astype(np.float64)
    scale = np.minimum(short_side / sizes.min(1), data.max_size / sizes.max(1)) if len(sizes) else np.zeros(0)
    sides = table.sides[plain] * scale[table.image[plain], None]
    length = np.sqrt(sides.prod(1))
    fit = _best_fit(sides, model)
    ratios = sides[:, 1] / sides[:, 0]
    elongated = _best_ratio_fit(ratios, model) < _FITS
    return {
        "short_side": short_side,
        "long_side_limit": data.max_size,
        "scale": quantiles(scale),
        "sqrt_box_area": quantiles(length),
        "below": {str(limit): _share(length < limit) for limit in _TINY},
        "detection_limit": model.detections.per_image,
        "images_over_limit": int((np.bincount(table.image[plain]) > model.detections.per_image).sum()),
        "anchor_sizes": sorted({size for sizes, _ in model.rpn.anchors.per_level for size in sizes}),
        "anchor_ratios": _ratios(model),
        "fit_0.5": _share(fit >= 0.5),
        "fit_0.7": _share(fit >= 0.7),
        "elongated": _share(elongated),
        "ratios": quantiles(ratios[elongated]),
    }


def hints(summary: dict[str, Any], model: ModelConfig) -> list[str]:
    """Suggests settings, each with the figure that it is based on.

    Args:
        summary: As made by `inspect_annotations`.
        model: The model that the figures were computed for.
    """
    found = []
    at = summary["training_size"]
    smallest = min(size for sizes in model.rpn.anchors.sizes for size in sizes)
    tiny = at["below"]["16"]
    if tiny is not None and tiny >= _MANY and smallest > 16:
        finer = ",".join(_group(size / 2 for size in sizes) for sizes in model.rpn.anchors.sizes)
        found.append(
            f"{tiny:.0%} of the objects are smaller than 16 pixels at the training size, where the smallest "
            f"anchor has {smallest:g} and the finest features lie 4 pixels apart; train at a larger size "
            f"(--config.data.min_sizes, --config.data.max_size), or with smaller anchors "
            f"(--config.model.rpn.anchors.sizes={finer})."
        )
    if at["elongated"] is not None and at["elongated"] >= _MANY:
        found.append(
            f"{at['elongated']:.0%} of the objects are so long or so wide (height / width from "
            f"{at['ratios']['5']:.2g} to {at['ratios']['95']:.2g}) that no anchor of their area has an IoU "
            "of 0.5 with them; add ratios (--config.model.rpn.anchors.ratios)."
        )
    if at["images_over_limit"]:
        found.append(
            f"Images with more than {at['detection_limit']} objects, which is as many as are detected: "
            f"{at['images_over_limit']} (up to {summary['objects_per_image']['max']} objects); "
            "raise --config.model.detections.per_image."
        )
    empty = [entry["name"] for entry in summary["classes"] if not entry["objects"]]
    if empty and len(empty) < len(summary["classes"]):
        names = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        found.append(f"Classes without an object, which will not be learned: {len(empty)} ({names}).")
    return found


def _short_side(model: ModelConfig, data: DataConfig) -> int:
    return max(data.min_sizes) or model.input.test_min_size


def _best_fit(sides: np.ndarray, model: ModelConfig) -> np.ndarray:
    """The largest IoU [G] with an anchor of the same centre."""
    best = np.zeros(len(sides))
    area = sides.prod(1)
    anchors = {
        (size, ratio) for sizes, ratios in model.rpn.anchors.per_level for size in sizes for ratio in ratios
    }
    for size, ratio in sorted(anchors):
        anchor = size * np.array([ratio**-0.5, ratio**0.5])
        both = np.minimum(sides, anchor).prod(1)
        best = np.maximum(best, both / (area + size * size - both))
    return best


def _best_ratio_fit(ratios: np.ndarray, model: ModelConfig) -> np.ndarray:
    """The largest IoU [G] with an anchor of the same centre and area."""
    best = np.zeros(len(ratios))
    for ratio in _ratios(model):
        both = np.sqrt(np.minimum(ratios / ratio, ratio / ratios))
        best = np.maximum(best, both / (2 - both))
    return best


def _ratios(model: ModelConfig) -> list[float]:
    """The ratios of all levels, each once."""
    return sorted({ratio for _, ratios in model.rpn.anchors.per_level for ratio in ratios})


def _group(sizes: Iterable[float]) -> str:
    """The sizes of a level as they are written on a command line."""
    texts = [f"{size:g}" for size in sizes]
    return texts[0] if len(texts) == 1 else f"({','.join(texts)})"


def _share(chosen: np.ndarray) -> float | None:
    return round(float(chosen.mean()), 4) if len(chosen) else None
