"""The local path of weights, whatever names them. Everything that opens a given weights file asks here.

A path that exists comes first: where a folder ``detectron2/mask_rcnn_R_50_FPN_3x`` lies in the working
directory, that folder is read, and a warning says so.
"""

import logging
import os
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.filesystem import is_stored
from jaxmaskrcnn.utils.addresses import address_text, file_path, split_scheme
from jaxmaskrcnn.weights.addresses import MODELS_HINT, Wanted, is_name, suggestion, wanted
from jaxmaskrcnn.weights.cache import fetch
from jaxmaskrcnn.weights.stored import copy_weights

log = logging.getLogger(__name__)

__all__ = ["Located", "download", "locate", "published", "suggestion"]


class Located(NamedTuple):
    """Where weights are.

    Attributes:
        path: A local path, which need not exist if the user gave a path.
        preset: The model of the registry whose published weights they are, or None.
        backbone: The ImageNet backbone of the registry whose published weights they are, or None.
    """

    path: str
    preset: str | None = None
    backbone: str | None = None


def locate(given: str | os.PathLike, *, detector: bool = False) -> Located:
    """Find weights; what is published and not on this machine is fetched.

    Args:
        given: A path; the name of a model or of a backbone of the registry; or an address: ``https://``,
            ``http://``, ``file://``, ``detectron2://``, ``catalog://``, ``torchvision://``,
            ``open-mmlab://``. An address may end with ``#sha256=`` and the start of the file's hash. Files,
            model directories and workdirs in a store (``gs://``, ``s3://``) are copied.
        detector: Whether it has to be a whole detector; a backbone is refused before it is fetched.

    Returns:
        Where they are.

    Raises:
        UserError: Nothing is given, the address is of no known kind, or the file cannot be fetched or is not
            the published one.

    Example:
        >>> locate("runs/mine").path
        'runs/mine'
    """
    text = address_text(given)
    if not text.strip():
        raise UserError(f"the path or name of weights is {text!r}; give a path, or a name ({MODELS_HINT}).")
    parts = split_scheme(text)
    if parts and parts[0] == "file":
        return Located(file_path(text))
    if is_stored(text):
        return Located(str(copy_weights(text)))
    if parts is None and os.path.exists(text):
        if is_name(text):
            log.warning("%s is read from the working directory, not fetched as published weights.", text)
        return Located(text)
    file = wanted(text)
    if file is None:
        return Located(text)
    if detector and file.backbone:
        raise UserError(
            f"{text} is an ImageNet backbone and no detector; start training from it "
            f"(--config.model.weights={text}), or give a detector's name ({MODELS_HINT})."
        )
    return Located(str(fetch(file)), file.preset, file.backbone)


def download(name: str) -> Path:
    """Fetch published weights, if they are not on this machine, and return their path.

    Args:
        name: The name of a model or of a backbone, or an address, as in `locate`.

    Returns:
        The file's path in the cache.

    Raises:
        UserError: It is no name and no address, or the file cannot be fetched.

    Example:
        >>> path = jmr.download("torchvision/resnet50")  # doctest: +SKIP
        >>> try:
        ...     jmr.download("torchvision/resnet51")
        ... except jmr.UserError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        torchvision/resnet51 is no name of published weights and no address; did you mean ...
    """
    return copy_weights(name) if is_stored(name) else fetch(published(name))


def published(name: str) -> Wanted:
    """The file that a name or an address stands for; nothing is fetched.

    Args:
        name: As for `download`.

    Raises:
        UserError: It is no name and no address, or its weights were not published.

    Example:
        >>> published("torchvision/resnet50").address
        'https://download.pytorch.org/models/resnet50-0676ba61.pth'
    """
    text = address_text(name)
    file = wanted(text)
    if file is None:
        raise UserError(
            f"{text} is no name of published weights and no address{suggestion(text) or f'; {MODELS_HINT}'}."
        )
    return file
