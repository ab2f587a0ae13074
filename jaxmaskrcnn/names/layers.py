"""Functions that the names files beside the models' parts share.

A names file has these functions: ``names(library, part)`` returns the part's rows in "torchvision",
"detectron2", "mmdet" and "matterport", none for a library that has no such part;
``read_structure(shapes, what)`` infers settings from the shapes of its arrays, or returns None if they belong
to another part; ``structure(config)`` returns what `read_structure` infers for a model of ``config``. The
part's configuration class gives the file as ``names``. Paths are those of the model's arrays, such as
"rpn.convs.0.conv.kernel". In addition:

- A part with a ``kind`` has the libraries whose settings can describe a model with it in ``LIBRARIES``. For
  all others such a model is refused.
- Backbones and necks have ``describe(part)``. A backbone's ``names`` takes the prefix of its names, which a
  neck defines in ``BACKBONE``.
- A backbone, a neck, an extractor, a mask head or a layer that doubles maps has its type in MMDetection in
  ``MMDET``; of several types the first one is written. If it has settings of its own there, they have the
  functions ``read_mmdet(settings, config)`` and ``write_mmdet(config)``, and their keys are in ``MMDET_KEYS``
  (see `PartSettings` in `convert/mmdet/part.py`). `convert/mmdet/kinds.py` finds all of these.
- A backbone with ``MMDET_KEYS`` shares no setting with a ResNet there. One that does has those that a ResNet
  lacks in ``MMDET_OWN_KEYS``.
- A neck that has another number of outputs than none by default has it in ``MMDET_OUTPUTS``.
- A layer within other parts, such as one that doubles maps, has functions that take its place in them: see
  `models/carafe_names.py`. So has the state of a kind of class scores, `models/heads/region_counts_names.py`,
  with the rows of its loss's settings in MMDetection in ``MMDET_ROWS``.
- A backbone with arrays that ImageNet networks lack has a pattern of their paths in ``NEW_IN_DETECTORS``, and
  patterns of the names that only ImageNet networks have in ``CLASSIFIERS``.
- A part that Detectron2's yaml files can have has its name there in ``DETECTRON2`` (a backbone: the library's
  functions that build it, each with the kind of neck that it adds), functions for its settings,
  ``read_detectron2`` and ``write_detectron2``, and the keys of these in ``DETECTRON2_KEYS``.
- A trunk's ``names`` takes the backbone, and ``of_backbone`` has its rows in a file of the backbone alone.
"""

from collections.abc import Mapping

from jaxmaskrcnn.config.backbones import GROUP_NORMS, GROUPS
from jaxmaskrcnn.names.tables import SAME, Row, Transform

Shapes = Mapping[str, tuple[int, ...]]

# The arrays of a norm layer, by torch's names and by Flax's.
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


# The same by Keras' names.
KERAS_NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def keras_layer(source: str, target: str, transform: Transform = SAME, bias: Transform = SAME) -> list[Row]:
    """Return the two rows of a layer of Keras, whose order of axes is Flax's."""
    return [
        Row(f"{source}/kernel", f"{target}.kernel", transform),
        Row(f"{source}/bias", f"{target}.bias", bias),
    ]


def mmdet_norm_rows(source: str, target: str, norm: str) -> list[Row]:
    """Return the rows of MMDetection's norm layers, whose names depend on their type; both are read.

    Args:
        source: MMDetection's name of the layer with the norm.
        target: Path of that layer.
        norm: The type that is written: a group norm, or anything else for batch norm.
    """
    written = "gn" if norm in GROUP_NORMS else "bn"
    return [
        Row(f"{source}.{name}.{{norm}}", f"{target}.norm.{{norm}}", alias=name != written)
        for name in ("bn", "gn")
    ]


def count_layers(shapes: Shapes, path: str) -> int:
    """Count the layers that are numbered from 0.

    Example:
        >>> count_layers({"fcs.0.kernel": (8, 4), "fcs.1.kernel": (4, 4)}, "fcs.{}.kernel")
        2
    """
    count = 0
    while path.format(count) in shapes:
        count += 1
    return count


def norm_of(shapes: Shapes, layer: str) -> str:
    """Return the norm of a layer: "none", "bn" (with statistics), "gn", or "ln" where "gn" is impossible.

    Layer norm has the arrays of group norm, which needs a multiple of 32 channels.
    """
    if f"{layer}.norm.scale" not in shapes:
        return "none"
    if f"{layer}.norm.mean" in shapes:
        return "bn"
    return norm_in_files("ln", shapes[f"{layer}.norm.scale"][0])


def norm_in_files(norm: str, channels: int = GROUPS) -> str:
    """Return the norm that `norm_of` finds in a file of layers with a given one.

    Args:
        norm: The norm.
        channels: The channels of the layers.
    """
    if norm == "ln":
        return "ln" if channels % GROUPS else "gn"
    return {"bn_eval": "bn", "gn_ws": "gn"}.get(norm, norm)
