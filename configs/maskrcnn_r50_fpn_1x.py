"""Mask R-CNN R50-FPN on COCO with the 1x schedule of Detectron2.

    python train.py --config=configs/maskrcnn_r50_fpn_1x.py \\
        --workdir=runs/maskrcnn_r50_fpn_1x \\
        --config.data.train_annotations=coco/annotations/instances_train2017.json \\
        --config.data.train_images=coco/train2017 \\
        --config.data.eval_annotations=coco/annotations/instances_val2017.json \\
        --config.data.eval_images=coco/val2017 \\
        --config.model.weights=R-50.pkl

``R-50.pkl`` is the ImageNet backbone of Detectron2's model zoo (MSRA). Another batch size scales the
learning rate with it, not the number of steps.

Not run here. Expected on val2017, from Detectron2's MODEL_ZOO.md: box AP 38.6, mask AP 35.2. Its 0.261
s a step on eight V100 are 6.5 hours for Detectron2 itself; this code has not been timed there.
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The settings of ``mask_rcnn_R_50_FPN_1x``."""
    return Config(
        model=model_section("detectron2/mask_rcnn_R_50_FPN_1x"),
        data=DataConfig(
            batch_size=16,
            min_sizes=(640, 672, 704, 736, 768, 800),
            max_size=1333,
            keep_empty=False,
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.02,
            reference_batch_size=16,
            schedule="step",
            decay_steps=(60000, 80000),
            warmup_steps=1000,
            warmup_factor=0.001,
        ),
        train=TrainConfig(steps=90000, checkpoint_every=5000),
    )
