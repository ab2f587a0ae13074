"""The libraries whose detectors can be read and written, and how to recognise a file's library."""

from collections.abc import Mapping

import numpy as np

from jaxmaskrcnn.convert.detectron2 import library as detectron2
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.matterport import library as matterport
from jaxmaskrcnn.convert.mmdet import library as mmdet
from jaxmaskrcnn.convert.torchvision import library as torchvision
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.prefixes import WRAPPERS, find_prefix, without_prefix

__all__ = ["LIBRARIES", "Library", "recognise"]

LIBRARIES = {module.LIBRARY.name: module.LIBRARY for module in (torchvision, detectron2, mmdet, matterport)}


def recognise(arrays: Mapping[str, np.ndarray], what: str) -> tuple[Library, dict[str, np.ndarray]]:
    """Recognise the library of a detector's arrays, and remove a wrapper's prefix.

    Args:
        arrays: Arrays by their names in the file.
        what: Names the file in an error.

    Returns:
        The library, and the arrays by its own names. A name that lacks the prefix of the others is
        marked, so that it cannot be mistaken for one of theirs.

    Raises:
        UserError: The names belong to no library, or the file holds several detectors.
    """
    for library in LIBRARIES.values():
        prefix = find_prefix(arrays, library.signature, WRAPPERS, what, "detectors")
        if prefix is not None:
            return library, {without_prefix(name, prefix): array for name, array in arrays.items()}
    signatures = ", ".join(f"{x.title}'s ({x.signature})" for x in LIBRARIES.values())
    some = ", ".join(list(arrays)[:3])
    raise UserError(
        f"{what} has the names of no supported Faster or Mask R-CNN, {signatures}, but {some}, ...; "
        "give a detector from one of these libraries."
    )
