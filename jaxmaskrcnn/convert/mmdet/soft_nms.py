"""Soft-NMS in an MMDetection model; see `nms.py`."""

from jaxmaskrcnn.names.config_table import Setting
from jaxmaskrcnn.names.conversions import FRACTION, number, only
from jaxmaskrcnn.ops.soft_nms import DECAYS

METHODS = DECAYS
ROWS = (
    Setting("test_cfg.rcnn.nms.method", "linear", only(*METHODS), "detections.nms_method"),
    Setting("test_cfg.rcnn.nms.sigma", 0.5, number(1e-6), "detections.nms_sigma"),
    Setting("test_cfg.rcnn.nms.min_score", 1e-3, FRACTION, "detections.nms_min_score"),
)
