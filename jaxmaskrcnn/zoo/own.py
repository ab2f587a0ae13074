"""This project's own models, without published weights."""

from jaxmaskrcnn.zoo.conventions import DETECTRON2, DETECTRON2_PANOPTIC
from jaxmaskrcnn.zoo.entry import Preset

# Small enough to learn generated pictures from scratch on a CPU within minutes.
_SMALL = {
    "num_classes": 3,
    "categories": (),
    "input.channel_order": "rgb",
    # Weights that start at random need inputs of about unit variance.
    "input.pixel_mean": (123.675, 116.28, 103.53),
    "input.pixel_std": (58.395, 57.12, 57.375),
    "input.test_min_size": 128,
    "input.test_max_size": 128,
    "backbone.depth": 18,
    "backbone.width": 32,
    "backbone.stride_in_1x1": False,
    "backbone.norm": "bn",
    "backbone.freeze_at": 0,
    "neck.channels": 64,
    "neck.norm": "bn",
    "rpn.anchors.sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
    "rpn.pre_nms_train": 100,
    "rpn.pre_nms_test": 100,
    "rpn.post_nms_train": 100,
    "rpn.post_nms_test": 100,
    "rpn.batch_size": 128,
    # Few regions, half of them objects, because the classes take longest to learn.
    "regions.batch_size": 32,
    "regions.positive_fraction": 0.5,
    "box.pool.sampling_ratio": 2,
    "mask.pool.sampling_ratio": 2,
    "box.fc_dim": 512,
    "mask.convs": 2,
    "mask.dim": 32,
    "detections.per_image": 50,
}
# The names of keypoints come from the annotations.
_FIGURES = {
    **_SMALL,
    "num_classes": 1,
    "keypoints": "heatmap",
    **{
        f"keypoints.pool.{name}": DETECTRON2[f"mask.pool.{name}"]
        for name in ("aligned", "level_rule", "scale")
    },
    "keypoints.pool.sampling_ratio": 2,
    "keypoints.convs": 3,
    "keypoints.dim": 64,
    "keypoints.score": "softmax",
    "regions.batch_size": 16,  # the keypoints of each take most of a step
}

# The names of stuff come from the annotations too.
_LANDSCAPES = {
    **_SMALL,
    **DETECTRON2_PANOPTIC,
    "semantic.dim": 32,
    "semantic.stuff": ("water", "field", "stones"),
    "semantic.stuff_area": 64,
}

PRESETS = {
    "jaxmaskrcnn/shapes": Preset(DETECTRON2, _SMALL),
    "jaxmaskrcnn/figures": Preset(DETECTRON2, _FIGURES),
    "jaxmaskrcnn/landscapes": Preset(DETECTRON2, _LANDSCAPES),
}
