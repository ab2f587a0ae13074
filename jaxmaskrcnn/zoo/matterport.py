"""matterport's detectors, version 2.1.

Source: the classes of ``samples/coco/coco.py`` and ``samples/balloon/balloon.py`` for the settings;
``COCO_MODEL_URL`` in ``mrcnn/utils.py`` for the first file's address, and for the second, which
``samples/balloon/README.md`` names without one, the release that its data set has too. Neither has an AP.
"""

from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.zoo.conventions import MATTERPORT
from jaxmaskrcnn.zoo.entry import Preset, PublishedFile
from jaxmaskrcnn.zoo.hosts import MATTERPORT as HOST

BALLOON = (Category(1, "balloon"),)

LICENCE = "none stated (code: MIT)"
PRESETS = {
    "matterport/mask_rcnn_coco": Preset(
        MATTERPORT,
        {},
        weights=PublishedFile(f"{HOST.prefix}v2.0/mask_rcnn_coco.h5", LICENCE, "mrcnn/utils.py"),
        source="samples/coco/coco.py",
    ),
    "matterport/mask_rcnn_balloon": Preset(
        MATTERPORT,
        {
            "num_classes": 1,
            "categories": BALLOON,
            "detections.score_threshold": 0.9,
        },
        weights=PublishedFile(
            f"{HOST.prefix}v2.1/mask_rcnn_balloon.h5", LICENCE, "samples/balloon/README.md"
        ),
        source="samples/balloon/balloon.py",
    ),
}
