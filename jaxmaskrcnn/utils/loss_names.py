"""What the losses are called: in a step's metrics, in a line of the log, and above a chart.

Every entry of a step's metrics whose name begins with ``loss_`` is a loss. Names without an entry here follow
rules, so a new loss is in the log and the charts without a change there. No JAX is imported, which takes
seconds that a chart need not wait for.
"""

from collections.abc import Iterable

# In the order of a line of the log.
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
        names: Of metrics, such as ``loss``, ``loss_mask`` and ``learning_rate``.

    Example:
        >>> losses_among(["loss", "loss_edge", "loss_mask", "loss_objectness", "learning_rate"])
        ['loss_objectness', 'loss_mask', 'loss_edge']
    """
    names = list(names)
    known = [name for name in LOSS_NAMES if name in names]
    others = [name for name in names if name.startswith(_PREFIX) and name not in LOSS_NAMES]
    return known + others


def short_name(name: str) -> str:
    """A loss's name in a line of the log.

    Example:
        >>> [short_name(name) for name in ("loss_rpn_box_reg", "loss_mask", "loss_edge")]
        ['rpn_box', 'mask', 'edge']
    """
    return name.removeprefix(_PREFIX).removesuffix("_reg")


def loss_title(name: str) -> str:
    """A loss's name above a chart.

    Example:
        >>> [loss_title(name) for name in ("loss_objectness", "loss_box_reg", "loss_mask_edge")]
        ['RPN: objectness loss', 'Box loss', 'Mask edge loss']
    """
    words = short_name(name).replace("_", " ")
    return _TITLES.get(name, f"{words[:1].upper()}{words[1:]} loss")
