"""The settings of a training run: nested, mutable dataclasses that ``--config.field.sub=value`` changes.

The model of a run is a `ModelSection`: a frozen `ModelConfig`, and the source of its initial weights.
"""

# No `from __future__ import annotations` here: the command line reads the field types.

import dataclasses
from typing import Annotated, ClassVar, Literal

from jaxmaskrcnn.config.model import ModelConfig
from jaxmaskrcnn.config.optimizer import OptimizerConfig
from jaxmaskrcnn.config.section import Section
from jaxmaskrcnn.config.values import (
    ConfigError,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Range,
    Rule,
    Whole,
    ascending,
)


@dataclasses.dataclass(kw_only=True)
class ShapesConfig(Section):
    """The generated data set of ``data/shapes.py``, ``data/figures.py`` or ``data/landscapes.py``."""

    place: ClassVar[str] = "data.shapes."
    train_images: Count = 1000
    eval_images: Count = 200
    size: Annotated[int, Range(32, 4096)] = 128  # height and width in pixels
    seed: Whole = 0


@dataclasses.dataclass(kw_only=True)
class DataConfig(Section):
    """Where the images are and how they become batches."""

    place: ClassVar[str] = "data."
    # the four paths below | generated into the workdir: shapes, figures with keypoints, or landscapes with
    # shapes for panoptic models
    source: Literal["coco", "shapes", "figures", "landscapes"] = "coco"
    train_annotations: str = ""  # COCO-format json, for a panoptic model COCO's panoptic json
    train_images: str = ""  # its image folder
    eval_annotations: str = ""
    eval_images: str = ""
    # where the json has objects alone: a COCO json of their stuff, or a folder of pictures whose values are
    # labels, 0 for things, 255 for none and the others in the order of model.semantic.stuff
    train_stuff: str = ""
    eval_stuff: str = ""
    # How detections are scored; auto: LVIS' protocol for a json of LVIS, COCO's for any other
    eval_protocol: Literal["auto", "coco", "lvis", "cityscapes"] = "auto"
    # share of the training images that are held out and evaluated, in place of eval_annotations
    eval_fraction: Annotated[float, Range(0, 1, less=True)] = 0.0
    more_annotations: tuple[str, ...] = ()  # further jsons for training, with the same categories
    more_images: tuple[str, ...] = ()  # the image folder of each
    # how often the images of each json come in an epoch, the first one's first; (): once
    weights: tuple[Positive, ...] = ()
    cache_dir: str = ""  # prepared records; "" is <workdir>/data
    on_error: Literal["stop", "skip"] = "stop"  # skip: invalid annotations are logged, counted and left out
    crowd: Literal["ignore", "objects", "drop"] = "ignore"  # what annotations with "iscrowd": 1 are
    class_name: str = ""  # the only class, which all objects get; "": the json's categories
    allow_outside: bool = False  # follow file names that lead out of the image folder (../, absolute paths)
    keep_empty: bool = True  # train on images without objects
    # Which values of 16 bits or floats become 0 and 255; "" takes model.input.pixels.intensity, into which it
    # is written.
    intensity: Literal["", "dtype", "percentile", "range"] = ""
    intensity_range: Annotated[
        tuple[float, ...],
        Rule(
            lambda x: not x or (len(x) == 2 and ascending(x)),
            "two ascending numbers separated by a comma, or none",
        ),
    ] = ()  # for "range", e.g. 0,4095
    page: Annotated[int, Range(-1)] = -1  # of files with several pages, from 0; -1: model.input.pixels.page

    batch_size: Whole = 2  # images per step over all devices; 0: as many as fit their memory
    eval_batch_size: Count = 1
    # short sides sampled in training; 0: the test size
    min_sizes: Annotated[
        tuple[Whole, ...], Rule(bool, "one or more whole numbers of at least 0 separated by commas")
    ] = (800,)
    max_size: Whole = 1333  # limit of the long side in training; 0: the test size's
    flip: Fraction = 0.5  # probability of a horizontal flip
    # h0, w0, h1, w1, ...; () derives them from the images
    canvases: Annotated[
        tuple[Count, ...],
        Rule(
            lambda x: len(x) % 2 == 0,
            "heights and widths in turn, h0,w0,h1,w1,..., each a multiple of the model's input.pad_divisor",
        ),
    ] = ()
    max_canvases: Count = 3
    max_objects: Whole = 0  # ground-truth slots per image; 0: the largest number in the data
    threads: Whole = 2  # worker threads that decode and transform
    processes: Whole = 0  # worker processes instead of threads, if these are too slow
    prefetch: Whole = 2  # batches prepared in advance on the host
    repeat_threshold: Fraction = 0.0  # images of classes with a smaller share of images are repeated; 0: off
    # stochastic: so often on average (Detectron2) | ceil: rounded up, in every epoch (MMDetection)
    repeat_rule: Literal["stochastic", "ceil"] = "stochastic"

    shapes: ShapesConfig = dataclasses.field(default_factory=ShapesConfig)

    jitter_size: Whole = 0  # side of the square canvas of large-scale jitter in pixels; 0: off
    # its smallest and largest scale, e.g. 0.1,2.0
    jitter_scale: Annotated[
        tuple[Positive, Positive],
        Rule(
            lambda x: x[0] <= x[1], "the smallest and the largest scale, both above 0, separated by a comma"
        ),
    ] = (1.0, 1.0)
    # smallest share of height and width that a random crop keeps; 1: off
    crop: Annotated[float, Range(0, 1, more=True)] = 1.0
    rotate: Annotated[float, Range(0, 180)] = 0.0  # largest angle in degrees, in both directions; 0: off
    photometric: Fraction = 0.0  # probability of each colour distortion; 0: off
    flip_vertical: Fraction = 0.0  # probability of a vertical flip
    quarter_turns: Fraction = 0.0  # probability of a turn by 90, 180 or 270 degrees
    # These five treat all channels alike, for grey pictures too; each is drawn up to its limit, 0: off
    gain: Fraction = 0.0  # values are multiplied by 1 - gain to 1 + gain
    offset: Annotated[float, Range(0, 255)] = 0.0  # in grey levels
    gamma: NotNegative = 0.0  # exponent of the values, from 1 / (1 + gamma) to 1 + gamma
    blur: Annotated[float, Range(0, 100)] = 0.0  # standard deviation of a Gaussian blur in pixels
    noise: Annotated[float, Range(0, 255)] = 0.0  # standard deviation of normal noise in grey levels
    # a function of one's own that transforms an image and its objects, MODULE:FUNCTION or FILE.py:FUNCTION
    transform: str = ""
    mosaic: Fraction = 0.0  # probability that three other images are put beside an image; 0: off
    copy_paste: Fraction = 0.0  # probability that objects of another image are pasted; 0: off

    exact_decode: bool = (
        True  # False: large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size in training
    )
    device_resize: bool = False  # training images are resized on the device; values differ by about 1

    @property
    def augments(self) -> bool:
        """Whether any augmentation beside horizontal flips is on."""
        return any(
            (
                self.cuts_objects, self.photometric, self.flip_vertical, self.quarter_turns, self.gain,
                self.offset, self.gamma, self.blur, self.noise, self.transform,
            )
        )  # fmt: skip

    @property
    def cuts_objects(self) -> bool:
        """Whether objects can lose parts, which their polygons cannot express."""
        return any((self.jitter_size, self.crop != 1, self.rotate, self.mosaic, self.copy_paste))

    def check(self) -> None:
        """Check the settings that depend on each other.

        Raises:
            ConfigError: Two of them do not go together.
        """
        if self.jitter_scale != (1.0, 1.0) and not self.jitter_size:
            raise ConfigError(
                f"data.jitter_scale is {self.jitter_scale} but data.jitter_size is 0; set the canvas size "
                "too."
            )
        if self.eval_fraction and (self.eval_annotations or self.eval_images or self.train_stuff):
            raise ConfigError(
                "data.eval_fraction holds images out of data.train_annotations, which goes with none of "
                "data.eval_annotations, data.eval_images and data.train_stuff; leave one of them out."
            )
        if self.more_annotations and self.train_stuff:
            raise ConfigError(
                "data.train_stuff is of one json, but data.more_annotations has others; leave one out."
            )
        if len(self.more_annotations) != len(self.more_images):
            raise ConfigError(
                f"data.more_annotations has {len(self.more_annotations)} paths and data.more_images "
                f"{len(self.more_images)}; give an image folder for each json."
            )
        if self.weights and len(self.weights) != 1 + len(self.more_annotations):
            raise ConfigError(
                f"data.weights has {len(self.weights)} numbers for {1 + len(self.more_annotations)} jsons; "
                "give one for data.train_annotations and one for each of data.more_annotations."
            )
        if self.jitter_size and self.canvases:
            raise ConfigError(
                f"data.canvases is {self.canvases} but large-scale jitter has the one canvas of "
                "data.jitter_size; leave data.canvases empty."
            )
        if self.device_resize and not self.batch_size:
            raise ConfigError(
                "data.batch_size is 0, but the memory that data.device_resize needs depends on the images; "
                "give a number of images."
            )
        if self.device_resize and self.augments:
            raise ConfigError(
                "data.device_resize leaves images to the device, but augmentations (but horizontal flips) "
                "need them resized on the host; switch one of them off."
            )


