"""Settings of CARAFE (Wang et al., 2019), which doubles a map with weights that it predicts for each cell.

The defaults are those of the paper and of MMDetection's models.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import ClassVar

from jaxmaskrcnn.config.necks import FPNConfig
from jaxmaskrcnn.config.upsampling import UpsampleConfig
from jaxmaskrcnn.config.values import Count, Odd


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarafeConfig(UpsampleConfig):
    """Upsampling by CARAFE (`models/carafe.py`, `ops/carafe.py`).

    Example:
        >>> CarafeConfig(kernel=4)
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.config.values.ConfigError: CarafeConfig.kernel is 4; give an odd number of at least 1.
    """

    kind: ClassVar[str] = "carafe"
    module: ClassVar[str] = "jaxmaskrcnn.models.carafe:Carafe"
    names: ClassVar[str] = "jaxmaskrcnn.models.carafe_names"
    kernel: Odd = 5  # side of the window around a cell, of which each of its four new cells is a mean
    encoder_kernel: Odd = 3  # of the convolution that predicts the weights
    channels: Count = 64  # of that convolution's input


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarafeFPNConfig(FPNConfig):
    """Feature pyramid that begins with P6 and is upsampled by CARAFE (`models/necks/carafe_fpn.py`).

    Example:
        >>> CarafeFPNConfig().upsample.kernel
        5
    """

    kind: ClassVar[str] = "carafe_fpn"
    module: ClassVar[str] = "jaxmaskrcnn.models.necks.carafe_fpn:CarafeFPN"
    names: ClassVar[str] = "jaxmaskrcnn.models.necks.carafe_fpn_names"
    upsample: CarafeConfig = CarafeConfig()
