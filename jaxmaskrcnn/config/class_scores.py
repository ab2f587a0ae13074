"""The kinds of scores of the box head's classes (`box.scores`), and the settings of their losses.

A kind has a row in `SCORES` here, and a file in `losses/` with what it computes.
"""

# No `from __future__ import annotations` here: values are checked against the field types.

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from jaxmaskrcnn.config.parts import Part
from jaxmaskrcnn.config.values import ConfigError, Fraction, NotNegative, Range

# softmax: over the classes and the background; sigmoid: of each class, the background's is not used;
# two_softmaxes: one over the classes, times one over object and background (seesaw loss)
Scores = Literal["softmax", "sigmoid", "two_softmaxes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoresKind:
    """A kind of class scores, without what it computes.

    Attributes:
        computes: The `ClassScores` with what it computes, as "package.module:NAME".
        forms: The forms of the loss that go with it.
        settings: The settings of `ClassLossConfig` that go with it, beside the form and the weight.
        leaves_out_classes: Whether its loss can leave out classes (`box.federated`).
        more_logits: How many logits there are beside one for each class and one for the background; they
            come before the background's.
        needs: Values that other settings of a ModelConfig have to have, by path.
        state: What a box head counts or remembers for the loss, as "package.module:Class", which is made of
            the number of classes; "" if nothing.
        names: As of other parts, the module with the names of the state's arrays in other libraries; "" if
            there is no state.
    """

    computes: str
    forms: tuple[str, ...]
    settings: tuple[str, ...]
    leaves_out_classes: bool = False
    more_logits: int = 0
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    state: str = ""
    names: str = ""


SCORES: dict[str, ScoresKind] = {
    "softmax": ScoresKind(
        computes="jaxmaskrcnn.losses.softmax:SOFTMAX",
        forms=("cross_entropy", "focal"),
        settings=("gamma", "class_weights", "background_weight", "label_smoothing"),
    ),
    "sigmoid": ScoresKind(
        computes="jaxmaskrcnn.losses.sigmoid:SIGMOID",
        forms=("cross_entropy", "focal", "quality_focal"),
        settings=("gamma", "alpha", "class_weights"),
        leaves_out_classes=True,
    ),
    "two_softmaxes": ScoresKind(
        computes="jaxmaskrcnn.losses.seesaw:TWO_SOFTMAXES",
        forms=("cross_entropy",),
        settings=("mitigation", "compensation"),
        more_logits=1,
        needs={"background": "last", "regions.sampling": "random"},
        state="jaxmaskrcnn.models.heads.region_counts:RegionCounts",
        names="jaxmaskrcnn.models.heads.region_counts_names",
    ),
}
# The forms that a setting goes with, of settings that do not go with all of their kind's.
_FORMS = {
    "gamma": ("focal", "quality_focal"),
    "alpha": ("focal",),
    "class_weights": ("cross_entropy", "focal"),
    "label_smoothing": ("cross_entropy",),
}


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
            scores: A kind of `SCORES`.

        Raises:
            ConfigError: It does not.
        """
        if self.form not in SCORES[scores].forms:
            self._refuse("form", scores, _with([x for x, kind in SCORES.items() if self.form in kind.forms]))
        for field in dataclasses.fields(self):
            name = field.name
            if name in ("form", "weight") or getattr(self, name) == field.default:
                continue
            if self.form not in (forms := _FORMS.get(name, (self.form,))):
                some = " and ".join(map(repr, forms))
                self._refuse(name, scores, f"is for the form{'s' * (len(forms) > 1)} {some}")
            if name not in SCORES[scores].settings:
                self._refuse(name, scores, _with([x for x, kind in SCORES.items() if name in kind.settings]))

    def _refuse(self, name: str, scores: str, reason: str) -> None:
        raise ConfigError(
            f"ClassLossConfig.{name} is {getattr(self, name)!r}, but it {reason}; here the form is "
            f"{self.form!r} and box.scores {scores!r}."
        )


def _with(kinds: list[str]) -> str:
    return f"is for box.scores={' and '.join(map(repr, kinds))}"
