"""Mask R-CNN on a plain ViT-B (ViTDet) on COCO, 100 epochs with large-scale jitter, from MAE's weights.

    python train.py --config=configs/maskrcnn_vitdet_b.py \\
        --workdir=runs/maskrcnn_vitdet_b \\
        --config.model.weights=detectron2/MAE/mae_pretrain_vit_base \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017

Every picture is scaled by 0.1 to 2 and cut to 1024 x 1024. AdamW's learning rate becomes smaller by 0.7 from
each block to the one before it, norm layers and positions have no weight decay, and blocks are left out at
random, the last one of every tenth image (Li et al., "Exploring Plain Vision Transformer Backbones for Object
Detection", 2022). A step is a batch of 64. ``--config.model.compute.remat=True`` saves memory, and
``--config.model.compute.dtype=bfloat16`` is the nearest to Detectron2's half precision.

Not run here. Expected on val2017, from Detectron2's projects/ViTDet/README.md: box AP 51.6, mask AP 45.9. Its
0.314 s an image on each of 64 A100, one image a step, are 16.1 hours; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The settings of ``projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py``."""
    return Config(
        model=model_section("detectron2/ViTDet/mask_rcnn_vitdet_b_100ep"),
        data=DataConfig(
            batch_size=64,
            jitter_size=1024,
            jitter_scale=(0.1, 2.0),
            keep_empty=False,
        ),
        optimizer=OptimizerConfig(
            method="adamw",
            learning_rate=1e-4,
            reference_batch_size=64,
            weight_decay=0.1,
            groups=("backbone.body.pos_embed:1:0",),
            layer_decay=0.7,
            schedule="step",
            decay_steps=(163889, 177546),
            warmup_steps=250,
            warmup_factor=0.001,
        ),
        train=TrainConfig(steps=184375, checkpoint_every=5000),
    )
