"""Names of a keypoint head's arrays in other libraries, and what they imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import KeypointConfig, ModelConfig
from jaxmaskrcnn.config.keypoints import point_names
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import DECONV, Names, weight_and_bias

LIBRARIES = ("torchvision", "detectron2")

_MOST_CONVS = 32


def names(library: str, part: KeypointConfig) -> Names:
    """Return the rows of a library; MMDetection and matterport's Mask R-CNN have no keypoint head."""
    numbers = range(_MOST_CONVS)
    if library == "torchvision":
        head = "roi_heads.keypoint_head"
        rows = [
            *weight_and_bias(f"{head}.{{even}}", "keypoint_head.convs.{even}.conv"),
            *weight_and_bias("roi_heads.keypoint_predictor.kps_score_lowres", "keypoint_head.logits", DECONV),
        ]
    elif library == "detectron2":
        head = "roi_heads.keypoint_head"
        rows = [
            *weight_and_bias(f"{head}.conv_fcn{{count}}", "keypoint_head.convs.{count}.conv"),
            *weight_and_bias(f"{head}.score_lowres", "keypoint_head.logits", DECONV),
        ]
    else:
        rows = []
    return Names(
        rows,
        # torchvision numbers the convolutions and the ReLUs between them.
        {"even": {str(2 * i): str(i) for i in numbers}, "count": {str(i + 1): str(i) for i in numbers}},
    )


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no keypoint head."""
    if "keypoint_head.logits.bias" not in shapes:
        return None
    return {
        "keypoints.convs": count_layers(shapes, "keypoint_head.convs.{}.conv.kernel"),
        "keypoints.dim": shapes["keypoint_head.convs.0.conv.kernel"][-1],
        "keypoints.points": point_names(shapes["keypoint_head.logits.bias"][0]),
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.keypoints
    assert part is not None
    return {
        "keypoints.convs": part.convs,
        "keypoints.dim": part.dim,
        "keypoints.points": point_names(len(part.points)),
    }
