"""Random weights on photographs or pictures of a microscope, with no file of weights at hand."""

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config() -> Config:
    """A narrow ResNet-18 with a pyramid, group norm in both."""
    return Config(
        model=model_section(
            "jaxmaskrcnn/shapes",
            **{
                "backbone.norm": "gn",
                "neck.norm": "gn",
                "input.test_min_size": 256,
                "input.test_max_size": 256,
                "rpn.pre_nms_train": 300,
                "rpn.pre_nms_test": 300,
                "rpn.post_nms_train": 300,
                "rpn.post_nms_test": 300,
                "rpn.batch_size": 256,
                "regions.batch_size": 64,
                "detections.per_image": 100,
            },
        ),
        data=DataConfig(batch_size=4, eval_batch_size=4, min_sizes=(256,), max_size=256, max_canvases=1),
        optimizer=OptimizerConfig(
            method="adamw",
            learning_rate=0.001,
            weight_decay=0.05,
            reference_batch_size=0,
            clip_norm=5.0,
            schedule="cosine",
            warmup_steps=50,
            warmup_factor=0.01,
        ),
        train=TrainConfig(steps=400, log_every=10, checkpoint_every=50),
    )
