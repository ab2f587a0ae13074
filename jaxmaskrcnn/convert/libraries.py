"""The libraries whose detectors can be read and written, and how to recognise a file's library."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.convert.detectron2 import library as detectron2
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.matterport import library as matterport
from jaxmaskrcnn.convert.mmdet import library as mmdet
from jaxmaskrcnn.convert.torchvision import library as torchvision
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.prefixes import detector_prefix, shared_prefix, without_prefix

__all__ = ["LIBRARIES", "Library", "Recognised", "recognise", "wrappers_prefix"]

LIBRARIES = {module.LIBRARY.name: module.LIBRARY for module in (torchvision, detectron2, mmdet, matterport)}


class Recognised(NamedTuple):
    """A detector's arrays.

    Attributes:
        library: The library whose names they have.
        arrays: The arrays by its own names. A name that lacks the prefix of the others is marked, so that it
            cannot be mistaken for one of theirs.
        prefix: The prefix that was removed, with its dot; "" if there was none.
    """

    library: Library
    arrays: dict[str, np.ndarray]
    prefix: str


def recognise(arrays: Mapping[str, np.ndarray], what: str) -> Recognised:
    """Recognise the library of a detector's arrays, and remove the prefix that a wrapper added to the names.

    Args:
        arrays: Arrays by their names in the file.
        what: Names the file in an error.

    Returns:
        The library, its arrays and the prefix.

    Raises:
        UserError: The names belong to no library, or the file holds several detectors.
    """
    for library in LIBRARIES.values():
        prefix = detector_prefix(arrays, library.signature, what)
        if prefix is not None:
            plain = {without_prefix(name, prefix): array for name, array in arrays.items()}
            return Recognised(library, plain, prefix)
    signatures = ", ".join(f"{x.title}'s ({x.signature})" for x in LIBRARIES.values())
    some = ", ".join(list(arrays)[:3])
    raise UserError(
        f"{what} has the names of no supported Faster or Mask R-CNN, {signatures}, but {some}, ...; "
        "give a detector from one of these libraries."
    )


def wrappers_prefix(names: Collection[str], what: str = "The file") -> str:
    """Return the prefix that a wrapper added to a detector's names, or to all names of a file.

    Args:
        names: The names in the file.
        what: The file, for messages.

    Returns:
        The prefix with its dot, or "".

    Raises:
        UserError: The file holds several detectors.

    Example:
        >>> wrappers_prefix(["net.backbone.body.bn1.bias", "net.rpn.head.cls_logits.weight", "loss.scale"])
        'net.'
    """
    found = (detector_prefix(names, library.signature, what) for library in LIBRARIES.values())
    return next((prefix for prefix in found if prefix is not None), shared_prefix(names))
