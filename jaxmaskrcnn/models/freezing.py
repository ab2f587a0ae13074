"""Which parameters of a detector training updates."""

import fnmatch
from collections.abc import Callable

from flax import nnx

from jaxmaskrcnn.models.mask_rcnn import MaskRCNN


def trainable(model: MaskRCNN, freeze: tuple[str, ...] = ()) -> Callable:
    """Makes an nnx filter of the parameters that training updates.

    Frozen batch norm has no parameters. The first stages of the backbone are left out according to its
    ``freeze_at``, which counts like Detectron2's FREEZE_AT.

    Args:
        model: The detector.
        freeze: Glob patterns of further paths, e.g. "backbone.*" or "*.bias".

    Returns:
        A filter for ``nnx.state`` and ``nnx.split``.

    Example:
        >>> graphdef, params, rest = nnx.split(model, trainable(model, freeze=("backbone.*",)), ...)
        >>> sorted(params)
        ['box_head', 'mask_head', 'rpn']
    """
    patterns = (*(f"backbone.body.{pattern}" for pattern in model.backbone.body.frozen()), *freeze)

    def is_frozen(path, value):
        name = ".".join(map(str, path))
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return nnx.All(nnx.Param, nnx.Not(is_frozen))
