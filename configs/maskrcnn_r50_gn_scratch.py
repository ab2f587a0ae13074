"""Mask R-CNN R50-FPN with group norm on COCO, from scratch, nine times the 1x schedule.

    python train.py --config=configs/maskrcnn_r50_gn_scratch.py \\
        --workdir=runs/maskrcnn_r50_gn_scratch \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017

No weights are needed: everything starts from random values, with group norm in the backbone, the
pyramid and the heads, and nothing is frozen (He, Girshick and Dollar, "Rethinking ImageNet
Pre-training", 2019). Detectron2's file has a batch of 64 and 202500 steps with a rate of 0.08; these
are the same number of images in batches of 16, and ``--config.data.batch_size=64`` with a quarter of
the steps is its own.

Not run here. Expected on val2017, from Detectron2's MODEL_ZOO.md with its batch of 64: box AP 43.7,
mask AP 39.6. It names no time for this schedule. Its 0.338 s a step on eight V100, for the same model's 3x
schedule (scratch_mask_rcnn_R_50_FPN_3x_gn), are 76.0 hours for Detectron2 itself; this code has not been
timed there.
"""

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.training.recipes import detectron2_recipe


def get_config() -> Config:
    """The settings of ``scratch_mask_rcnn_R_50_FPN_9x_gn``."""
    return detectron2_recipe("detectron2/scratch_mask_rcnn_R_50_FPN_9x_gn", 810000, (750000, 790000))
