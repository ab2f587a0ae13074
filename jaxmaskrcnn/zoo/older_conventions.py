"""The conventions of Detectron and maskrcnn-benchmark, which came before Detectron2."""

from jaxmaskrcnn.zoo.conventions import DETECTRON2

# Detectron and maskrcnn-benchmark, the libraries before Detectron2. A box there ends at the index of its last
# pixel, so that x2 - x1 + 1 is its width; here it ends after it. What these libraries compute with the width
# is then the same, but for RoIAlign, the way back to the image's scale, and pasting. Their background comes
# first; the names of their files are translated with it last.
_BEFORE_DETECTRON2 = {
    **DETECTRON2,
    "input.pixel_mean": (102.9801, 115.9465, 122.7717),
    "backbone.norm_epsilon": 0.0,
    "rpn.anchors.order": "ratio",
    "rpn.anchors.base": "stride",
    "rpn.anchors.offset": 0.5,
    "rpn.ranking": "probability",
    "rpn.post_nms_train": 2000,
    "rpn.loss_count": "sampled",
    "rpn.loss.beta": 1.0 / 9.0,
    "box.loss.beta": 1.0,
    "box.pool.aligned": False,
    "mask.pool.aligned": False,
    "box.pool.inclusive": True,
    "mask.pool.inclusive": True,
    "box.pool.sampling_ratio": 2,
    "mask.pool.sampling_ratio": 2,
    "detections.rescale_rule": "multiply_inclusive",
    "detections.paste_rule": "whole_pixels_inclusive",
}
# Source: maskrcnn_benchmark/config/defaults.py, data/transforms/transforms.py.
MASKRCNN_BENCHMARK = {**_BEFORE_DETECTRON2, "input.size_rule": "truncate_long_side"}
# Source: detectron/core/config.py, utils/blob.py (prep_im_for_blob: floats, minus the mean, by OpenCV).
DETECTRON = {
    **_BEFORE_DETECTRON2,
    "input.normalise_before_resize": True,
    "input.resize_kernel": "torch",
    "input.size_rule": "round",
}
