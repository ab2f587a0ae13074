"""Settings of the optimizer, the schedule of its rate, and the parameter groups."""

# No `from __future__ import annotations` here: the command line reads the field types.

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from jaxmaskrcnn.config.groups import parse_groups
from jaxmaskrcnn.config.section import Section
from jaxmaskrcnn.config.values import (
    BelowOne,
    ConfigError,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Range,
    Rule,
    Whole,
    ascending,
    checked,
)

# Settings that only some choices use; with another choice they would do nothing.
_ONLY_FOR: dict[str, tuple[str, tuple[str, ...]]] = {
    "trust_coefficient": ("method", ("lars",)),
    "decay_epochs": ("schedule", ("step",)),
    "decay_every": ("schedule", ("exponential",)),
    "power": ("schedule", ("polynomial",)),
    "restart_steps": ("schedule", ("cosine_restarts",)),
    "restart_factor": ("schedule", ("cosine_restarts",)),
    "end_factor": ("schedule", ("cosine", "cosine_restarts", "polynomial")),
}


@dataclasses.dataclass(kw_only=True)
class OptimizerConfig(Section):
    """The method of the updates (`training/methods.py`), the schedule and the parameter groups."""

    place: ClassVar[str] = "optimizer."
    method: Literal["sgd", "adamw", "lars", "lamb"] = "sgd"
    # a function of one's own that builds the optimizer, MODULE:FUNCTION or FILE.py:FUNCTION; "": the method
    build_optimizer: str = ""
    learning_rate: NotNegative = 0.02  # for a global batch of `reference_batch_size`
    reference_batch_size: Whole = 16  # the rate is scaled by batch_size / reference; 0: not scaled
    momentum: BelowOne = 0.9  # of AdamW and LAMB: beta 1
    nesterov: bool = False
    beta2: BelowOne = 0.999  # of AdamW, whose epsilon is 1e-8, and LAMB, whose epsilon is 1e-6
    trust_coefficient: Positive = 0.001  # of LARS: factor of |parameter| / |gradient|
    weight_decay: NotNegative = 1e-4
    clip_norm: NotNegative = 0.0  # global gradient norm; 0: no clipping
    clip_value: NotNegative = 0.0  # size of each value of the gradient; 0: no clipping
    noise: NotNegative = 0.0  # variance of normal noise in the gradient at the first step; 0: none
    noise_decay: NotNegative = 0.55  # the variance is divided by step ** noise_decay
    schedule: Literal["step", "cosine", "constant", "polynomial", "exponential", "cosine_restarts"] = "step"
    # schedule "step": steps at which the rate decays
    decay_steps: Annotated[
        tuple[Count, ...], Rule(ascending, "ascending whole numbers of at least 1 separated by commas")
    ] = (60000, 80000)
    # in place of decay_steps, with train.epochs
    decay_epochs: Annotated[
        tuple[Positive, ...], Rule(ascending, "ascending numbers above 0 separated by commas")
    ] = ()
    decay_factor: Fraction = 0.1  # also of "exponential", after every decay_every steps
    decay_every: Count = 30000
    power: Positive = 1.0  # of "polynomial"; 1: a straight line
    restart_steps: Count = 10000  # of "cosine_restarts": length of the first cosine
    restart_factor: Count = 1  # each further one is so many times as long
    # share of the rate at the end of "cosine" and "polynomial", and at the end of every cosine
    end_factor: Fraction = 0.0
    warmup_steps: Whole = 1000
    warmup_factor: Fraction = 0.001
    freeze: tuple[str, ...] = ()  # glob patterns of parameter paths, e.g. "backbone.*"
    groups: tuple[str, ...] = ()  # PATTERN:FACTOR of the rate, or PATTERN:FACTOR:DECAY; first match wins
    # factor of the learning rate from layer to layer of the backbone, towards its first one; 1: none
    layer_decay: Annotated[float, Range(0, 1, more=True)] = 1.0
    ema_decay: BelowOne = 0.0  # moving average of the parameters, for evaluation and saving; 0: none

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "groups":
            value = checked(value, tuple[str, ...], "optimizer.groups")
            parse_groups(value)
        super().__setattr__(name, value)

    def check(self) -> None:
        """Check the settings that depend on each other.

        Raises:
            ConfigError: Two of them do not go together.
        """
        if self.nesterov and self.method not in ("sgd", "lars"):
            raise ConfigError(
                f"optimizer.nesterov is for 'sgd' and 'lars', but optimizer.method is {self.method!r}; set "
                "one of them."
            )
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, (choice, values) in _ONLY_FOR.items():
            if getattr(self, name) != defaults[name] and getattr(self, choice) not in values:
                raise ConfigError(
                    f"optimizer.{name} is for {' and '.join(map(repr, values))}, but optimizer.{choice} is "
                    f"{getattr(self, choice)!r}; set one of them."
                )
        if self.nesterov and not self.momentum:
            raise ConfigError(
                "optimizer.nesterov needs momentum, but optimizer.momentum is 0; set one of them."
            )
