"""This project's own models, without published weights."""

from jaxmaskrcnn.conventions import DETECTRON2
from jaxmaskrcnn.zoo.entry import Preset

PRESETS = {
    # Small enough to learn the generated shapes from scratch on a CPU within minutes.
    "jaxmaskrcnn/shapes": Preset(
        DETECTRON2,
        {
            "num_classes": 3,
            "categories": (),
            "channel_order": "rgb",
            # Weights that start at random need inputs of about unit variance.
            "pixel_mean": (123.675, 116.28, 103.53),
            "pixel_std": (58.395, 57.12, 57.375),
            "test_min_size": 128,
            "test_max_size": 128,
            "backbone_depth": 18,
            "backbone_width": 32,
            "backbone_stride_in_1x1": False,
            "backbone_norm": "bn",
            "freeze_at": 0,
            "fpn_channels": 64,
            "fpn_norm": "bn",
            "anchor_sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
            "rpn_pre_nms_train": 100,
            "rpn_pre_nms_test": 100,
            "rpn_post_nms_train": 100,
            "rpn_post_nms_test": 100,
            "rpn_batch_size": 128,
            # Few regions, half of them objects: classes are what takes longest to learn here.
            "roi_batch_size": 32,
            "roi_positive_fraction": 0.5,
            "roi_sampling_ratio": 2,
            "box_fc_dim": 512,
            "mask_convs": 2,
            "mask_dim": 32,
            "detections_per_image": 50,
        },
    ),
}
