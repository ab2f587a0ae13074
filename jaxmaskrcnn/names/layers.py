"""Functions that the names files beside the models' parts share.

Such a file has a function ``names(library, part)``, the part's rows in "torchvision", "detectron2" and
"mmdet"; ``read_structure(shapes, what)``, the settings that the shapes of its arrays show, or None where the
arrays are another part's; and ``structure(config)``, what that finds in the arrays of a model. The part's
configuration class names the file in its ``names``. Paths are those of the model's arrays, such as
"rpn.convs.0.conv.kernel". Besides:

- Backbones and necks have ``describe(part)``. A backbone's ``names`` takes what stands before its names, and
  a neck says in ``BACKBONE`` what that is.
- A backbone that MMDetection has under a name of its own says that in ``MMDET``, and has functions for its
  settings, ``read_mmdet`` and ``write_mmdet``, as those of `convert/mmdet/parts.py`.
- A part that Detectron2's yaml files can have says in ``DETECTRON2`` under which name (a backbone: which of
  the library's functions build it, and the kind of neck that each adds), has functions for its settings,
  ``read_detectron2`` and ``write_detectron2``, and lists the keys of these in ``DETECTRON2_KEYS``.
- A trunk's ``names`` takes the backbone, and ``of_backbone`` has its rows in a file of the backbone alone.
"""

from collections.abc import Mapping

from jaxmaskrcnn.names.tables import Row

Shapes = Mapping[str, tuple[int, ...]]

# The arrays of a norm layer, by torch's names and by Flax's.
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def mmdet_norm_rows(source: str, target: str, norm: str) -> list[Row]:
    """MMDetection's norm layers, whose names depend on their type; either name is read.

    Args:
        source: MMDetection's name of the layer with the norm.
        target: Path of that layer.
        norm: The type to write: "gn", or anything else for batch norm.
    """
    written = "gn" if norm == "gn" else "bn"
    return [
        Row(f"{source}.{name}.{{norm}}", f"{target}.norm.{{norm}}", alias=name != written)
        for name in ("bn", "gn")
    ]


def count_layers(shapes: Shapes, path: str) -> int:
    """Counts the layers that are numbered from 0 on.

    Example:
        >>> count_layers({"fcs.0.kernel": (8, 4), "fcs.1.kernel": (4, 4)}, "fcs.{}.kernel")
        2
    """
    count = 0
    while path.format(count) in shapes:
        count += 1
    return count


def norm_of(shapes: Shapes, layer: str) -> str:
    """The norm of a layer: "none", "bn" (which has statistics) or "gn"."""
    if f"{layer}.norm.scale" not in shapes:
        return "none"
    return "bn" if f"{layer}.norm.mean" in shapes else "gn"
