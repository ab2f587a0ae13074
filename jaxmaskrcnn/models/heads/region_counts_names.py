"""Names of the seesaw loss's counts in MMDetection, and its settings there; see `names/layers.py`.

Source: ``mmdet/models/losses/seesaw_loss.py`` (version 3.3).
"""

from jaxmaskrcnn.losses.seesaw import FLOOR
from jaxmaskrcnn.names.config_table import Setting, fixed
from jaxmaskrcnn.names.conversions import number, whole
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Row

LIBRARIES = ("mmdet",)
MMDET = "SeesawLoss"
_LOSS = "roi_head.bbox_head.loss_cls"
MMDET_ROWS = (
    Setting(f"{_LOSS}.p", 0.8, number(), "box.class_loss.mitigation", training=True),
    Setting(f"{_LOSS}.q", 2.0, number(), "box.class_loss.compensation", training=True),
    Setting(f"{_LOSS}.num_classes", 1203, whole(1), "num_classes"),
    fixed(f"{_LOSS}.eps", FLOOR, FLOOR, training=True),
    fixed(f"{_LOSS}.return_dict", True, True, False),
)


def names(library: str, source: str, target: str) -> list[Row]:
    """Return the rows of a library; only MMDetection has the loss.

    Args:
        library: The library.
        source: The box head's name there.
        target: Path of the `BoxHead`.
    """
    return [Row(f"{source}.loss_cls.cum_samples", f"{target}.seen.counts")] if library == "mmdet" else []


def read_structure(shapes: Shapes, head: str) -> bool:
    """Return whether arrays show that a box head has such scores.

    Args:
        shapes: Shapes of its arrays.
        head: Path of the `BoxHead`.
    """
    return f"{head}.seen.counts" in shapes


def structure() -> None:
    """There is no setting beside the kind of the scores that arrays show."""