@dataclasses.dataclass(kw_only=True)
class TrainConfig(Section):
    """Length, logging, checkpoints and devices of the run."""

    place: ClassVar[str] = "train."
    steps: Whole = 90000
    epochs: NotNegative = 0.0  # length in passes through the training images, in place of steps; 0: steps
    seed: Whole = 0
    log_every: Count = 20
    eval_every: Whole = 0  # 0: only at the end
    checkpoint_every: Count = 1000
    keep_checkpoints: Count = 2
    strict_resume: bool = False  # stop if the latest checkpoint is damaged; False: go on from the one before
    tensorboard: bool = False  # the same as "tensorboard" among the trackers
    # what shows the run beside its log (`training/trackers/`); each needs the extra of its name
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    histograms: bool = False  # of the parameters, at every evaluation, in the trackers
    # the first and the last step of a trace by jax.profiler; (): none
    profile_steps: Annotated[
        tuple[Count, ...],
        Rule(
            lambda x: not x or (len(x) == 2 and x[0] <= x[1]),
            "the first and the last step of a trace separated by a comma, or none",
        ),
    ] = ()
    pictures: Whole = 8  # evaluation images drawn with their predictions at the end
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"  # skip the step, or go back to a checkpoint
    skip_limit: Whole = 10  # consecutive skipped steps before the run stops
    rollback_limit: Whole = 3  # rollbacks before the run stops
    patience: Whole = 0  # evaluations without a better mask AP before the run ends; 0: never
    eval_loss: bool = False  # the losses over the evaluation data, at every evaluation
    # auto: jit on one device, else shard_map; sharded: the state is split over the devices
    parallel: Literal["auto", "jit", "pmap", "shard_map", "sharded"] = "auto"
    device_batch: Whole = 0  # images that a device computes at a time; 0: its whole share of the batch
    compile_sooner: bool = False  # on TPUs: compile the step in half of the time, to one that runs slower

    def check(self) -> None:
        """Check the settings that depend on each other.

        Raises:
            ConfigError: Two of them do not go together.
        """
        if self.histograms and not (self.trackers or self.tensorboard):
            raise ConfigError(
                "train.histograms are shown by trackers, but train.trackers is empty; set it too, such as "
                "to tensorboard."
            )
        if self.patience and not self.eval_every:
            raise ConfigError("train.patience counts evaluations, but train.eval_every is 0; set both.")


