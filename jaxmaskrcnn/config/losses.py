"""Settings of the losses of the box head's classes and of masks (`losses/classes.py`, `losses/masks.py`)."""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from typing import Annotated, Literal

from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Fraction, NotNegative, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassLossConfig(Part):
    """The loss of the box head's classes.

    Example:
        >>> ClassLossConfig(form="focal", gamma=1.5).gamma
        1.5
    """

    # quality_focal: the own class's target is the IoU of the predicted box; with sigmoids
    form: Literal["cross_entropy", "focal", "quality_focal"] = "cross_entropy"
    gamma: NotNegative = 2.0  # of the focal forms: exponent of the distance from the target
    alpha: Fraction = 0.25  # of "focal" with sigmoids: factor of positives; that of negatives is 1 - alpha
    # factors of the loss of regions of each class, in the order of the labels; (): 1 each
    class_weights: tuple[NotNegative, ...] = ()
    background_weight: NotNegative = 1.0  # with softmax: factor of the loss of regions without an object
    # with softmax and cross_entropy: share of the target that all classes have equal parts of
    label_smoothing: Annotated[float, Range(0, 1, less=True)] = 0.0
    # with two_softmaxes, the seesaw loss: exponents of the ratio of two classes' numbers of regions so far,
    # by which a frequent class spares a rare one (p), and of their scores' ratio (q); 0 leaves it out
    mitigation: NotNegative = 0.0
    compensation: NotNegative = 0.0
    weight: NotNegative = 1.0  # factor of the loss

    def check(self, scores: str) -> None:
        """Check that the loss goes with the scores of the box head.

        Args:
            scores: "softmax", "sigmoid" or "two_softmaxes".

        Raises:
            ConfigError: It does not.
        """
        focal, apart = self.form == "focal", scores == "two_softmaxes"
        wrong = [
            ("form", self.form == "quality_focal" and scores != "sigmoid", "is for box.scores='sigmoid'"),
            ("form", focal and apart, "is for box.scores='softmax' and 'sigmoid'"),
            *((name, getattr(self, name) and not apart, "is for box.scores='two_softmaxes'")
              for name in ("mitigation", "compensation")),
            ("class_weights", self.class_weights and apart, "is for box.scores='softmax' and 'sigmoid'"),
            ("alpha", self.alpha != 0.25 and not (focal and scores == "sigmoid"),
             "is for the form 'focal' with box.scores='sigmoid'"),
            ("gamma", self.gamma != 2 and self.form == "cross_entropy", "is for the focal forms"),
            ("background_weight", self.background_weight != 1 and scores != "softmax",
             "is for box.scores='softmax', as sigmoids do not use the background's logit"),
            ("label_smoothing", self.label_smoothing and (scores, self.form) != ("softmax", "cross_entropy"),
             "is for the form 'cross_entropy' with box.scores='softmax'"),
            ("class_weights", self.class_weights and self.form == "quality_focal",
             "is for 'cross_entropy' and 'focal'"),
        ]  # fmt: skip
        for name, refused, reason in wrong:
            if refused:
                raise ConfigError(
                    f"ClassLossConfig.{name} is {getattr(self, name)!r}, but it {reason}; here the form is "
                    f"{self.form!r} and box.scores {scores!r}."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskLossConfig(Part):
    """The losses of masks and their factors; those with the factor 0 are not computed.

    Example:
        >>> MaskLossConfig(dice=1.0).cross_entropy
        1.0
    """

    cross_entropy: NotNegative = 1.0  # mean over the cells of all masks
    dice: NotNegative = 0.0  # mean over the masks
    boundary: NotNegative = 0.0  # mean over the cells, each times its distance from the edge, in cells

    def __post_init__(self):
        super().__post_init__()
        if not (self.cross_entropy or self.dice or self.boundary):
            raise ConfigError(
                "MaskLossConfig has the factor 0 for every loss; give one of cross_entropy, dice and "
                "boundary a factor above 0."
            )
