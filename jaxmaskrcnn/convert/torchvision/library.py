"""torchvision as a source library."""

from jaxmaskrcnn.conventions import TORCHVISION
from jaxmaskrcnn.convert.fields import get_field
from jaxmaskrcnn.convert.library import RPN_NORM, Library
from jaxmaskrcnn.convert.torchvision.names import table
from jaxmaskrcnn.convert.torchvision.settings import call_of_config, config_from_call

LIBRARY = Library(
    name="torchvision",
    title="torchvision",
    convention=TORCHVISION,
    table=table,
    signature="rpn.head.cls_logits.weight",
    backbone="backbone.body.",
    box_conv=r"roi_heads\.box_head\.\d+\.0\.weight",
    frozen_counters=False,
    input_names=(),
    config_file=None,
    config_suffixes=(),
    read_settings=config_from_call,
    write_settings=call_of_config,
    impossible=(
        RPN_NORM,
        (
            lambda c: get_field(c, "class_agnostic_boxes") or get_field(c, "class_agnostic_masks"),
            "its heads are class-agnostic",
        ),
        (
            lambda c: get_field(c, "backbone_stride_in_1x1") and get_field(c, "backbone_depth") >= 50,
            "its bottlenecks have their stride in the 1x1 convolution",
        ),
        (
            lambda c: not get_field(c, "box_convs") and get_field(c, "box_fcs") != 2,
            "its box head has not two fully connected layers",
        ),
    ),
    limits=(),
)
