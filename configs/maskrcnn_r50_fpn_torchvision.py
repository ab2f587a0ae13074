"""Mask R-CNN R50-FPN on COCO with the 26 epochs of torchvision's reference script.

    python train.py --config=configs/maskrcnn_r50_fpn_torchvision.py \\
        --workdir=runs/maskrcnn_r50_fpn_torchvision \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017 \\
        --config.model.weights=torchvision/resnet50

The weights are torchvision's ImageNet backbone (IMAGENET1K_V1). An epoch of the 117266
training images with objects is 7330 steps here: 26 epochs, and a tenth of the rate after 16 and 22.

Not run here. Expected on val2017, from torchvision's page of ``maskrcnn_resnet50_fpn``: box AP 37.9,
mask AP 34.6. The 0.2728 s a step on eight V100 (pytorch/vision, pull 937) are 14.4 hours for
torchvision itself; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The settings of ``maskrcnn_resnet50_fpn``."""
    return Config(
        model=model_section("torchvision/maskrcnn_resnet50_fpn", **{"backbone.norm_epsilon": 1e-5}),
        data=DataConfig(
            batch_size=16,
            min_sizes=(800,),
            max_size=1333,
            keep_empty=False,
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.02,
            reference_batch_size=16,
            schedule="step",
            decay_steps=(117280, 161260),
            warmup_steps=1000,
            warmup_factor=0.001,
        ),
        train=TrainConfig(steps=190580, checkpoint_every=5000),
    )
