"""Counts of a panoptic data set's stuff."""

from collections import Counter
from typing import Any

from jaxmaskrcnn.data.coco.annotations import Annotations


def stuff_statistics(annotations: Annotations) -> dict[str, Any]:
    """Counts the segments of stuff, and the pixels of the data set that are theirs.

    Args:
        annotations: The usable images and objects.

    Returns:
        ``stuff`` with plain values that json can hold: of each class of stuff the name, the id, the number of
        images with it, and its share of all pixels; and ``not_annotated``, the share of pixels without a
        segment. {} for a json that is not panoptic.
    """
    if annotations.panoptic is None:
        return {}
    usable = {image.id for image in annotations.images}
    images = [im for key, im in annotations.panoptic.images.items() if annotations.image_id(key) in usable]
    total = max(sum(image.size[0] * image.size[1] for image in images), 1)
    pixels, shown = Counter(), Counter()
    for image in images:
        for segment in image.segments:
            pixels[segment.category_id] += segment.pixels
        shown.update({segment.category_id for segment in image.segments})
    classes = [
        {"name": name, "id": identity, "images": shown[identity], "share": round(pixels[identity] / total, 6)}
        for identity, name in annotations.panoptic.stuff
    ]
    labelled = pixels.total()
    return {"stuff": {"classes": classes, "not_annotated": round(1 - labelled / total, 6)}}


def stuff_lines(summary: dict[str, Any]) -> list[str]:
    """The same as lines of a text; none for another json.

    Args:
        summary: With the values of `stuff_statistics`.
    """
    found = summary.get("stuff")
    if not found:
        return []
    width = max([len("class"), *(len(entry["name"]) for entry in found["classes"])])
    rows = [
        f"  {entry['name']:{width}}  {entry['id']:>6}  {entry['share']:>8.1%}  {entry['images']:>7}"
        for entry in found["classes"]
    ]
    return [
        f"Stuff, {found['not_annotated']:.1%} of the pixels are of no segment",
        f"  {'class':{width}}  {'id':>6}  {'pixels':>8}  {'images':>7}",
        *rows,
    ]
