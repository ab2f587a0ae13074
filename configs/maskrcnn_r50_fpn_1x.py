"""Mask R-CNN R50-FPN on COCO with the 1x schedule of Detectron2.

    python train.py --config=configs/maskrcnn_r50_fpn_1x.py \\
        --workdir=runs/maskrcnn_r50_fpn_1x \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017 \\
        --config.model.weights=detectron2/MSRA/R-50

The weights are the ImageNet backbone of Detectron2's model zoo (``R-50.pkl`` from MSRA). Another batch
size scales the learning rate with it, not the number of steps.

Not run here. Expected on val2017, from Detectron2's MODEL_ZOO.md: box AP 38.6, mask AP 35.2. Its 0.261
s a step on eight V100 are 6.5 hours for Detectron2 itself; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.training.recipes import detectron2_recipe


def get_config() -> Config:
    """The settings of ``mask_rcnn_R_50_FPN_1x``."""
    return detectron2_recipe("detectron2/mask_rcnn_R_50_FPN_1x", 90000, (60000, 80000))
