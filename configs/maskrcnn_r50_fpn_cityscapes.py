"""Mask R-CNN R50-FPN on Cityscapes with the schedule of Detectron2.

    python train.py --config=configs/maskrcnn_r50_fpn_cityscapes.py \\
        --workdir=runs/maskrcnn_r50_fpn_cityscapes \\
        --config.data.train_annotations=cityscapes/train.json \\
        --config.data.train_images=cityscapes/leftImg8bit \\
        --config.data.eval_annotations=cityscapes/val.json \\
        --config.data.eval_images=cityscapes/leftImg8bit \\
        --config.model.weights=detectron2/mask_rcnn_R_50_FPN_3x

Both json files come from ``jaxmaskrcnn import cityscapes --format=cityscapes``, with ``--split=train`` and
``--split=val``. The run begins with a model of COCO, whose last layers are replaced by new ones for the eight
classes. A step is a batch of 8. AP is that of Cityscapes' own evaluation.

Not run here. Expected on the validation set, from Detectron2's MODEL_ZOO.md: mask AP 36.5. Its 0.240 s a
step on eight V100 are 1.6 hours; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The settings of ``Cityscapes/mask_rcnn_R_50_FPN``."""
    return Config(
        model=model_section("detectron2/Cityscapes/mask_rcnn_R_50_FPN"),
        data=DataConfig(
            batch_size=8,
            min_sizes=(800, 832, 864, 896, 928, 960, 992, 1024),
            max_size=2048,
            keep_empty=False,
            eval_protocol="cityscapes",
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.01,
            reference_batch_size=8,
            decay_steps=(18000,),
            warmup_steps=1000,
            warmup_factor=0.001,
        ),
        train=TrainConfig(steps=24000, eval_every=8000, checkpoint_every=5000),
    )
