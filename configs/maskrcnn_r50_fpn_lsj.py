"""Mask R-CNN R50-FPN on COCO, 100 epochs from scratch with large-scale jitter.

    python train.py --config=configs/maskrcnn_r50_fpn_lsj.py \\
        --workdir=runs/maskrcnn_r50_fpn_lsj \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017

No weights are needed: everything starts from random values and is trained, with batch norm over all
devices in the backbone, the pyramid and the heads, two convolutions in the region proposal network, and
four convolutions and one layer in the box head. Every picture is scaled by 0.1 to 2 and cut to 1024 x
1024 (Ghiasi et al., "Simple Copy-Paste", 2021). A step is a batch of 64, and another batch size scales the
learning rate with it. ``--config.train.device_batch`` would give batch norm the statistics of a part.
Detectron2 computes in half precision; ``--config.model.compute.dtype=bfloat16`` is the nearest to it here.

Not run here. Expected on val2017, from Detectron2's MODEL_ZOO.md: box AP 44.6, mask AP 40.3. It names
no hardware for these models. Its 0.345 s a step of 16 images on eight V100, for mask_rcnn_R_50_FPN_3x_syncbn,
are 70.7 hours for as many images; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The settings of ``mask_rcnn_R_50_FPN_100ep_LSJ``."""
    return Config(
        model=model_section("detectron2/mask_rcnn_R_50_FPN_100ep_LSJ"),
        data=DataConfig(
            batch_size=64,
            jitter_size=1024,
            jitter_scale=(0.1, 2.0),
            keep_empty=False,
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.1,
            reference_batch_size=64,
            weight_decay=4e-5,
            schedule="step",
            decay_steps=(163889, 177546),
            warmup_steps=500,
            warmup_factor=0.067,
        ),
        train=TrainConfig(steps=184375, checkpoint_every=5000),
    )
