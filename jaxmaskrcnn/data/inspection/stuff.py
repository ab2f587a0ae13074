"""Counts of a panoptic data set's classes of stuff."""

from typing import Any

from jaxmaskrcnn.data.coco.annotations import Annotations


def stuff_statistics(annotations: Annotations) -> dict[str, Any]:
    """Counts the images in which each class of stuff is annotated.

    Args:
        annotations: The usable images and objects.

    Returns:
        ``stuff``, a list with id, name and number of images of each class, which json can hold; {} for a json
        without segments.
    """
    if annotations.panoptic is None:
        return {}
    images = [
        {segment.category_id for segment in image.segments} for image in annotations.panoptic.images.values()
    ]
    return {
        "stuff": [
            {**category._asdict(), "images": sum(category.id in found for found in images)}
            for category in annotations.panoptic.stuff
        ]
    }


def stuff_lines(summary: dict[str, Any]) -> list[str]:
    """The same as lines of a text; none without stuff.

    Args:
        summary: With the values of `stuff_statistics`.
    """
    found = summary.get("stuff")
    if not found:
        return []
    width = max(len("class"), *(len(entry["name"]) for entry in found))
    lines = ["Stuff", f"  {'class':{width}}  {'id':>6}  {'images':>7}"]
    for entry in sorted(found, key=lambda entry: -entry["images"]):
        lines.append(f"  {entry['name']:{width}}  {entry['id']:>6}  {entry['images']:>7}")
    return lines
