"""matterport's Mask R-CNN as a source library."""

from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.convert.extras import RATIOS_FIRST, SIZES_FIRST, Extra, has_fcn
from jaxmaskrcnn.convert.library import Library
from jaxmaskrcnn.convert.matterport.settings import class_of_config, config_from_class_text
from jaxmaskrcnn.zoo.conventions import MATTERPORT

# Layers that only its models have.
KERAS_LAYERS = (
    Extra(
        lambda c: (
            getattr(c.backbone, "conv_bias", False)
            or (has_fcn(c) and c.mask.conv_bias and c.mask.norm != "none" and c.mask.convs > 0)
        ),
        "its convolutions have a bias although a norm follows",
    ),
    Extra(
        lambda c: c.rpn.objectness == "softmax" or c.rpn.conv_dim not in (0, c.levels[0].channels),
        "its region proposal network has two logits for each anchor, or convolutions of another width than "
        "the levels",
    ),
    Extra(lambda c: c.box.fc_norm != "none", "its fully connected layers have norm layers"),
    Extra(
        lambda c: "bn_eval" in (c.box.norm if c.box.convs else "", c.mask.norm if has_fcn(c) else ""),
        "its heads have batch norm with fixed statistics",
    ),
)

LIBRARY = Library(
    name="matterport",
    title="matterport's Mask R-CNN",
    convention=MATTERPORT,
    signature="rpn_class_raw/kernel",
    ignorable=(),
    frozen_counters=False,
    input_names=(),
    config_file=None,
    config_suffixes=(),
    read_settings=config_from_class_text,
    write_settings=class_of_config,
    has=(*KERAS_LAYERS, RATIOS_FIRST, SIZES_FIRST),
    impossible=(
        (
            lambda c: (
                c.backbone.depth not in (50, 101)
                or (c.backbone.width, c.backbone.groups, c.backbone.width_per_group) != (64, 1, 64)
            ),
            "its backbone is not an ordinary ResNet-50 or ResNet-101",
        ),
        (
            lambda c: (
                c.backbone.norm in GROUP_NORMS or not c.backbone.conv_bias or not c.backbone.stride_in_1x1
            ),
            "its backbone is not Keras', with batch norm, biases of all convolutions and strides in the 1x1 "
            "ones",
        ),
        (lambda c: c.neck.norm != "none", "its feature pyramid has norm layers"),
        (
            lambda c: (
                c.rpn.convs != 1
                or c.rpn.norm != "none"
                or c.rpn.conv_dim != 512
                or c.rpn.objectness != "softmax"
            ),
            "its region proposal network is not one convolution with 512 channels and two logits for each "
            "anchor",
        ),
        (
            lambda c: (
                any(len(sizes) != 1 for sizes, _ in c.rpn.anchors.per_level)
                or len({ratios for _, ratios in c.rpn.anchors.per_level}) > 1
            ),
            "its levels have several sizes of anchors, or ratios of their own",
        ),
        (
            lambda c: c.box.convs or c.box.fcs != 2 or c.box.fc_norm == "none" or c.box.class_agnostic,
            "its box head is not two fully connected layers with batch norm and a box for each class",
        ),
        (
            lambda c: (
                c.mask is None
                or (c.mask.convs, c.mask.dim, c.mask.conv_bias, c.mask.class_agnostic)
                != (4, 256, True, False)
                or c.mask.norm not in ("bn", "bn_eval")
            ),
            "its mask head is not four convolutions with 256 channels, biases and batch norm",
        ),
    ),
    limits=(),
)
