"""Parts of a configuration around the network: how pixels come in, and what becomes of its outputs."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import (
    ConfigError,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Range,
    Whole,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelConfig(Part):
    """How the pixels of a file become uint8 (`data/images.py`); pictures of 8 bits are taken as they are."""

    channels: Count = 3  # 1: grey; 2: grey and another; 3: RGB; 4: RGB and another; of pages: any number
    pages: Literal["one", "channels"] = (
        "one"  # what the pages of a TIFF are: one is the picture; its channels
    )
    intensity: Literal["dtype", "percentile", "range"] = "dtype"  # what becomes 0 and what becomes 255
    intensity_range: tuple[float, ...] = ()  # with "range": these two values
    page: Annotated[int, Range(-1)] = -1  # of files with several, from 0; -1: refuse such files
    max_pixels: Whole = 0  # larger files are not opened; 0: Pillow's limit, 178,956,970

    def __post_init__(self):
        super().__post_init__()
        limits = self.intensity_range
        if self.intensity == "range" and not (len(limits) == 2 and limits[0] < limits[1]):
            raise ConfigError(
                f"PixelConfig.intensity is 'range' and intensity_range is {limits}; give the two values "
                "that become 0 and 255, the smaller one first, such as 0,4095 for 12 bits."
            )
        if self.intensity != "range" and limits:
            raise ConfigError(
                f"PixelConfig.intensity_range is {limits}, which has no effect with intensity "
                f"{self.intensity!r}; give intensity 'range' too."
            )

        if self.pages == "one" and self.channels > 4:
            raise ConfigError(
                f"PixelConfig.channels is {self.channels}, and a picture has 1 to 4 channels, or one in each "
                "page of a TIFF (pages 'channels'); give pages too, or fewer channels."
            )
        if self.pages == "channels" and self.page != -1:
            raise ConfigError(
                f"PixelConfig.page is {self.page}, but pages is 'channels', which reads every page; leave "
                "one of them out."
            )

    @property
    def has_colours(self) -> bool:
        """Whether the channels are red, green and blue."""
        return self.channels == 3 and self.pages == "one"

    def changed(
        self,
        intensity: str | None = None,
        intensity_range: Sequence[float] = (),
        page: int = -1,
        max_pixels: int | None = None,
    ) -> "PixelConfig":
        """A copy with what a user gives beside a model's own settings.

        Args:
            intensity: None or "" leaves the present one, with its range.
            intensity_range: For "range"; () leaves the present one unless there is another intensity.
            page: -1 leaves the present one.
            max_pixels: None leaves the present one.

        Returns:
            The copy.

        Raises:
            ConfigError: The values do not fit each other.

        Example:
            >>> PixelConfig().changed("range", (0, 4095)).intensity_range
            (0.0, 4095.0)
        """
        if intensity and not intensity_range and intensity == self.intensity:
            intensity_range = self.intensity_range
        elif not intensity and not intensity_range:
            intensity, intensity_range = self.intensity, self.intensity_range
        changes: dict[str, Any] = {
            "intensity": intensity or self.intensity,
            "intensity_range": tuple(intensity_range),
            "page": self.page if page == -1 else page,
            "max_pixels": self.max_pixels if max_pixels is None else max_pixels,
        }
        return dataclasses.replace(self, **changes)


DEFAULT_PIXELS = PixelConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputConfig(Part):
    """How an image becomes the network's input (`ops/resize.py`, `data/preprocess.py`)."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_scale: Positive = 1.0 / 255.0  # factor for uint8 values, applied before mean and std
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of each channel, in channel_order
    pixel_std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    normalise_before_resize: bool = True
    # float32 | uint8 with antialias | uint8 | uint8, black beyond the border
    resize_kernel: Literal["torch", "pil", "cv2", "skimage"] = "torch"
    # to whole pixels; enlarge: images are enlarged to test_min_size but never reduced to it
    size_rule: Literal["truncate", "round", "round_two_steps", "truncate_long_side", "enlarge"] = "truncate"
    test_min_size: Count = 800  # short side in pixels at test time
    test_max_size: Count = 1333  # limit of the long side at test time
    pad_divisor: Count = 32
    placement: Literal["corner", "centre"] = "corner"  # of the image on its canvas within the network
    padding: Literal["zero", "black"] = "zero"  # the network's input beside the image: 0, or a black pixel's
    pixels: PixelConfig = DEFAULT_PIXELS

    def __post_init__(self):
        super().__post_init__()
        if self.normalise_before_resize and self.resize_kernel != "torch":
            raise ConfigError(
                f"InputConfig.normalise_before_resize is True, but the kernel {self.resize_kernel!r} resizes "
                "uint8 images; set it to False or use the kernel 'torch'."
            )
        channels = self.pixels.channels
        for name in ("pixel_mean", "pixel_std"):
            if (given := len(getattr(self, name))) != channels:
                raise ConfigError(
                    f"InputConfig.{name} has {given} values, but pixels.channels is {channels}; give one "
                    "value for each channel."
                )
        if self.channel_order == "bgr" and channels != 3:
            raise ConfigError(
                f"InputConfig.channel_order is 'bgr', but pixels.channels is {channels}; set channel_order "
                "to 'rgb', which leaves channels as they are."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(Part):
    """From head outputs to the final detections (`models/detections.py`, `inference/postprocess.py`)."""

    score_threshold: Fraction = 0.05
    nms_threshold: NotNegative = 0.5
    # greedy: boxes that overlap a better one are dropped; the others are Soft-NMS: their scores are reduced
    nms_method: Literal["greedy", "linear", "gaussian", "naive"] = "greedy"
    nms_sigma: Positive = 0.5  # of gaussian
    nms_min_score: Fraction = 1e-3  # reduced scores below it are dropped
    nms_scope: Literal["class", "image"] = "class"  # whether boxes of other classes suppress each other too
    per_image: Count = 100
    classes_per_region: Literal["all", "best"] = (
        "all"  # best: only its most probable one, if it is no background
    )
    min_side: NotNegative = 1e-2  # 0: no limit
    rescale_rule: Literal["multiply", "divide", "multiply_and_clip", "multiply_inclusive", "last_pixels"] = (
        "multiply"
    )
    paste_rule: Literal["whole_pixels", "grid_sample", "whole_pixels_inclusive", "whole_boxes"] = (
        "whole_pixels"
    )
    mask_threshold: Fraction = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig(Part):
    """Precision, memory, and weight decay."""

    dtype: Literal["float32", "bfloat16", "float64"] = (
        "float32"  # of activations; parameters and losses: float32
    )
    remat: bool = False  # recompute the backbone's stages for the gradient, to save memory
    weight_decay_exempts_norm: bool = False
