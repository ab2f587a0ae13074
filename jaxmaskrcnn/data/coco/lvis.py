"""What an LVIS json says beside COCO's: how frequent each class is, and in which images it was looked for.

An image of LVIS is annotated for some classes only: those with objects in it and those in its
``neg_category_ids``, which it does not show. Of classes in ``not_exhaustive_category_ids`` some objects are
annotated, and others may be there. Of all other classes nothing is known.

Source: Gupta, Dollar and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (2019),
section 2, and the json files of versions 0.5 and 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxmaskrcnn.data.coco.categories import Classes
from jaxmaskrcnn.data.coco.images import Images
from jaxmaskrcnn.data.coco.problems import Problems

# By the number of training images that show a class: at most 10, at most 100, more.
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}
NEGATIVE, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"


class Vocabulary(NamedTuple):
    """The classes of an LVIS json, and what is known of them in each image.

    Attributes:
        frequencies: Of each label "r", "c" or "f".
        negative: By image id, the labels that the image does not show.
        partial: By image id, the labels of which not all objects are annotated.
    """

    frequencies: tuple[str, ...]
    negative: Mapping[int, frozenset[int]]
    partial: Mapping[int, frozenset[int]]


def is_lvis(content: Mapping[str, Any]) -> bool:
    """Whether a json is one of LVIS: categories have a frequency, and some image its negative classes.

    If only some categories have one, it is damaged; `read_vocabulary` names the others.

    Args:
        content: The json.

    Example:
        >>> image = {"id": 1, "neg_category_ids": [], "not_exhaustive_category_ids": []}
        >>> is_lvis({"categories": [{"id": 1, "frequency": "r"}], "images": [image]})
        True
        >>> is_lvis({"categories": [{"id": 1}], "images": [image]})
        False
    """
    frequent = any("frequency" in entry for entry in content["categories"])
    return frequent and any(NEGATIVE in entry for entry in content["images"])


def read_vocabulary(
    content: Mapping[str, Any], classes: Classes, images: Images, path: Path, problems: Problems
) -> Vocabulary | None:
    """Reads what an LVIS json says beside COCO's.

    Args:
        content: The json.
        classes: Its categories.
        images: Its images.
        path: Its path, for messages.
        problems: Collects what cannot be read.

    Returns:
        None where the json is not one of LVIS, or where its categories are replaced by one.
    """
    if classes.one or not classes.categories or not is_lvis(content):
        return None
    labels = {category.id: label for label, category in enumerate(classes.categories)}
    frequencies = ["f"] * len(labels)
    for entry in content["categories"]:
        label = classes.get(entry.get("id"))
        frequency = entry.get("frequency")
        if not isinstance(frequency, str) or frequency not in FREQUENCIES:
            problems.refuse(
                "bad LVIS category",
                f"{path}: category {entry.get('id')!r} has the frequency {frequency!r}; give 'r', 'c' or "
                "'f', or no category a frequency",
            )
        elif label is not None:
            frequencies[label] = frequency
    found: dict[str, dict[int, frozenset[int]]] = {NEGATIVE: {}, PARTIAL: {}}
    for entry in content["images"]:
        identity = images.ids.of(entry.get("id"))
        if identity not in images.usable:
            continue
        for key, by_image in found.items():
            listed = _labels(entry.get(key), labels, classes)
            if listed is None:
                problems.refuse(
                    "bad LVIS image",
                    f"{path}: image {identity} has the {key} {entry.get(key)!r}; give a list of category ids",
                )
            by_image[identity] = listed or frozenset()
    return Vocabulary(tuple(frequencies), found[NEGATIVE], found[PARTIAL])


def _labels(value: Any, labels: Mapping[int, int], classes: Classes) -> frozenset[int] | None:
    if not isinstance(value, list):
        return None
    found = [labels[item] if type(item) is int and item in labels else classes.get(item) for item in value]
    return None if None in found else frozenset(label for label in found if label is not None)
