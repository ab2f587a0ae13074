"""The settings of a training run: nested, mutable dataclasses that ``--config.field.sub=value`` changes.

The model of a run is a `ModelSection`: a frozen `ModelConfig`, and the source of its initial weights.
"""

# No `from __future__ import annotations` here: the command line reads the field types.

import dataclasses

from jaxmaskrcnn.config.model import ModelConfig


@dataclasses.dataclass(kw_only=True)
class ShapesConfig:
    """The generated data set of ``data/shapes.py``."""

    train_images: int = 1000
    eval_images: int = 200
    size: int = 128  # height and width in pixels
    seed: int = 0


@dataclasses.dataclass(kw_only=True)
class DataConfig:
    """Where the images are and how they become batches."""

    source: str = "coco"  # coco (the four paths below) | shapes (generated into the workdir)
    train_annotations: str = ""  # COCO-format json
    train_images: str = ""  # its image folder
    eval_annotations: str = ""
    eval_images: str = ""
    cache_dir: str = ""  # prepared records; "" is <workdir>/data
    on_error: str = "stop"  # stop | skip: invalid annotations are logged, counted and left out
    crowd: str = "ignore"  # ignore | objects | drop: what annotations with "iscrowd": 1 are
    class_name: str = ""  # the only class, which all objects get; "": the json's categories
    keep_empty: bool = True  # train on images without objects
    intensity: str = ""  # dtype | percentile | range: which values of 16 bits or floats become 0 and 255;
    # "" takes model.input.pixels.intensity, into which it is written
    intensity_range: tuple[float, ...] = ()  # for "range", e.g. 0,4095
    page: int = -1  # of files with several pages, from 0; -1: model.input.pixels.page

    batch_size: int = 2  # images per step over all devices
    eval_batch_size: int = 1
    min_sizes: tuple[int, ...] = (800,)  # short sides sampled in training; 0: the test size
    max_size: int = 1333  # limit of the long side in training
    flip: float = 0.5  # probability of a horizontal flip
    canvases: tuple[int, ...] = ()  # h0, w0, h1, w1, ...; () derives them from the images
    max_canvases: int = 3
    max_objects: int = 0  # ground-truth slots per image; 0: the largest number in the data
    threads: int = 2  # worker threads that decode and transform
    processes: int = 0  # worker processes instead of threads, if these are too slow
    prefetch: int = 2  # batches prepared in advance on the host
    repeat_threshold: float = 0.0  # images of classes with a smaller share of images are repeated; 0: off

    shapes: ShapesConfig = dataclasses.field(default_factory=ShapesConfig)

    jitter_size: int = 0  # side of the square canvas of large-scale jitter in pixels; 0: off
    jitter_scale: tuple[float, ...] = (1.0, 1.0)  # its smallest and largest scale, e.g. 0.1,2.0
    crop: float = 1.0  # smallest share of height and width that a random crop keeps; 1: off
    rotate: float = 0.0  # largest angle in degrees, in both directions; 0: off
    photometric: float = 0.0  # probability of each colour distortion; 0: off
    copy_paste: float = 0.0  # probability that objects of another image are pasted; 0: off

    exact_decode: bool = (
        True  # False: large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size in training
    )
    device_resize: bool = False  # training images are resized on the device; values differ by about 1


@dataclasses.dataclass(kw_only=True)
class OptimizerConfig:
    """SGD with momentum, its schedule and its parameter groups."""

    learning_rate: float = 0.02  # for a global batch of `reference_batch_size`
    reference_batch_size: int = 16  # the rate is scaled by batch_size / reference; 0: not scaled
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    clip_norm: float = 0.0  # global gradient norm; 0: no clipping
    schedule: str = "step"  # step | cosine | constant
    decay_steps: tuple[int, ...] = (60000, 80000)  # schedule "step": steps at which the rate decays
    decay_factor: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    freeze: tuple[str, ...] = ()  # glob patterns of parameter paths, e.g. "backbone.*"
    groups: tuple[str, ...] = ()  # PATTERN:FACTOR of the rate, or PATTERN:FACTOR:DECAY; first match wins
    ema_decay: float = 0.0  # moving average of the parameters, for evaluation and saving; 0: none


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """Length, logging, checkpoints and devices of the run."""

    steps: int = 90000
    seed: int = 0
    log_every: int = 20
    eval_every: int = 0  # 0: only at the end
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    tensorboard: bool = False  # needs the [tensorboard] extra
    pictures: int = 8  # evaluation images drawn with their predictions at the end
    on_nonfinite: str = "stop"  # stop | skip (the step) | rollback (to the latest checkpoint)
    skip_limit: int = 10  # consecutive skipped steps before the run stops
    rollback_limit: int = 3  # rollbacks before the run stops
    patience: int = 0  # evaluations without a better mask AP before the run ends; 0: never
    eval_loss: bool = False  # the losses over the evaluation data, at every evaluation
    parallel: str = "auto"  # auto (jit on one device, else shard_map) | jit | pmap | shard_map
    device_batch: int = 0  # images that a device computes at a time; 0: its whole share of the batch


@dataclasses.dataclass(kw_only=True)
class ModelSection:
    """The model of a run, and its initial weights.

    On a command line, settings of the architecture follow "model.": ``--config.model.rpn.nms_threshold=0.8``.

    Attributes:
        architecture: A preset's configuration, with changes. ``num_classes`` replaces its number of classes.
        weights: A checkpoint or an ImageNet backbone; empty for random weights.
        num_classes: Number of classes; 0 takes the number of categories in the training annotations.
    """

    architecture: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    weights: str = ""
    num_classes: int = 0


@dataclasses.dataclass(kw_only=True)
class Config:
    """A training run, as returned by ``get_config()`` of ``configs/*.py``."""

    model: ModelSection = dataclasses.field(default_factory=ModelSection)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
