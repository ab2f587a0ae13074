"""The tracks of 'CVAT for video 1.1': a shape for each frame in which an object is seen.

CVAT writes every frame of a track, those between its key frames too, and exports the frames as
``images/frame_000000.png`` and so on (https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.points import stated_size
from jaxmaskrcnn.data.importers.split import part_of
from jaxmaskrcnn.errors import UserError

_FRAME = re.compile(r"(^|.*/)frame_\d{6,}\.\w+")


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        name: The image's name without its suffix.
        place: Where it is, for messages.
        size: Height and width; None where the xml does not give them.
        part: The subset of the video's task.
        shapes: Each shape that is seen, its label and its group.
    """

    name: str
    place: str
    size: tuple[int, int] | None
    part: str | None
    shapes: Sequence[tuple[Element, str | None, str | None]]


def frames(root: Element, path: Path, builder: Builder, part: str | None) -> list[Frame]:
    """The frames of all tracks, in their order. Shapes outside of a frame are none of its objects.

    Args:
        root: The xml's root.
        path: The xml, for messages.
        builder: Has the image folder, and collects problems.
        part: The subset to read; None reads all.

    Raises:
        UserError: The frames cannot be distinguished, or the folder has none.
    """
    tracks = list(root.iter("track"))
    if not tracks:
        return []
    if len({track.get("task_id") for track in tracks}) > 1:
        raise UserError(
            f"{path} holds several videos, whose frames have the same numbers; export each task by itself, "
            "or the project as 'CVAT for images 1.1'."
        )
    if not any(map(_FRAME.fullmatch, builder.folder.names())):
        raise UserError(
            f"{path} is about the frames of a video, and {builder.folder.root} has no image named like "
            "frame_000000.png; export it with images, or as 'CVAT for images 1.1'."
        )
    subset = part_of(tracks[0].get("subset", "")) or None
    if part is not None and part != subset:
        return []
    found: dict[int, list] = {}
    for i, track in enumerate(tracks):
        for element in track:
            with builder.noting("bad shape"):
                number = whole_number(element.get("frame"))
                if number is None or number < 0:
                    raise UserError(
                        f"{path}: track {i} has a {element.tag} with the frame {element.get('frame')!r}; "
                        "give its number."
                    )
                shapes = found.setdefault(number, [])
                if element.get("outside") != "1":
                    shapes.append((element, track.get("label"), track.get("group_id")))
    size = _size(root, path)
    return [
        Frame(f"frame_{number:06d}", f"{path}: frame {number}", size, subset, found[number])
        for number in sorted(found)
    ]


def _size(root: Element, path: Path) -> tuple[int, int] | None:
    """Height and width of the frames."""
    element = root.find(".//original_size")
    if element is None:
        return None
    return stated_size(element.findtext("height"), element.findtext("width"), f"{path}: original_size")
