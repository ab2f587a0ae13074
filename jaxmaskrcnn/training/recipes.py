"""The settings that Detectron2's COCO recipes share; each file in ``configs/`` is one of the recipes."""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def detectron2_recipe(preset: str, steps: int, decay_steps: tuple[int, ...]) -> Config:
    """Detectron2's settings for COCO: ``Base-RCNN-FPN.yaml`` with multi-scale training.

    Args:
        preset: One of ``jaxmaskrcnn.list_models()``.
        steps: Length of the run in batches of 16.
        decay_steps: Steps at which the learning rate is divided by ten.

    Example:
        >>> config = detectron2_recipe("detectron2/mask_rcnn_R_50_FPN_1x", 90000, (60000, 80000))
        >>> config.optimizer.learning_rate, config.train.steps
        (0.02, 90000)
    """
    return Config(
        model=model_section(preset),
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
            decay_steps=decay_steps,
            warmup_steps=1000,
            warmup_factor=0.001,
        ),
        train=TrainConfig(steps=steps, checkpoint_every=5000),
    )
