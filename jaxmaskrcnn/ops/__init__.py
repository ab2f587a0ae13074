"""Operators of two-stage detection: pure functions of one image, to be vmapped over a batch.

Boxes are XYXY in pixels, in continuous coordinates; arrays are NHWC; lists of varying length are
padded and come with a boolean ``valid``. Each function can be used independently.
"""

from jaxmaskrcnn.ops.anchors import base_anchors, grid_anchors
from jaxmaskrcnn.ops.boxes import box_area, box_iof, box_iou, clip_boxes, decode_boxes, encode_boxes
from jaxmaskrcnn.ops.deform_conv import deform_conv2d
from jaxmaskrcnn.ops.derivatives import every_derivative
from jaxmaskrcnn.ops.masks import mask_targets, pack_masks, paste_mask_window, paste_masks, unpack_masks
from jaxmaskrcnn.ops.matching import Matches, match
from jaxmaskrcnn.ops.nms import batched_nms, limited_nms, nms
from jaxmaskrcnn.ops.polygons import polygon_targets
from jaxmaskrcnn.ops.roi_align import assign_levels, multilevel_roi_align, roi_align
from jaxmaskrcnn.ops.sampling import Samples, index_priority, random_priority, sample
from jaxmaskrcnn.ops.soft_nms import soft_nms

__all__ = [
    "Matches",
    "Samples",
    "assign_levels",
    "base_anchors",
    "batched_nms",
    "box_area",
    "box_iof",
    "box_iou",
    "clip_boxes",
    "decode_boxes",
    "deform_conv2d",
    "encode_boxes",
    "every_derivative",
    "grid_anchors",
    "index_priority",
    "limited_nms",
    "mask_targets",
    "match",
    "multilevel_roi_align",
    "nms",
    "pack_masks",
    "paste_mask_window",
    "paste_masks",
    "polygon_targets",
    "random_priority",
    "roi_align",
    "sample",
    "soft_nms",
    "unpack_masks",
]
