"""matterport's detectors, version 2.1.

Source: the classes of ``samples/coco/coco.py`` and ``samples/balloon/balloon.py`` for the settings;
``COCO_MODEL_URL`` in ``mrcnn/utils.py`` for the first file's address, and for the second, which
``samples/balloon/README.md`` names without one, the release that its data set has too. Neither has an AP.
"""

from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.conventions import MATTERPORT
from jaxmaskrcnn.zoo.entry import Preset

BALLOON = (Category(1, "balloon"),)

LICENCE = "none stated (code: MIT)"
_RELEASES = "https://github.com/matterport/Mask_RCNN/releases/download"

PRESETS = {
    "matterport/mask_rcnn_coco": Preset(
        MATTERPORT,
        {},
        file="mask_rcnn_coco.h5",
        licence=LICENCE,
        source=f"{_RELEASES}/v2.0/mask_rcnn_coco.h5",
    ),
    "matterport/mask_rcnn_balloon": Preset(
        MATTERPORT,
        {
            "num_classes": 1,
            "categories": BALLOON,
            "detections.score_threshold": 0.9,
        },
        file="mask_rcnn_balloon.h5",
        licence=LICENCE,
        source=f"{_RELEASES}/v2.1/mask_rcnn_balloon.h5",
    ),
}
