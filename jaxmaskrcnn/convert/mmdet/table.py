"""The parts of an MMDetection model, in the order in which their settings are read and written."""

from jaxmaskrcnn.convert.mmdet import (
    backbone,
    cascade,
    class_loss,
    cosines,
    extractor,
    levels,
    mask_heads,
    neck,
    nms,
    parts,
    rows,
    semantic,
    shared_head,
    upsampling,
)
from jaxmaskrcnn.convert.mmdet.part import of_rows

PARTS = (
    of_rows(rows.DATA_PREPROCESSOR, "data_preprocessor"),
    neck.PART,
    backbone.PART,
    of_rows(rows.RPN),
    of_rows(rows.BOX),
    mask_heads.PART,
    upsampling.PART,
    of_rows(rows.TEST),
    nms.PART,
    semantic.PART,
    class_loss.PART,
    cosines.PART,
    parts.NORMS,
    extractor.PART,
    shared_head.PART,
    levels.PART,
    parts.BOX_HEAD,
    parts.LOSSES,
    parts.TRAINING,
    cascade.PART,
)
