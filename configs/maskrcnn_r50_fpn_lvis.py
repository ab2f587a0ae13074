"""Mask R-CNN R50-FPN on LVIS v1 with the 1x schedule of Detectron2.

    python train.py --config=configs/maskrcnn_r50_fpn_lvis.py \\
        --workdir=runs/maskrcnn_r50_fpn_lvis \\
        --config.data.train_annotations=lvis/lvis_v1_train.json \\
        --config.data.train_images=coco \\
        --config.data.eval_annotations=lvis/lvis_v1_val.json \\
        --config.data.eval_images=coco \\
        --config.model.weights=detectron2/MSRA/R-50

The folder ``coco`` holds train2017 and val2017, as LVIS takes its validation images from both. Images of rare
classes are repeated, and AP is measured as LVIS does. For a federated loss add
``--config.model.box.scores=sigmoid --config.model.box.federated=true``.

Not run here. Detectron2 publishes no AP of this recipe; of half as many steps on LVIS v0.5 its MODEL_ZOO.md
has box AP 23.6, mask AP 24.4. Its 0.292 s a step on eight V100 are 14.6 hours; this code has not been timed
there.
"""

from jaxmaskrcnn.config import Config
from jaxmaskrcnn.training.recipes import detectron2_recipe


def get_config() -> Config:
    """The settings of ``LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x``."""
    name = "detectron2/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
    config = detectron2_recipe(name, 180000, (120000, 160000))
    config.data.repeat_threshold = 0.001
    config.data.eval_protocol = "lvis"
    return config
