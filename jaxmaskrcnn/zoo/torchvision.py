"""torchvision's detectors and ImageNet ResNets, version 0.29.

Source: AP, addresses, sizes and preprocessing as the ``*_Weights`` classes of ``torchvision.models`` give
them in ``url``, ``meta`` and ``transforms``.
"""

from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.conventions import TORCHVISION, TORCHVISION_KEYPOINTS
from jaxmaskrcnn.zoo.entry import BN_ALL, Backbone, Preset, PublishedFile

# The library is under the BSD 3-clause licence and states that weights may have their own terms.
LICENCE = "none stated (code: BSD-3-Clause)"


def _published(name: str, mebibytes: float, module: str) -> PublishedFile:
    return PublishedFile(
        f"{hosts.TORCHVISION.prefix}{name}", LICENCE, f"torchvision/models/{module}.py", mebibytes
    )


# The COCO_V1 weights use an epsilon of 0; models fine-tuned from ImageNet use 1e-5.
_V1 = {"backbone.norm_epsilon": 0.0}
_V2 = {**BN_ALL, "rpn.convs": 2}

PRESETS = {
    f"torchvision/{name}": Preset(
        TORCHVISION,
        changes,
        box_ap,
        mask_ap,
        _published(file, size, "detection/mask_rcnn" if mask_ap else "detection/faster_rcnn"),
        source=f"{weights}.COCO_V1",
    )
    for name, changes, box_ap, mask_ap, file, size, weights in (
        ("maskrcnn_resnet50_fpn", _V1, 37.9, 34.6,
         "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 169.84, "MaskRCNN_ResNet50_FPN_Weights"),
        ("maskrcnn_resnet50_fpn_v2", _V2, 47.4, 41.8,
         "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 177.219, "MaskRCNN_ResNet50_FPN_V2_Weights"),
        ("fasterrcnn_resnet50_fpn", {**_V1, "mask": None}, 37.0, None,
         "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 159.743, "FasterRCNN_ResNet50_FPN_Weights"),
        ("fasterrcnn_resnet50_fpn_v2", {**_V2, "mask": None}, 46.7, None,
         "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 167.104, "FasterRCNN_ResNet50_FPN_V2_Weights"),
    )
}  # fmt: skip
# The two weights of one model; the earlier ones are those of a checkpoint from an early epoch.
PRESETS |= {
    f"torchvision/{name}": Preset(
        TORCHVISION,
        {**TORCHVISION_KEYPOINTS, "mask": None, "backbone.norm_epsilon": epsilon},
        box_ap,
        None,
        _published(file, 226.054, "detection/keypoint_rcnn"),
        source=f"KeypointRCNN_ResNet50_FPN_Weights.{weights}",
        keypoint_ap=keypoint_ap,
    )
    for name, epsilon, box_ap, keypoint_ap, file, weights in (
        ("keypointrcnn_resnet50_fpn", 0.0, 54.6, 65.0,
         "keypointrcnn_resnet50_fpn_coco-fc266e95.pth", "COCO_V1"),
        ("keypointrcnn_resnet50_fpn_legacy", 1e-5, 50.6, 61.1,
         "keypointrcnn_resnet50_fpn_coco-9f466800.pth", "COCO_LEGACY"),
    )
}  # fmt: skip

# Settings that give a detector of any library the input with which these networks were trained.
INPUT = {
    "backbone.stride_in_1x1": False,
    "backbone.norm_epsilon": 1e-5,
    "input.channel_order": "rgb",
    "input.pixel_scale": 1.0 / 255.0,
    "input.pixel_mean": (0.485, 0.456, 0.406),
    "input.pixel_std": (0.229, 0.224, 0.225),
}

# name, class of the weights, depth, groups, width per group, files with their sizes (IMAGENET1K_V1, then V2)
_RESNETS = (
    ("resnet18", "ResNet18", 18, 1, 64, (("resnet18-f37072fd.pth", 44.661),)),
    ("resnet34", "ResNet34", 34, 1, 64, (("resnet34-b627a593.pth", 83.275),)),
    ("resnet50", "ResNet50", 50, 1, 64,
     (("resnet50-0676ba61.pth", 97.781), ("resnet50-11ad3fa6.pth", 97.79))),
    ("resnet101", "ResNet101", 101, 1, 64,
     (("resnet101-63fe2227.pth", 170.511), ("resnet101-cd907fc2.pth", 170.53))),
    ("resnet152", "ResNet152", 152, 1, 64,
     (("resnet152-394f9c45.pth", 230.434), ("resnet152-f82ba261.pth", 230.474))),
    ("resnext50_32x4d", "ResNeXt50_32X4D", 50, 32, 4,
     (("resnext50_32x4d-7cdf4587.pth", 95.789), ("resnext50_32x4d-1a0047aa.pth", 95.833))),
    ("resnext101_32x8d", "ResNeXt101_32X8D", 101, 32, 8,
     (("resnext101_32x8d-8ba56ff5.pth", 339.586), ("resnext101_32x8d-110c445d.pth", 339.673))),
    ("resnext101_64x4d", "ResNeXt101_64X4D", 101, 64, 4, (("resnext101_64x4d-173b62eb.pth", 319.318),)),
    ("wide_resnet50_2", "Wide_ResNet50_2", 50, 1, 128,
     (("wide_resnet50_2-95faca4d.pth", 131.82), ("wide_resnet50_2-9ba9bcbe.pth", 263.124))),
    ("wide_resnet101_2", "Wide_ResNet101_2", 101, 1, 128,
     (("wide_resnet101_2-32ee1156.pth", 242.896), ("wide_resnet101_2-d733dc28.pth", 484.747))),
)  # fmt: skip

BACKBONES = {
    f"torchvision/{name}": Backbone(
        {
            "backbone.depth": depth,
            "backbone.groups": groups,
            "backbone.width_per_group": width,
            **INPUT,
        },
        tuple(_published(file, size, "resnet") for file, size in files),
        LICENCE,
        f"{weights}_Weights",
    )
    for name, weights, depth, groups, width, files in _RESNETS
}
