"""COCO results of a data set by a predictor, such as one with test-time augmentation or with tiles."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm

from jaxmaskrcnn.evaluation.results import coco_results
from jaxmaskrcnn.inference.stream import StreamingPredictor
from jaxmaskrcnn.structures import Category


def predicted_results(
    predictor: StreamingPredictor,
    source,
    categories: Sequence[Category | None],
    *,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Detects objects in the whole data set, in its order.

    Args:
        predictor: Of a model without keypoints and segments, which such predictors do not have.
        source: Prepared data.
        categories: For each label of the model its category in the annotations, from `Evaluator.categories`;
            detections of labels without one are left out.
        progress: Whether to show a progress bar.

    Returns:
        COCO results.
    """
    ids = {
        own.id: category.id
        for own, category in zip(predictor.categories, categories, strict=True)
        if category is not None
    }

    def pictures() -> Iterator[np.ndarray]:
        for i in range(len(source)):
            yield source[i].pixels(predictor.config.input.pixels)

    results = []
    predictions = predictor.stream(pictures(), masks="rle")
    for prediction in tqdm.tqdm(
        predictions, total=len(source), desc="evaluating", unit="image", disable=not progress
    ):
        entries = coco_results(prediction.result, int(source.image_ids[prediction.index]))
        results += [
            {**entry, "category_id": ids[entry["category_id"]]}
            for entry in entries
            if entry["category_id"] in ids
        ]
    return results
