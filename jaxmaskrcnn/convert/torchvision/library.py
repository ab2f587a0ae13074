"""torchvision as a source library."""

from jaxmaskrcnn.convert.extras import RATIOS_FIRST
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.torchvision.settings import call_of_config, config_from_call
from jaxmaskrcnn.convert.torchvision.stored_settings import stored_settings
from jaxmaskrcnn.zoo.conventions import TORCHVISION

LIBRARY = Library(
    name="torchvision",
    title="torchvision",
    convention=TORCHVISION,
    signature="rpn.head.cls_logits.weight",
    ignorable=(r".*\.num_batches_tracked",),
    frozen_counters=False,
    input_names=(),
    config_file=None,
    config_suffixes=(),
    stored_settings=stored_settings,
    read_settings=config_from_call,
    write_settings=call_of_config,
    has=(RATIOS_FIRST,),
    impossible=(
        (
            lambda c: c.mask is not None and c.keypoints is not None,
            "it has a mask head and a keypoint head",
        ),
        (
            lambda c: c.backbone.stride_in_1x1 and c.backbone.depth >= 50,
            "its bottlenecks have their stride in the 1x1 convolution",
        ),
        (
            lambda c: not c.box.convs and c.box.fcs != 2,
            "its box head does not have two fully connected layers",
        ),
    ),
    limits=(),
)
