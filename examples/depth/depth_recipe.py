"""A detector with a backbone and a box head of your own that also estimates how far each object is.

    python examples/depth/depth_data.py data
    jaxmaskrcnn train --config=examples/depth/depth_recipe.py:data --workdir=runs/depth

The function `build_model` makes the detector, in training and wherever its checkpoints are read; parts that
have a class of settings are made by their settings alone.
"""

from pathlib import Path

from depth_parts import DepthConfig, SeparateBoxHead, SmallConvNeXtConfig

from jaxmaskrcnn.config import Config, DataConfig, ExtraConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.models import MaskRCNN
from jaxmaskrcnn.training.run_config import model_section


def get_config(folder: str = "data") -> Config:
    """The run's settings.

    Args:
        folder: Where `depth_data.py` has written the images.
    """
    changes = {
        "backbone": SmallConvNeXtConfig(),
        "heads": (DepthConfig(),),
        "extra": (ExtraConfig(name="depth"),),  # a number of each object: its key in the json
        "box.fc_dim": 128,
        "box.class_loss.form": "focal",  # of the softmax, as `losses/focal.py` has it
    }
    data = Path(folder)
    return Config(
        model=model_section("jaxmaskrcnn/shapes", **changes),
        data=DataConfig(
            train_annotations=str(data / "train.json"),
            train_images=str(data / "train"),
            eval_annotations=str(data / "eval.json"),
            eval_images=str(data / "eval"),
            batch_size=8,
            eval_batch_size=8,
            min_sizes=(128,),
            max_size=128,
            transform="depth_transform:hide_one",
        ),
        optimizer=OptimizerConfig(
            method="adamw",
            learning_rate=1e-3,
            reference_batch_size=0,
            weight_decay=0.05,
            layer_decay=0.9,
            clip_norm=1.0,
            schedule="cosine",
            warmup_steps=50,
        ),
        train=TrainConfig(steps=600, checkpoint_every=100),
    )


def build_model(config, *, rngs):
    """The detector of a configuration: a `MaskRCNN` with another box head."""
    model = MaskRCNN(config, rngs=rngs)
    side, channels = config.region_side(config.box.pool), config.region_channels
    model.box_head = SeparateBoxHead(
        config.box, channels, side, config.classes, dtype=config.compute.dtype, rngs=rngs
    )
    return model
