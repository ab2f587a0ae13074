"""Counted against annotated in the report."""

import re

import numpy as np
import pytest
from report_helpers import bar, found, random_scene, truth

from jaxmaskrcnn.evaluation.coco import GroundTruth
from jaxmaskrcnn.report.counts import count_section, explained
from jaxmaskrcnn.report.results import compute


def test_counts_by_hand():
    content = truth(
        (1, 3, bar(20)),
        (1, 3, bar(20, 0, 40)),
        (1, 17, bar(20, 0, 70)),
        (2, 3, bar(9, 50, 0), True),
        images=3,
    )
    detections = [
        found(1, 3, 0.9, bar(20)),
        found(1, 3, 0.4, bar(20, 0, 40)),  # below the threshold
        found(1, 3, 0.5, bar(9, 60, 60)),  # not in its place, but counted
        found(2, 3, 0.9, bar(9, 50, 0)),  # in a crowd region
        found(3, 17, 0.9, bar(20)),
    ]
    counts = compute(GroundTruth(content), detections, 0.5).object_counts
    assert counts.annotated.tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert counts.counted.tolist() == [[2, 0, 0], [0, 0, 0], [0, 1, 0]]
    page = count_section(counts, ["cat", "dog", "eel"], 0.5)
    rows = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', page))
    assert list(rows) == ["all classes", "cat", "dog"]  # nothing of the third
    cells = {name: re.findall("<td>(.*?)</td>", row) for name, row in rows.items()}
    assert cells["all classes"] == ["3", "3", "+0 (+0 %)", "0.67", "0.67"]
    assert cells["cat"] == ["2", "2", "+0 (+0 %)", "0.00", "1.00"]
    assert cells["dog"] == ["1", "1", "+0 (+0 %)", "0.67", "-2.00"]
    assert "1 image: 3 annotated, 2 counted" in page and "1 image: 0 annotated, 1 counted" in page


def test_totals_are_those_of_the_files():
    content, detections = random_scene(2, crowds=0)
    counts = compute(GroundTruth(content), detections, 0.3).object_counts
    assert counts.annotated.sum() == len(content["annotations"])
    assert counts.counted.sum() == sum(d["score"] >= 0.3 for d in detections)


@pytest.mark.parametrize("counted, share", [([1, 2, 3, 4], 1.0), ([2, 2, 3, 3], 0.6), ([4, 4, 4, 4], -1.8)])
def test_explained_variance(counted, share):
    assert explained(np.array([1, 2, 3, 4]), np.array(counted)) == pytest.approx(share)
    assert explained(np.array([2, 2]), np.array([1, 2])) is None
