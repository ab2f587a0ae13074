"""Record a whole model as ``torch.save(model, path)`` writes it.

Usage: python tests/goldens/record_torchvision_whole_model.py    (needs torchvision; the tests do not)

A Mask R-CNN with a ResNet-18 whose anchors, image sizes and thresholds are its own. Every array is one number
that is repeated without taking memory, so that the file is small: the n-th array of the state dict is n / 8.
"""

import functools
import pathlib

import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

FOLDER = pathlib.Path(__file__).parent / "torch_files"


def build() -> MaskRCNN:
    norm = functools.partial(FrozenBatchNorm2d, eps=2e-5)
    backbone = _resnet_fpn_extractor(torchvision.models.resnet18(weights=None, norm_layer=norm), 3)
    model = MaskRCNN(
        backbone,
        num_classes=4,
        min_size=(320, 384),
        max_size=640,
        image_mean=(0.4, 0.5, 0.6),
        image_std=(0.2, 0.25, 0.3),
        rpn_anchor_generator=AnchorGenerator(
            sizes=((8,), (16,), (32,), (64,), (128,)), aspect_ratios=((0.25, 1.0, 4.0),) * 5
        ),
        rpn_pre_nms_top_n_test=600,
        rpn_post_nms_top_n_test=300,
        rpn_nms_thresh=0.6,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=0),
        box_nms_thresh=0.4,
        box_detections_per_img=50,
        bbox_reg_weights=(5.0, 5.0, 2.0, 2.0),
    )
    model.roi_heads.score_thresh = 0.3  # as users change it after building
    for n, (_, tensor) in enumerate(model.state_dict(keep_vars=True).items()):
        tensor.data = torch.full((1,), n / 8).expand(tensor.shape)
    return model


def main() -> None:
    model = build()
    torch.save(model, FOLDER / "torchvision_model.zip.pth")
    torch.save({"epoch": 3, "model": torch.nn.DataParallel(model)}, FOLDER / "torchvision_parallel.zip.pth")
    print(torch.__version__, torchvision.__version__)


if __name__ == "__main__":
    main()
