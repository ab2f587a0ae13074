"""The libraries whose detectors are read and written, and how a file shows which one it is from."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.names import detectron2, mmdet, torchvision
from jaxmaskrcnn.convert.names.prefixes import WRAPPERS, find_prefix, without_prefix
from jaxmaskrcnn.convert.names.tables import Table
from jaxmaskrcnn.convert.structure import structure
from jaxmaskrcnn.errors import UserError


class Library(NamedTuple):
    """A source library.

    Attributes:
        name: As the part of a preset's name before the slash, and as ``export --format``.
        title: For messages.
        table: Its names, for a configuration.
        signature: A name that each of its FPN detectors has, and no other library's.
        backbone: Prefix of the ResNet's names.
        box_conv: Pattern of the names of the box head's convolutions, whose number torchvision's
            other names depend on.
        frozen_counters: Whether frozen batch norm has a ``num_batches_tracked`` too.
    """

    name: str
    title: str
    table: Callable[[ModelConfig], Table]
    signature: str
    backbone: str
    box_conv: str
    frozen_counters: bool

    def structure(self, arrays: Mapping[str, np.ndarray], what: str = "the checkpoint") -> dict[str, Any]:
        """The fields of ModelConfig that a detector's arrays tell; see `structure.structure`.

        Args:
            arrays: By this library's names.
            what: Names the source in an error.

        Raises:
            UserError: The arrays are no ResNet-FPN detector of a known depth.
        """
        box_convs = sum(re.fullmatch(self.box_conv, name) is not None for name in arrays)
        table = self.table(ModelConfig(num_classes=1, box_convs=box_convs))
        shapes = {}
        for name, array in arrays.items():
            if (translated := table.translate(name)) is not None:
                path, transform = translated
                shapes[path] = transform.to_model_if_possible(array).shape
        return structure(shapes, what)

    def counters(self, names: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
        """The ``num_batches_tracked`` that the library's batch norm layers have, all 0.

        Args:
            names: A detector's arrays by this library's names.
            config: Says which norm layers are frozen.
        """
        fixed = config.backbone_norm == "frozen_bn" and not self.frozen_counters
        return {
            f"{name.removesuffix('running_var')}num_batches_tracked": np.zeros((), np.int64)
            for name in names
            if name.endswith(".running_var") and not (fixed and name.startswith(self.backbone))
        }


LIBRARIES = {
    "torchvision": Library(
        name="torchvision",
        title="torchvision",
        table=torchvision.table,
        signature="rpn.head.cls_logits.weight",
        backbone="backbone.body.",
        box_conv=r"roi_heads\.box_head\.\d+\.0\.weight",
        frozen_counters=False,
    ),
    "detectron2": Library(
        name="detectron2",
        title="Detectron2",
        table=detectron2.table,
        signature="proposal_generator.rpn_head.objectness_logits.weight",
        backbone="backbone.bottom_up.",
        box_conv=r"roi_heads\.box_head\.conv\d+\.weight",
        frozen_counters=False,
    ),
    "mmdet": Library(
        name="mmdet",
        title="MMDetection",
        table=mmdet.table,
        signature="rpn_head.rpn_cls.weight",
        backbone="backbone.",
        box_conv=r"roi_head\.bbox_head\.shared_convs\.\d+\.conv\.weight",
        frozen_counters=True,
    ),
}


def recognise(arrays: Mapping[str, np.ndarray], what: str) -> tuple[Library, dict[str, np.ndarray]]:
    """Which library a detector's arrays are from, and the arrays without a wrapper's prefix.

    Args:
        arrays: By the names in the file.
        what: Names the file in an error.

    Returns:
        The library, and the arrays by its own names. A name that lacks the prefix which the others
        have keeps a mark of that, so that it cannot be taken for one of theirs.

    Raises:
        UserError: The names are no library's, or there are two detectors in the file.
    """
    for library in LIBRARIES.values():
        prefix = find_prefix(arrays, library.signature, WRAPPERS, what, "detectors")
        if prefix is not None:
            return library, {without_prefix(name, prefix): array for name, array in arrays.items()}
    signatures = ", ".join(f"{x.title}'s ({x.signature})" for x in LIBRARIES.values())
    some = ", ".join(list(arrays)[:3])
    raise UserError(
        f"{what} has the names of no Faster or Mask R-CNN on FPN that is known, {signatures}, but "
        f"{some}, ...; give a detector of one of these libraries."
    )
