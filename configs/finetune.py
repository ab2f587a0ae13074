"""Fine-tune on any data set in COCO's json format.

    python train.py --config=configs/finetune.py --workdir=runs/mine \\
        --config.data.train_annotations=train.json --config.data.train_images=train/ \\
        --config.data.eval_annotations=val.json --config.data.eval_images=val/ \\
        --config.model.weights=detectron2/MSRA/R-50

``--config.model.weights`` is an ImageNet backbone or a trained detector: a directory, a checkpoint of
torchvision, Detectron2, MMDetection or matterport's, or the name of one, which is fetched. Another preset
stands behind a colon: ``--config=configs/finetune.py:torchvision/maskrcnn_resnet50_fpn``. So can a model
directory or a workdir, ``--config=configs/finetune.py:runs/other``: its settings and weights are taken, and
the log says what is changed.

The schedule is for some hundred objects: 400 steps of two images with the short side between 384
and 448 pixels. The learning rate is for this batch and is not scaled.

What to expect depends on the data. The 61 balloon photographs of docs/benchmarks.md gave box AP 46.6 and
mask AP 45.8 (mean of three seeds) after 400 steps of 2.8 to 3.6 s on
two busy cores of an AMD EPYC: 0.4 hours.
"""

from pathlib import Path

from jaxmaskrcnn.config import Config, DataConfig, OptimizerConfig, TrainConfig
from jaxmaskrcnn.training.run_config import model_section


def get_config(preset: str = "detectron2/mask_rcnn_R_50_FPN_3x") -> Config:
    """Fine-tuning with the conventions of a preset.

    The default preset is what the ImageNet weights of Detectron2's model zoo (``detectron2/MSRA/R-50``) fit.
    The epsilon is that of ImageNet weights; a directory's own belongs to its weights.
    """
    if preset.startswith("matterport/"):  # images on a square of one size, and another epsilon
        model = {"input.pad_divisor": 640}
    else:
        model = {} if Path(preset).is_dir() else {"backbone.norm_epsilon": 1e-5}
    return Config(
        model=model_section(
            preset,
            **{
                "regions.batch_size": 128,
                "backbone.freeze_at": 2,
                "input.test_min_size": 448,
                "input.test_max_size": 640,
                **model,
            },
        ),
        data=DataConfig(batch_size=2, min_sizes=(384, 416, 448), max_size=640),
        optimizer=OptimizerConfig(
            learning_rate=0.005,
            reference_batch_size=0,
            decay_steps=(300,),
            warmup_steps=50,
        ),
        train=TrainConfig(steps=400, checkpoint_every=100),
    )
