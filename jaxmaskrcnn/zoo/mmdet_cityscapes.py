"""MMDetection's Faster and Mask R-CNN on Cityscapes, by the names of the config files of version 3.3.

Their AP is COCO's on Cityscapes, not that of Cityscapes' own evaluation (docs/lvis-and-cityscapes.md).

Source: the files of ``configs/cityscapes/`` for the settings, their ``README.md`` for AP and addresses.
"""

from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.categories import CITYSCAPES_8
from jaxmaskrcnn.zoo.conventions import MMDET
from jaxmaskrcnn.zoo.entry import Preset, PublishedFile
from jaxmaskrcnn.zoo.mmdet import LICENCE
from jaxmaskrcnn.zoo.mmdet import PRESETS as OTHERS

_CITYSCAPES = {
    "num_classes": 8, "categories": CITYSCAPES_8, "input.test_min_size": 1024, "input.test_max_size": 2048,
    "box.loss.beta": 1.0,
}  # fmt: skip
_BOX = OTHERS["mmdet/faster-rcnn_r50_fpn_1x_coco"].changes

PRESETS = {
    f"mmdet/{config}": Preset(
        MMDET,
        changes,
        box_ap,
        mask_ap,
        PublishedFile(
            f"{hosts.MMDET.prefix}mmdetection/v2.0/cityscapes/{file}", LICENCE, "configs/cityscapes/README.md"
        ),
        source=f"configs/cityscapes/{config}.py",
    )
    for config, changes, box_ap, mask_ap, file in (
        ("mask-rcnn_r50_fpn_1x_cityscapes", _CITYSCAPES, 40.9, 36.4,
         "mask_rcnn_r50_fpn_1x_cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_20201211_133733-d2858245.pth"),
        ("faster-rcnn_r50_fpn_1x_cityscapes", {**_BOX, **_CITYSCAPES}, 40.3, None,
         "faster_rcnn_r50_fpn_1x_cityscapes_20200502-829424c0.pth"),
    )
}  # fmt: skip
