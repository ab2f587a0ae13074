"""Inputs that Hypothesis generates for the doors whose files are json; the same ones on every machine."""

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .attempts import Outcome
from .strategies import COCO, DETECTIONS, as_bytes, changed
from .trial import Place

_OWN = {
    "inspect": COCO,
    "prepare": COCO,
    "score": COCO,
    "report": COCO,
    "import coco": COCO,
    "detections": DETECTIONS,
}
_TOOLS = (
    "datumaro", "supervisely", "label-studio", "labelme", "labelme (keypoints)", "via", "via (3)", "isat",
    "sam", "panoptic", "cityscapes",
)  # fmt: skip
_KINDS = (
    "inspect panoptic", "inspect keypoints", "prepare keypoints", "report keypoints", "inspect lvis",
    "score lvis", "inspect cityscapes", "score cityscapes", "inspect stuff", "prepare stuff", "segments",
)  # fmt: skip
GENERATED = (*_OWN, *(f"import {tool}" for tool in _TOOLS), *_KINDS, "model.json", "run.json")


def strategy_of(place: Place) -> st.SearchStrategy[tuple[Any, Any, int]]:
    """The file, its new content, and a number for the choice of options."""
    name = place.name
    files = [path for path in place.targets if path.suffix == ".json"]

    def content(path) -> st.SearchStrategy:
        valid = json.loads(place.data[path])
        valid.pop("checksum", None) if isinstance(valid, dict) else None  # other damage would not be seen
        return st.one_of(_OWN[name], changed(valid)) if name in _OWN else changed(valid)

    numbers = st.integers(0, 2**16)
    return st.sampled_from(files).flatmap(lambda path: st.tuples(st.just(path), content(path), numbers))


def generated(
    place: Place, number: int, count: int, begin: Callable[..., None], end: Callable[[Outcome], None]
) -> None:
    """Tries inputs one after the other.

    Args:
        place: The door.
        number: Another number gives other inputs.
        count: How many.
        begin: Called before each with its door, way, seed and number.
        end: Called after each.
    """
    done = 0

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy_of(place))
    def one(drawn):
        nonlocal done
        path, content, choice = drawn
        begin(place.name, "generated", number, done)
        done += 1
        end(place.given(path, as_bytes(content), random.Random(choice)))

    one()
