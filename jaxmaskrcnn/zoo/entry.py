"""The rows of the registry, and the variants that several libraries share."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.zoo.categories import LVIS_V05_1230, LVIS_V1_1203
from jaxmaskrcnn.zoo.hosts import Checksum, published_checksum

Fields = Mapping[str, Any]


class PublishedFile(NamedTuple):
    """A weights file, as its library publishes it.

    Attributes:
        address: Its https address.
        licence: Licence of the weights.
        found: The file of the library's sources in which the address stands.
        mebibytes: Its size in units of 1024 * 1024 bytes, rounded to thousandths as torchvision publishes it;
            None where the library says nothing.
    """

    address: str
    licence: str
    found: str
    mebibytes: float | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.address.rpartition("/")[2]

    @property
    def checksum(self) -> Checksum | None:
        """The start of its hash, which is in its name, or None."""
        return published_checksum(self.address)


class Preset(NamedTuple):
    """A named model: its configuration and the results that its authors published.

    Attributes:
        conventions: Settings that the models of one library share, by dotted path.
        changes: Settings in which this model differs; None for a part removes the part.
        box_ap: Published box AP in percent on the data set it was trained for, or None.
        mask_ap: Published mask AP, likewise.
        weights: The published weights file, or None if there is none.
        model_id: The source's number for the weights, or None if it has none.
        source: The config file (in the source library's repository) or the weights' entry that the
            configuration follows.
        keypoint_ap: Published keypoint AP, as the others.
        pq: Published panoptic quality (PQ), as the others.
    """

    conventions: Fields
    changes: Fields
    box_ap: float | None = None
    mask_ap: float | None = None
    weights: PublishedFile | None = None
    model_id: str | None = None
    source: str = ""
    keypoint_ap: float | None = None
    pq: float | None = None

    def config(self) -> ModelConfig:
        """The model's configuration."""
        absent = tuple(f"{path}." for path, value in self.changes.items() if value is None)
        changes = {path: value for path, value in self.changes.items() if not path.startswith(absent or "/")}
        return ModelConfig().replace(self.conventions).replace(changes)


class Backbone(NamedTuple):
    """ImageNet weights of a backbone.

    Attributes:
        fields: Settings that a detector needs to start from them, by dotted path.
        weights: The published files, to all of which these fields apply. The first is the one with which the
            library's own detectors start.
        licence: Licence of the weights.
        source: As in `Preset`.
    """

    fields: Fields
    weights: tuple[PublishedFile, ...]
    licence: str
    source: str


R101 = {"backbone.depth": 101}
X101_32X4D = {**R101, "backbone.groups": 32, "backbone.width_per_group": 4}
X101_64X4D = {**R101, "backbone.groups": 64, "backbone.width_per_group": 4}
X101_32X8D = {**R101, "backbone.groups": 32, "backbone.width_per_group": 8}
X152_32X8D = {**X101_32X8D, "backbone.depth": 152}

# Four convolutions and one fully connected layer, as in all recipes with norm layers in the heads.
FOUR_CONV_ONE_FC = {"box.convs": 4, "box.fcs": 1}

# Norm layers in every part but the RPN. Synchronised batch norm is batch norm over all devices.
GN_ALL = {**FOUR_CONV_ONE_FC, "backbone.norm": "gn", "neck.norm": "gn", "box.norm": "gn", "mask.norm": "gn"}
BN_ALL = {**FOUR_CONV_ONE_FC, "backbone.norm": "bn", "neck.norm": "bn", "box.norm": "bn", "mask.norm": "bn"}

_LVIS = {"detections.score_threshold": 0.0001, "detections.per_image": 300}
LVIS_V05 = {**_LVIS, "num_classes": 1230, "categories": LVIS_V05_1230}
LVIS_V1 = {**_LVIS, "num_classes": 1203, "categories": LVIS_V1_1203}
