"""Counts what an LVIS json says of its classes, and finds what contradicts its objects."""

from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.annotations import Annotations
from jaxmaskrcnn.data.coco.lvis import FREQUENCIES, NEGATIVE
from jaxmaskrcnn.data.coco.problems import Problem


def lvis_statistics(annotations: Annotations) -> dict[str, Any]:
    """Counts the classes of each frequency.

    Args:
        annotations: The usable images and objects.

    Returns:
        ``lvis`` with plain values that json can hold: of each frequency the number of classes and of those
        with objects, and the mean number of classes of an image that it does not show, and of which not all
        objects are annotated; {} for a json that is not one of LVIS.
    """
    vocabulary = annotations.vocabulary
    if vocabulary is None:
        return {}
    shown = {item.label for image in annotations.images for item in image.objects}
    frequencies = {}
    for letter, name in FREQUENCIES.items():
        labels = {label for label, own in enumerate(vocabulary.frequencies) if own == letter}
        frequencies[name] = {"classes": len(labels), "with_objects": len(labels & shown)}
    negative, partial = (
        round(sum(map(len, by_image.values())) / max(len(annotations.images), 1), 3)
        for by_image in (vocabulary.negative, vocabulary.partial)
    )
    return {
        "lvis": {
            "frequencies": frequencies,
            "negative_classes_per_image": negative,
            "not_exhaustive_classes_per_image": partial,
        }
    }


def lvis_lines(summary: dict[str, Any]) -> list[str]:
    """The same as lines of a text; none for another json.

    Args:
        summary: With the values of `lvis_statistics`.
    """
    found = summary.get("lvis")
    if not found:
        return []
    counts = ", ".join(
        f"{own['classes']} {name} ({own['with_objects']} of them with objects)"
        for name, own in found["frequencies"].items()
    )
    return [
        f"LVIS: classes are {counts}",
        f"  an image is annotated as without {found['negative_classes_per_image']:g} classes, and not "
        f"exhaustively for {found['not_exhaustive_classes_per_image']:g}, on average",
    ]


def contradictions(annotations: Annotations, path: Path) -> list[Problem]:
    """Images with objects of a class that they are said not to show.

    Args:
        annotations: The usable images and objects.
        path: The json, for messages.
    """
    vocabulary, found = annotations.vocabulary, []
    if vocabulary is None:
        return []
    for image in annotations.images:
        shown = {item.label for item in image.objects} & vocabulary.negative[image.id]
        if shown:
            names = ", ".join(sorted(repr(annotations.categories[label].name) for label in shown))
            found.append(
                Problem(
                    "classes that are not there",
                    f"{path}: image {image.id} ({image.file_name}) has objects of {names}, which its "
                    f"{NEGATIVE} say it does not show",
                    image.id,
                )
            )
    return found
