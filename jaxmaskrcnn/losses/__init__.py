"""The losses of Mask R-CNN, Keypoint R-CNN and Panoptic FPN, each a pure function of one image.

A loss is returned as a sum and a count (`LossTerm`), so that images, devices and slices of a
batch add up before the division.
"""

from jaxmaskrcnn.losses.assignment import (
    Regions,
    match_boxes,
    match_regions,
    region_candidates,
    sample_regions,
    sort_targets,
)
from jaxmaskrcnn.losses.boxes import box_errors
from jaxmaskrcnn.losses.classes import class_losses
from jaxmaskrcnn.losses.federated import federated_classes
from jaxmaskrcnn.losses.focal import quality_focal, sigmoid_focal, softmax_focal
from jaxmaskrcnn.losses.heads import box_losses, mask_head_targets, mask_loss, region_class_losses
from jaxmaskrcnn.losses.keypoints import keypoint_loss
from jaxmaskrcnn.losses.mask_scoring import mask_scoring_losses
from jaxmaskrcnn.losses.points import point_loss
from jaxmaskrcnn.losses.rpn import rpn_losses
from jaxmaskrcnn.losses.semantic import semantic_loss
from jaxmaskrcnn.losses.terms import binary_cross_entropy, reduce_terms, smooth_l1
from jaxmaskrcnn.utils.loss_names import LOSS_NAMES

__all__ = [
    "LOSS_NAMES",
    "Regions",
    "binary_cross_entropy",
    "box_errors",
    "box_losses",
    "class_losses",
    "federated_classes",
    "keypoint_loss",
    "mask_loss",
    "mask_scoring_losses",
    "match_boxes",
    "match_regions",
    "point_loss",
    "quality_focal",
    "reduce_terms",
    "region_candidates",
    "region_class_losses",
    "rpn_losses",
    "sample_regions",
    "semantic_loss",
    "sigmoid_focal",
    "smooth_l1",
    "softmax_focal",
    "sort_targets",
    "mask_head_targets",
]
