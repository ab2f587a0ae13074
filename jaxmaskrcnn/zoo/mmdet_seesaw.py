"""MMDetection's models with the seesaw loss on LVIS, by the names of the config files of version 3.3.

Those with "sample1e-3" repeat images with rare classes in training.

Source: as in `zoo/mmdet.py`.
"""

from jaxmaskrcnn.zoo.entry import LVIS_V1, R101, Preset
from jaxmaskrcnn.zoo.mmdet import presets
from jaxmaskrcnn.zoo.mmdet_cascade import CASCADE

_SEESAW = {
    **LVIS_V1, "box.scores": "two_softmaxes", "box.cosine_scale": 20.0, "box.class_loss.mitigation": 0.8,
    "box.class_loss.compensation": 2.0,
}  # fmt: skip
_R50, _R101, _CASCADE = _SEESAW, {**_SEESAW, **R101}, {**_SEESAW, **R101, **CASCADE}
_NORMED = {"mask.cosine_scale": 20.0}

# As `_ROWS` in `zoo/mmdet.py`.
_ROWS = {
    "seesaw_loss": (
        ("mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1", _R50, 25.6, 25.0,
         "mask_rcnn_r50_fpn_random_seesaw_loss_mstrain_2x_lvis_v1-a698dd3d.pth"),
        ("mask-rcnn_r50_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1", _R50 | _NORMED, 25.6, 25.4,
         "mask_rcnn_r50_fpn_random_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-a1c11314.pth"),
        ("mask-rcnn_r101_fpn_seesaw-loss_random-ms-2x_lvis-v1", _R101, 27.4, 26.7,
         "mask_rcnn_r101_fpn_random_seesaw_loss_mstrain_2x_lvis_v1-8e6e6dd5.pth"),
        ("mask-rcnn_r101_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1", _R101 | _NORMED, 27.2, 27.3,
         "mask_rcnn_r101_fpn_random_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-a0b59c42.pth"),
        ("mask-rcnn_r50_fpn_seesaw-loss_sample1e-3-ms-2x_lvis-v1", _R50, 27.6, 26.4,
         "mask_rcnn_r50_fpn_sample1e-3_seesaw_loss_mstrain_2x_lvis_v1-392a804b.pth"),
        ("mask-rcnn_r50_fpn_seesaw-loss-normed-mask_sample1e-3-ms-2x_lvis-v1", _R50 | _NORMED, 27.6, 26.8,
         "mask_rcnn_r50_fpn_sample1e-3_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-cd0f6a12.pth"),
        ("mask-rcnn_r101_fpn_seesaw-loss_sample1e-3-ms-2x_lvis-v1", _R101, 28.9, 27.6,
         "mask_rcnn_r101_fpn_sample1e-3_seesaw_loss_mstrain_2x_lvis_v1-e68eb464.pth"),
        ("mask-rcnn_r101_fpn_seesaw-loss-normed-mask_sample1e-3-ms-2x_lvis-v1", _R101 | _NORMED, 28.9, 28.2,
         "mask_rcnn_r101_fpn_sample1e-3_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-1d817139.pth"),
        ("cascade-mask-rcnn_r101_fpn_seesaw-loss_random-ms-2x_lvis-v1", _CASCADE, 33.1, 29.2,
         "cascade_mask_rcnn_r101_fpn_random_seesaw_loss_mstrain_2x_lvis_v1-71e2215e.pth"),
        ("cascade-mask-rcnn_r101_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1", _CASCADE | _NORMED,
         33.0, 30.0,
         "cascade_mask_rcnn_r101_fpn_random_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-8b5a6745.pth"),
        ("cascade-mask-rcnn_r101_fpn_seesaw-loss_sample1e-3-ms-2x_lvis-v1", _CASCADE, 30.0, 29.3,
         "cascade_mask_rcnn_r101_fpn_sample1e-3_seesaw_loss_mstrain_2x_lvis_v1-5d8ca2a4.pth"),
        ("cascade-mask-rcnn_r101_fpn_seesaw-loss-normed-mask_sample1e-3-ms-2x_lvis-v1", _CASCADE | _NORMED,
         32.8, 30.1,
         "cascade_mask_rcnn_r101_fpn_sample1e-3_seesaw_loss_normed_mask_mstrain_2x_lvis_v1-c8551505.pth"),
    ),
}  # fmt: skip

PRESETS: dict[str, Preset] = presets(_ROWS)
