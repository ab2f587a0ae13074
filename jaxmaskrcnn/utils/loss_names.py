"""Names of the losses in a step's metrics, in the lines of the log and above charts.

Every entry of a step's metrics whose name begins with ``loss_`` is a loss. Names that are not listed here are
derived by rules, so that a new loss appears in the log and the charts without a change there. This module
does not import JAX, because that takes seconds and charts do not need it.
"""

from collections.abc import Iterable

# In the order in which a line of the log lists them.
LOSS_NAMES = (
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
)

_TITLES = {
    "loss_objectness": "RPN: objectness loss",
    "loss_rpn_box_reg": "RPN: box loss",
    "loss_classifier": "Classification loss",
}

_PREFIX = "loss_"


def losses_among(names: Iterable[str]) -> list[str]:
    """The losses among the names of metrics: those of `LOSS_NAMES` in their order, then all others.

    Args:
        names: Names of metrics, such as ``loss``, ``loss_mask`` and ``learning_rate``.

    Example:
        >>> losses_among(["loss", "loss_edge", "loss_mask", "loss_objectness", "learning_rate"])
        ['loss_objectness', 'loss_mask', 'loss_edge']
        >>> losses_among(["loss_mask", "loss_box_reg_stage1", "loss_box_reg_stage0", "loss_objectness"])
        ['loss_objectness', 'loss_box_reg_stage0', 'loss_box_reg_stage1', 'loss_mask']
    """
    names = list(names)
    known = [name for name in names if _parts(name)[0] in LOSS_NAMES]
    known.sort(key=lambda name: (LOSS_NAMES.index(_parts(name)[0]), name))
    return known + [name for name in names if name.startswith(_PREFIX) and name not in known]


def short_name(name: str) -> str:
    """A loss's name in a line of the log.

    Example:
        >>> [short_name(name) for name in ("loss_rpn_box_reg", "loss_mask", "loss_box_reg_stage1")]
        ['rpn_box', 'mask', 'box_stage1']
    """
    base, stage = _parts(name)
    return base.removeprefix(_PREFIX).removesuffix("_reg") + stage


def loss_title(name: str) -> str:
    """A loss's name above a chart.

    Example:
        >>> [loss_title(name) for name in ("loss_objectness", "loss_mask_edge", "loss_box_reg_stage1")]
        ['RPN: objectness loss', 'Mask edge loss', 'Box loss, stage 1']
    """
    base, stage = _parts(name)
    words = short_name(base).replace("_", " ")
    title = _TITLES.get(base, f"{words[:1].upper()}{words[1:]} loss")
    return title + stage.replace("_stage", ", stage ")


def _parts(name: str) -> tuple[str, str]:
    """Divide a name into that of the loss and the stage of a cascade, such as "_stage1", or ""."""
    base, separator, number = name.rpartition("_stage")
    return (base, f"_stage{number}") if separator and number.isdigit() else (name, "")
