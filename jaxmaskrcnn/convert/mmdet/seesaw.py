"""Settings of MMDetection's seesaw loss; see `class_loss.py`.

Source: ``mmdet/models/losses/seesaw_loss.py`` (version 3.3).
"""

from jaxmaskrcnn.convert.extras import Extra
from jaxmaskrcnn.losses.seesaw import FLOOR
from jaxmaskrcnn.names.config_table import Setting, fixed
from jaxmaskrcnn.names.conversions import number, whole

SCORES = "two_softmaxes"
EXTRA = Extra(lambda c: c.box.scores == SCORES, "its box head has two softmaxes (box.scores)")
_LOSS = "roi_head.bbox_head.loss_cls"
ROWS = (
    Setting(f"{_LOSS}.p", 0.8, number(), "box.class_loss.mitigation", training=True),
    Setting(f"{_LOSS}.q", 2.0, number(), "box.class_loss.compensation", training=True),
    Setting(f"{_LOSS}.num_classes", 1203, whole(1), "num_classes"),
    fixed(f"{_LOSS}.eps", FLOOR, FLOOR, training=True),
    fixed(f"{_LOSS}.return_dict", True, True, False),
)
