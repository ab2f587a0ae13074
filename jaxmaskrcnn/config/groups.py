"""Groups of parameters with a learning rate of their own, as text that a command line can hold.

A group is written ``PATTERN:FACTOR`` or ``PATTERN:FACTOR:DECAY``. Detectron2's
``SOLVER.BIAS_LR_FACTOR = 2`` with ``WEIGHT_DECAY_BIAS = 0`` is ``*.bias:2:0``.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from jaxmaskrcnn.config.values import ConfigError


class Group(NamedTuple):
    """Training settings of the parameters that match a pattern.

    Attributes:
        pattern: Glob pattern of parameter paths.
        factor: Multiplies the learning rate, above 0.
        decay: Weight decay in place of the optimizer's; None keeps it.
    """

    pattern: str
    factor: float
    decay: float | None


def parse_groups(texts: Iterable[str]) -> tuple[Group, ...]:
    """Parse the groups of ``optimizer.groups``.

    Args:
        texts: Each ``PATTERN:FACTOR`` or ``PATTERN:FACTOR:DECAY``.

    Returns:
        One group per text.

    Raises:
        ConfigError: A text cannot be read, a factor is not above 0, or a decay is negative.

    Example:
        >>> parse_groups(["backbone.*:0.1", "*.bias:2:0"])[1]
        Group(pattern='*.bias', factor=2.0, decay=0.0)
    """
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> Group:
    pattern, *numbers = text.strip().split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if not pattern or len(values) not in (1, 2) or not all(map(math.isfinite, values)):
        raise ConfigError(
            f"optimizer.groups has {text!r}; write PATTERN:FACTOR or PATTERN:FACTOR:DECAY, such as "
            "'backbone.*:0.1' or '*.bias:2:0'."
        )
    if values[0] <= 0:
        raise ConfigError(
            f"optimizer.groups has {text!r}; the factor of the learning rate must be above 0. "
            "Name parameters that are not to be trained in optimizer.freeze."
        )
    if values[1:] and values[1] < 0:
        raise ConfigError(f"optimizer.groups has {text!r}; the weight decay cannot be negative.")
    return Group(pattern, values[0], values[1] if values[1:] else None)