@dataclasses.dataclass(kw_only=True)
class ModelSection(Section):
    """The model of a run, and its initial weights.

    On a command line, settings of the architecture follow "model.": ``--config.model.rpn.nms_threshold=0.8``.

    Attributes:
        architecture: A preset's configuration, with changes. ``num_classes`` replaces its number of classes.
        weights: A checkpoint or an ImageNet backbone; empty for random weights.
        weights_in_part: Whether to take what fits of a checkpoint and leave the rest random.
        num_classes: Number of classes; 0 takes the number of categories in the training annotations.
    """

    place: ClassVar[str] = "model."
    architecture: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    weights: str = ""
    weights_in_part: bool = False
    num_classes: Whole = 0


@dataclasses.dataclass(kw_only=True)
class Config(Section):
    """A training run, as returned by ``get_config()`` of ``configs/*.py``."""

    model: ModelSection = dataclasses.field(default_factory=ModelSection)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def check(self) -> None:
        """Check the settings that depend on each other; each alone was checked when it was set.

        Raises:
            ConfigError: Two of them do not go together.

        Example:
            >>> Config(train=TrainConfig(patience=3, eval_every=500)).check()
        """
        for section in (self.data, self.optimizer, self.train):
            section.check()
        if self.optimizer.decay_epochs and not self.train.epochs:
            raise ConfigError("optimizer.decay_epochs counts epochs, but train.epochs is 0; set both.")
        if not self.data.batch_size and self.train.device_batch:
            raise ConfigError(
                "data.batch_size is 0, for as many images as fit the memory, but train.device_batch limits "
                "those that need it at a time, so that any number fits; give one of them."
            )
        pixels = self.model.architecture.input.pixels
        pixels.changed(self.data.intensity, self.data.intensity_range, self.data.page)
        if self.data.photometric and not pixels.has_colours:
            raise ConfigError(
                f"data.photometric is {self.data.photometric}, which changes colours, but "
                f"model.input.pixels.channels is {pixels.channels} and pages is {pixels.pages!r}; set it to "
                "0. Values of pictures of any channels are changed by data.gain, data.offset, data.gamma, "
                "data.blur and data.noise."
            )
