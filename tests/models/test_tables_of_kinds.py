"""Settings that choose a kind have a row for each of their values."""

import dataclasses
import typing

from jaxmaskrcnn.config import SCORES, ClassLossConfig, ModelConfig
from jaxmaskrcnn.config.paths import get_path, type_of
from jaxmaskrcnn.losses.class_scores import ClassScores, class_scores
from jaxmaskrcnn.models.suppression import SUPPRESSION

LOSS = {field.name: field for field in dataclasses.fields(ClassLossConfig)}


def test_class_scores():
    kinds = typing.get_args(type_of(ModelConfig(), "box.scores"))
    assert set(kinds) == set(SCORES)
    for kind in kinds:
        row = SCORES[kind]
        assert isinstance(class_scores(kind), ClassScores)
        assert set(row.settings) <= set(LOSS) - {"form", "weight"}
        assert bool(row.state) == bool(row.names)
        for path in row.needs:
            get_path(ModelConfig(), path)
    # Nothing of the losses is of no kind.
    assert {x for row in SCORES.values() for x in row.settings} == set(LOSS) - {"form", "weight"}
    assert {x for row in SCORES.values() for x in row.forms} == set(typing.get_args(LOSS["form"].type))


def test_nms():
    assert set(typing.get_args(type_of(ModelConfig(), "detections.nms_method"))) == set(SUPPRESSION)
