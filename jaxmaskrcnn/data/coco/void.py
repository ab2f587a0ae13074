"""The ``void`` of Cityscapes' images: the region, as compressed RLE, where nothing is right or wrong.

``import --format=cityscapes`` writes it, and Cityscapes' protocol needs it of every image.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.images import Images
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.rle import check_counts

VOID = "void"
_ADVICE = "make the json with import --format=cityscapes"


def check_voids(content: Mapping[str, Any], images: Images, path: Path, problems: Problems) -> None:
    """Reports images whose void is no mask of them, or that lack one that others have.

    Args:
        content: The json.
        images: Its images.
        path: Its path, for messages.
        problems: Collects what is wrong; it cannot be left out.
    """
    entries = content["images"]
    if all(entry.get(VOID) is None for entry in entries):
        return
    for entry in entries:
        identity = images.ids.of(entry.get("id"))
        image = None if identity is None else images.usable.get(identity)
        if image is None or not image.height:
            continue
        if entry.get(VOID) is None:
            problems.refuse(
                "bad void", f"{path}: image {identity} has no 'void', which others have; {_ADVICE}"
            )
        elif wrong := void_problem(entry[VOID], image.height, image.width):
            problems.refuse("bad void", void_message(path, identity, wrong))


def void_problem(value: Any, height: int, width: int) -> str | None:
    """What is wrong with an image's void; None where it is a mask of the image.

    Args:
        value: As the json has it.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Example:
        >>> void_problem({"size": [2, 2], "counts": "4"}, 2, 2), void_problem([], 2, 3)
        (None, 'it is no compressed RLE of size [2, 3]')
    """
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, str) or not counts.isascii() or value.get("size") != [height, width]:
        return f"it is no compressed RLE of size {[height, width]}"
    return check_counts(counts.encode(), height, width)


def void_message(path: Path, image_id: Any, wrong: str) -> str:
    """A sentence without a full stop about an image's void."""
    return f"{path}: image {image_id} has a 'void' that is no mask of it ({wrong}); {_ADVICE}"
