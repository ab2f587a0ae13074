"""Names of a ResNet's last stage that is applied to regions; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig, ResNetConfig
from jaxmaskrcnn.config.heads import Res5Config
from jaxmaskrcnn.models.backbones import resnet_names
from jaxmaskrcnn.names.config_table import Settings
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Names

LIBRARIES = ("detectron2", "mmdet")

DETECTRON2 = "Res5ROIHeads"
_SOURCES = {"detectron2": "roi_heads.", "mmdet": "roi_head.shared_head."}
_STAGES = {"detectron2": {"5": "4"}, "torchvision": {"4": "4"}, "mmdet": {"4": "4"}}


def names(library: str, part: Res5Config, backbone: ResNetConfig | None) -> Names:
    """Return the rows of a library; torchvision has no such models.

    Args:
        library: "torchvision", "detectron2" or "mmdet".
        part: The trunk.
        backbone: The ResNet whose last stage it is; None for another backbone.
    """
    if library not in _SOURCES or not isinstance(backbone, ResNetConfig):
        return Names([], {})
    return _stage(library, backbone, _SOURCES[library])


def of_backbone(library: str, part: Res5Config, backbone: ResNetConfig) -> Names:
    """Return the rows in a file of only a complete ResNet."""
    return _stage(library, backbone, "")


def _stage(library: str, backbone: ResNetConfig, source: str) -> Names:
    rows, vocabulary = resnet_names.names(library, backbone, source, "trunk.")
    return Names([row for row in rows if "{stage}" in row.source], {**vocabulary, "stage": _STAGES[library]})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Return {} if there is such a stage, which has no settings; None if there is none."""
    return {} if "trunk.layer4.0.conv1.kernel" in shapes else None


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    return {}


def read_detectron2(settings: Settings, config: dict[str, Any]) -> None:
    """Read the settings of Detectron2's heads after the stage: only predictors, and a shared pooler."""
    if config.get("neck") is not False:
        given = settings.values.get("MODEL.BACKBONE.NAME")
        settings.refuse("MODEL.BACKBONE.NAME", given, f"'build_resnet_backbone' with {DETECTRON2!r}")
    elif config.get("backbone.outputs") not in ((4,), None):
        given = settings.values.get("MODEL.RESNETS.OUT_FEATURES")
        settings.refuse("MODEL.RESNETS.OUT_FEATURES", given, f"['res4'] with {DETECTRON2!r}")
    if config.get("backbone.depth") in (18, 34):  # Detectron2 builds bottleneck blocks at every depth
        settings.refuse(
            "MODEL.RESNETS.DEPTH", config["backbone.depth"], f"50, 101 or 152 with {DETECTRON2!r}"
        )
    if config["keypoints"]:  # the library's heads of a C4 model refuse it as well
        settings.refuse("MODEL.KEYPOINT_ON", True, f"False with {DETECTRON2!r}")
    config |= {"box.convs": 0, "box.fcs": 0, "box.average": True}
    if config["mask"] not in (True, False):
        name = "MODEL.ROI_MASK_HEAD.NAME"
        settings.refuse(name, settings.values.get(name), f"'MaskRCNNConvUpsampleHead' with {DETECTRON2!r}")
    elif config["mask"]:
        for name in ("size", "aligned", "sampling_ratio"):
            config[f"mask.pool.{name}"] = config[f"box.pool.{name}"]
