"""matterport's Mask R-CNN as a source library."""

from jaxmaskrcnn.config.backbones import GROUP_NORMS
from jaxmaskrcnn.convert.library import (
    AVERAGE,
    DEFORMABLE,
    KEYPOINTS,
    MMDET_LAYERS,
    OTHER_BACKBONE,
    OTHER_MASK,
    OTHER_NECK,
    SEESAW,
    SEMANTIC,
    STAGES,
    TRUNK,
    Library,
)  # fmt: skip
from jaxmaskrcnn.convert.matterport.settings import class_of_config, config_from_class_text
from jaxmaskrcnn.zoo.conventions import MATTERPORT

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
    impossible=(
        STAGES,
        SEESAW,
        OTHER_BACKBONE,
        *MMDET_LAYERS,
        DEFORMABLE,
        OTHER_NECK,
        TRUNK,
        AVERAGE,
        KEYPOINTS,
        OTHER_MASK,
        SEMANTIC,
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
