"""Hypothesis' strategies: COCO jsons with odd values, and jsons of any tool with odd parts."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from .mutations import NUMBERS, WORDS, places

TEXTS = st.one_of(st.sampled_from(WORDS), st.text(st.characters(), max_size=12))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(NUMBERS), TEXTS,
)  # fmt: skip
ODD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def mostly(good: st.SearchStrategy, odd: st.SearchStrategy = ODD) -> st.SearchStrategy:
    """A good value three times out of four."""
    return st.integers(0, 3).flatmap(lambda n: odd if n == 3 else good)


IDS = mostly(
    st.integers(1, 3), st.one_of(st.sampled_from(["1", "1.0", " 1", "a", 1.0, 1.5, True, -1, 0]), ODD)
)
SIDES = mostly(
    st.sampled_from([24, 32, 20]), st.one_of(st.integers(-2, 2**34), st.sampled_from(["24", 24.0]), ODD)
)
COORDINATES = mostly(st.floats(-5, 40), st.one_of(st.floats(), st.integers(), SCALARS))
POLYGONS = st.lists(st.lists(COORDINATES, max_size=10) | ODD, max_size=3)
COUNTS = st.one_of(
    st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40),
    st.lists(mostly(st.integers(0, 500), st.integers() | SCALARS), max_size=8),
    ODD,
)
RLES = st.fixed_dictionaries(
    {"counts": COUNTS}, optional={"size": mostly(st.just([24, 32])) | st.lists(SIDES)}
)
NAMES = mostly(st.sampled_from(["1.png", "2.png", "./1.png", "images/2.png", "C:\\x\\1.png"]), TEXTS | ODD)

IMAGES = st.fixed_dictionaries(
    {"id": IDS, "file_name": NAMES}, optional={"height": SIDES, "width": SIDES, "coco_url": TEXTS | ODD}
)
ANNOTATIONS = st.fixed_dictionaries(
    {"image_id": IDS, "category_id": IDS},
    optional={
        "id": IDS, "bbox": st.lists(COORDINATES, min_size=3, max_size=5) | ODD, "area": COORDINATES,
        "segmentation": POLYGONS | RLES | ODD, "iscrowd": mostly(st.sampled_from([0, 1, "0", [1]])),
        "ignore": SCALARS, "label": TEXTS, "attributes": ODD,
    },
)  # fmt: skip
CATEGORIES = st.fixed_dictionaries({"id": IDS, "name": mostly(TEXTS)}, optional={"supercategory": ODD})
DETECTIONS = st.lists(
    st.fixed_dictionaries(
        {"image_id": IDS, "category_id": IDS, "score": mostly(st.floats(0, 1))},
        optional={"bbox": st.lists(COORDINATES, min_size=3, max_size=5) | ODD, "segmentation": RLES | ODD},
    )
    | ODD,
    max_size=4,
)


def entries(strategy: st.SearchStrategy, most: int) -> st.SearchStrategy:
    """A list of entries, in which something else may stand."""
    return mostly(
        st.lists(strategy, min_size=1, max_size=most), st.lists(strategy | ODD, max_size=most) | ODD
    )


COCO = st.fixed_dictionaries(
    {
        "images": entries(IMAGES, 3), "annotations": entries(ANNOTATIONS, 5),
        "categories": entries(CATEGORIES, 3),
    },
    optional={"info": ODD, "licenses": ODD},
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A valid json with one to four of its parts replaced, removed, renamed, or exchanged."""
    content = [copy.deepcopy(document)]
    for _ in range(draw(st.integers(1, 4))):
        parent, key = draw(st.sampled_from(places(content)))
        way = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "exchange")))
        if way == "replace" or parent is content:
            parent[key] = draw(ODD)
        elif way == "remove":
            del parent[key]
        elif way == "rename" and isinstance(parent, dict):
            parent[draw(TEXTS)] = parent.pop(key)
        else:
            other, place = draw(st.sampled_from(places(content)))
            parent[key] = copy.deepcopy(other[place])
    return content[0]


def as_bytes(content: Any) -> bytes:
    """The json, in which surrogates are written as escapes and NaN as Python writes it."""
    return json.dumps(content).encode()
