"""Quickstart: a small Mask R-CNN on generated circles, squares and triangles.

    python train.py

Runs on a CPU with nothing downloaded. Expected on its 200 held-out images: box AP 65.3, mask AP 68.1
(another seed 63.3 and 66.1) after 7 minutes (0.12 hours) on two slow cores of an AMD EPYC, start and
compilation included (docs/benchmarks.md).
"""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, ShapesConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """The default of train.py."""
    return Config(
        model=model_section("jaxmaskrcnn/shapes"),
        data=DataConfig(
            source="shapes",
            shapes=ShapesConfig(train_images=1000, eval_images=200, size=128),
            batch_size=8,
            eval_batch_size=8,
            min_sizes=(128,),
            max_size=128,
        ),
        optimizer=OptimizerConfig(
            method="adamw",  # learns in 600 steps what SGD learned in 1100
            learning_rate=0.004,
            reference_batch_size=0,
            weight_decay=0.05,
            clip_norm=5.0,
            schedule="cosine",
            warmup_steps=50,
            warmup_factor=0.01,
        ),
        train=TrainConfig(steps=600, log_every=20, checkpoint_every=200),
    )
