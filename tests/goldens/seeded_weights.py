"""Weights made from their names, and made-up images, so that goldens need not hold any.

The recording scripts and the tests draw the same numbers; ``RandomState`` promises the same
stream in every NumPy release.
"""

import re
import zlib

import numpy as np


def seeded_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of a torch ResNet.

    Every fifth channel of a batch norm has the variance 1e-4, small enough for an epsilon of 1e-5
    to show; its weight is small too, so that activations keep their size.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        return (rng.standard_normal(shape) * (2.0 / fan_in) ** 0.5).astype(np.float32)
    rare = np.arange(shape[0]) % 5 == 0
    if name.endswith("running_var"):
        value = np.where(rare, 1e-4, rng.uniform(0.5, 2.0, shape))
    elif name.endswith("weight"):
        value = np.where(rare, 1e-2, 1.0) * rng.uniform(0.5, 1.2, shape)
    else:  # bias, running_mean
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


def seeded_images(height: int, width: int) -> np.ndarray:
    """float32 [1, height, width, 3] of about unit variance."""
    rng = np.random.RandomState(height * 10007 + width)
    return rng.standard_normal((1, height, width, 3)).astype(np.float32)


# Standard deviation of a layer's output for inputs of unit variance. Scores have to spread, so that
# thresholds and ranks decide something; deltas have to stay small enough for boxes to overlap objects.
GAINS = {
    "fpn.inner_blocks": 0.1,
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.15,
    "box_predictor.cls_score": 4.0,
    "box_predictor.bbox_pred": 1.0,
    "mask_fcn_logits": 2.0,
}

# In the pyramid and the heads of maskrcnn_resnet50_fpn_v2.
NORM_BEHIND_A_CONVOLUTION = re.compile(
    r"(backbone\.fpn|roi_heads)\..*\.1\.(weight|bias|running_mean|running_var)"
)


def seeded_detector_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of torchvision's MaskRCNN, an int64 one for a counter."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if NORM_BEHIND_A_CONVOLUTION.fullmatch(name):
        return seeded_weight(name, shape)
    if name.startswith("backbone.body."):
        return seeded_weight(name.removeprefix("backbone.body."), shape)
    if name.endswith("cls_score.bias"):
        return np.float32([0, 2, -1, 1])  # so that no class wins everywhere
    return _seeded_layer(name, shape, GAINS, transposed="conv5_mask")


def _seeded_layer(name: str, shape: tuple[int, ...], gains: dict[str, float], transposed: str) -> np.ndarray:
    """A float32 array for a layer outside of the ResNet; ``transposed`` names the deconvolution."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) == 1:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    # A transposed convolution has its inputs first, and each output sees one of its four places.
    fan_in = shape[0] if transposed in name else np.prod(shape[1:])
    gain = next((gain for part, gain in gains.items() if part in name), 2.0**0.5)
    return (rng.standard_normal(shape) * gain / fan_in**0.5).astype(np.float32)


# The same for Detectron2's names. Its inputs are in 0 to 255 minus the mean, so the stem shrinks them.
DETECTRON2_GAINS = {
    "stem.conv1": 2.0**0.5 / 32,
    "fpn_lateral": 0.3,
    "objectness_logits": 2.0,
    "anchor_deltas": 0.2,
    "box_predictor.cls_score": 3.0,
    "box_predictor.bbox_pred": 1.0,
    "mask_head.predictor": 2.0,
}


def seeded_detectron2_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of Detectron2's GeneralizedRCNN with a pyramid."""
    if ".norm." in name:
        return seeded_weight(name, shape)
    if name.endswith("cls_score.bias"):
        return np.float32([2, -1, 1, 0])  # the background comes last
    return _seeded_layer(name, shape, DETECTRON2_GAINS, transposed="deconv")


# In a cascade, boxes move three times, and must still overlap objects by 0.7 in the end.
CASCADE_GAINS = {"cls_score": 0.7, "bbox_pred": 0.25, "fc_cls": 10.0, "fc_reg": 4.0}


def seeded_detectron2_cascade_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for Detectron2's cascades."""
    if name.endswith("cls_score.bias"):
        return np.float32([-0.3, 0.3, 0.3, 0])
    if "box_predictor" in name and name.endswith("weight"):
        return _seeded_layer(name, shape, CASCADE_GAINS, transposed="deconv")
    return seeded_detectron2_weight(name, shape)


def seeded_detectron2_x152_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for a deformable ResNeXt with group norm in the heads: offsets of about one cell."""
    value = seeded_detectron2_cascade_weight(name, shape)
    if "mask_head.predictor" in name or "cls_score.weight" in name:  # behind norm layers
        value = value * np.float32(4)
    return value * np.float32(0.25) if name.endswith("conv2_offset.weight") else value


# Without a pyramid, the features that the heads see are about six times as large.
DETECTRON2_C4_GAINS = {
    "stem.conv1": 2.0**0.5 / 32,
    "rpn_head.conv": 0.25,
    "objectness_logits": 2.0,
    "anchor_deltas": 0.2,
    "box_predictor.cls_score": 1.0,
    "box_predictor.bbox_pred": 0.3,
    "mask_head.deconv": 0.2,
    "mask_head.predictor": 2.0,
}


def seeded_detectron2_c4_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of Detectron2's GeneralizedRCNN on C4."""
    if ".norm." in name:
        return seeded_weight(name, shape)
    if name.endswith("cls_score.bias"):
        return np.float32([2, -3, 3, -10])  # so that no class wins everywhere
    value = _seeded_layer(name, shape, DETECTRON2_C4_GAINS, transposed="deconv")
    if re.search(r"box_predictor\.\w+\.weight", name):
        # The means of features are positive and much alike.
        value -= value.mean(axis=1, keepdims=True)
    return value


def seeded_transformer_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of a backbone with layer norm, with logits of attention that differ."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if re.search(r"bias_table|pos_embed|rel_pos", name):
        return (0.5 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:
        scale = name.endswith("gamma") or re.search(
            r"norm\d*\.weight$|downsample_layers\.\d\.[01]\.weight", name
        )
        value = rng.uniform(0.5, 1.5, shape) if scale else 0.2 * rng.standard_normal(shape)
        return value.astype(np.float32)
    gain = 1.5 if "qkv" in name else 1.0
    return (rng.standard_normal(shape) * gain / np.prod(shape[1:]) ** 0.5).astype(np.float32)


# On the whole C5, the first layers of both heads have many inputs, which are as large.
DETECTRON2_DC5_GAINS = {
    **DETECTRON2_C4_GAINS,
    "box_head.fc1": 0.25,
    "box_predictor.cls_score": 3.0,
    "box_predictor.bbox_pred": 1.0,
    "mask_fcn1": 0.25,
    "mask_head.deconv": 2.0**0.5,
}


def seeded_detectron2_dc5_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of Detectron2's GeneralizedRCNN on a dilated C5."""
    if ".norm." in name:
        return seeded_weight(name, shape)
    if name.endswith("cls_score.bias"):
        return np.float32([2, -1, 1, 0])
    return _seeded_layer(name, shape, DETECTRON2_DC5_GAINS, transposed="deconv")


# The same for MMDetection's names.
MMDET_GAINS = {
    "neck.lateral_convs": 0.03,
    "rpn_cls": 2.0,
    "rpn_reg": 0.25,
    "fc_cls": 4.0,
    "fc_reg": 1.0,
    "conv_logits": 2.0,
}


def seeded_mmdet_weight(name: str, shape: tuple[int, ...], pixel_std: float = 1.0) -> np.ndarray:
    """A float32 array for a parameter of MMDetection's MaskRCNN, an int64 one for a counter.

    ``pixel_std`` is that of the normalised input, which the stem's convolution is divided by.
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name == "backbone.conv1.weight":
        return seeded_weight("conv1.weight", shape) / np.float32(pixel_std)
    if name.startswith("backbone."):
        return seeded_weight(name.removeprefix("backbone."), shape)
    if ".gn." in name:
        return seeded_weight(name, shape)
    if name.endswith("fc_cls.bias"):
        return np.float32([-1.5, 1.5, 0.5, 5])  # so that no class wins everywhere
    return _seeded_layer(name, shape, MMDET_GAINS, transposed="upsample")


def seeded_detectron2_transformer_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for Detectron2's detectors with layer norm in the pyramid and the heads, also for cascades."""
    if name.startswith(("backbone.bottom_up.", "backbone.net.")) or re.search(r"simfp_2\.1\.", name):
        return seeded_transformer_weight(name, shape)
    value = seeded_detectron2_cascade_weight(name, shape)
    if name.endswith(".norm.weight"):
        return np.abs(value) + np.float32(0.5)
    if "mask_head.predictor" in name or "cls_score.weight" in name:  # behind norm layers
        value = value * np.float32(4)
    return value


def seeded_mmdet_transformer_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same on a backbone with layer norm, whose features have unit variance."""
    if name.startswith("backbone."):
        return seeded_transformer_weight(name, shape)
    value = seeded_mmdet_weight(name, shape)
    if re.search(r"fc_(cls|reg)\.weight$", name):  # features are positive and much alike
        value -= value.mean(axis=1, keepdims=True)
    return value * np.float32(5) if "lateral" in name else value


def seeded_mmdet_transformer_cascade_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for cascades, with batch norm in the box heads."""
    if ".bn." in name and not name.endswith("num_batches_tracked"):
        return seeded_weight(name, shape)
    other = name.startswith("backbone.") or "lateral" in name
    return (seeded_mmdet_transformer_weight if other else seeded_mmdet_cascade_weight)(name, shape)


def seeded_mmdet_block_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with global context blocks, whose logits differ, and with group norm in all parts."""
    if "context_block" not in name:
        # Many norms one after another multiply rounding errors, if blocks change their input a lot.
        factor = 0.1 if name.endswith("gn3.weight") else 0.5 if name.endswith("fc_cls.weight") else 1.0
        return seeded_mmdet_weight(name, shape) * np.float32(factor)
    column = name.replace("channel_add_conv.1", "norm")
    value = seeded_transformer_weight(column, shape if len(shape) != 3 else shape[:1]).reshape(shape)
    return value * np.float32(2) if name.endswith("conv_mask.weight") else value


def seeded_mmdet_deep_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same on a ResNeSt, whose features are smaller, and with batch norm in the heads."""
    if ".bn." in name and not name.endswith("num_batches_tracked"):
        return seeded_weight(name, shape)
    if name.startswith("backbone."):  # blocks that change their input a lot multiply rounding errors
        return seeded_mmdet_weight(name, shape) * np.float32(0.3 if name.endswith("bn3.weight") else 1)
    value = seeded_mmdet_cascade_weight(name, shape)
    return value * np.float32(5) if "lateral" in name else value


def seeded_mmdet_res2net_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same on a Res2Net, whose features are larger than a ResNeSt's."""
    value = seeded_mmdet_deep_weight(name, shape)
    return value * np.float32(0.4) if "lateral" in name else value


def seeded_mmdet_hrnet_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same on an HRNet, many of whose norms have names that do not show them."""
    if name.startswith("backbone.") and not name.endswith("num_batches_tracked"):
        value = seeded_weight(name, shape)
        return value * np.float32(0.3 if name.endswith("bn2.weight") and "branches" in name else 1)
    value = seeded_mmdet_cascade_weight(name, shape)
    gains = {"neck.reduction_conv.conv.weight": 0.06, "roi_head.bbox_head.fc_cls.weight": 0.15}
    return value * np.float32(gains.get(name, 1))


def seeded_mmdet_dcn_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with deformable convolutions, with offsets of about one cell: larger ones are chaotic."""
    value = seeded_mmdet_weight(name, shape)
    return value * np.float32(0.25) if name.endswith("conv_offset.weight") else value


MMDET_MAP_GAINS = {
    "rpn_conv": 0.06, "rpn_cls": 2.0, "rpn_reg": 0.2, "shared_fcs.0": 0.05, "fc_cls": 1.5, "fc_reg": 1.0,
    "upsample": 0.06, "conv_logits": 2.0,
}  # fmt: skip


def seeded_mmdet_map_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for MMDetection's detectors on C4 and DC5, whose input is 0 to 255 minus the mean."""
    shared = "roi_head.shared_head."
    if name.startswith(shared) and not name.endswith("num_batches_tracked"):
        return seeded_weight(name.removeprefix(shared), shape)
    if name.startswith("backbone.") or name.endswith("num_batches_tracked"):
        return seeded_mmdet_weight(name, shape, pixel_std=32.0)
    if name.endswith("fc_cls.bias"):
        return np.float32([1, -1, 0.5, 0])
    value = _seeded_layer(name, shape, MMDET_MAP_GAINS, transposed="upsample")
    if not re.search(r"fc_(cls|reg)\.weight$", name):
        return value
    # Features are positive and much alike; without layers before, they are large.
    return (value - value.mean(axis=1, keepdims=True)) * np.float32(1 if shape[1] < 1000 else 0.1)


def seeded_mmdet_cascade_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for MMDetection's cascades, with normalised input."""
    if name.endswith("fc_cls.bias"):
        return np.float32([0.75, -0.9, 1.6, 0])
    if re.search(r"fc_(cls|reg)\.weight$", name):
        value = _seeded_layer(name, shape, CASCADE_GAINS, transposed="upsample")
        # Features are positive and much alike.
        return value - value.mean(axis=1, keepdims=True)
    return seeded_mmdet_weight(name, shape)


def seeded_mmdet_carafe_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with CARAFE, whose weights differ from cell to cell."""
    value = seeded_mmdet_cascade_weight(name, shape)
    return value * np.float32(2) if "content_encoder" in name else value


def seeded_mmdet_soft_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for a single stage, whose scores are all below 1."""
    value = seeded_mmdet_cascade_weight(name, shape)
    return value * np.float32(0.12) if name.endswith("fc_cls.weight") else value


def seeded_mmdet_groie_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with GRoIE, whose regions are sums of those of four levels, with attention that has a part."""
    if name.endswith("post_module.gamma"):
        return np.float32([1.5])
    value = seeded_mmdet_soft_weight(name, shape)
    if name.endswith("fc_reg.weight"):
        return value * np.float32(0.2)
    return value * np.float32(0.2) if "pre_module" in name else value


def seeded_mask_scoring_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for Mask Scoring R-CNN of MMDetection; IoUs are about 0.6."""
    if name.endswith("fc_cls.bias"):
        return np.float32([1.5, -3.4, 1.5, -1])  # so that no class wins everywhere
    value = seeded_mmdet_cascade_weight(name, shape)
    if "fc_mask_iou" in name:
        return value + np.float32(0.6) if len(shape) == 1 else value * np.float32(0.1)
    return value


def seeded_detectron2_regnet_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same for Detectron2's detectors on a RegNet; an int64 array for a counter."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.startswith("backbone.bottom_up."):
        return seeded_weight(name.removeprefix("backbone.bottom_up."), shape)
    return seeded_detectron2_weight(name, shape)


def seeded_projection(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 factors of unit variance, to make a number of an array whose gradient is wanted."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def seeded_scene(height: int, width: int, boxes: list[tuple[float, ...]]) -> dict[str, np.ndarray]:
    """A uint8 RGB image, and an ellipse of one of three classes in each box.

    Returns:
        "image" uint8 [height, width, 3], "boxes" float32 [G, 4] XYXY, "labels" int64 [G] from 0,
        "masks" bool [G, height, width].
    """
    rng = np.random.RandomState(height * 10007 + width)
    coarse = np.kron(rng.uniform(0, 255, (height // 16 + 1, width // 16 + 1, 3)), np.ones((16, 16, 1)))
    image = coarse[:height, :width] + rng.uniform(-25, 25, (height, width, 3))
    y, x = np.mgrid[:height, :width] + 0.5
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
        image[mask] = 0.5 * image[mask] + rng.uniform(0, 127, 3)
        masks.append(mask)
    return {
        "image": np.clip(image, 0, 255).astype(np.uint8),
        "boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
        "labels": np.arange(len(boxes)) % 3,
        "masks": np.asarray(masks, bool).reshape(-1, height, width),
    }


def seeded_crowd(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes float32 [count, 4] that overlap, float32 scores that differ, int64 ids of three classes."""
    rng = np.random.RandomState(count)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(15, 50, (count, 2))], 1).astype(np.float32)
    scores = (rng.permutation(count) + 1) / (count + 2)
    return boxes, scores.astype(np.float32), rng.randint(0, 3, count)


def sampled(name: str, values: np.ndarray, count: int) -> np.ndarray:
    """``count`` values of an array, from places drawn by the name."""
    index = np.random.RandomState(zlib.crc32(name.encode())).randint(values.size, size=count)
    return np.asarray(values).ravel()[index]


def seeded_polygons(boxes) -> list[list[list[float]]]:
    """Of each box a concave outline, as COCO has polygons; every third one in two parts that overlap."""
    objects = []
    for i, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, np.float64)):
        rng = np.random.RandomState(int(x1 * 1009 + y2 * 31) + i)
        parts = []
        for part in range(2 if i % 3 == 1 else 1):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 9 + 5 * i))
            radii = rng.uniform(0.5, 1, len(angles)) / 2
            x = (x1 + x2) / 2 + (x2 - x1) * (radii * np.cos(angles) + 0.1 * part)
            y = (y1 + y2) / 2 + (y2 - y1) * radii * np.sin(angles)
            parts.append(np.stack([x, y], axis=1).round(2).ravel().tolist())
        objects.append(parts)
    return objects


# The same for maskrcnn-benchmark's names.
BENCHMARK_GAINS = {
    "stem.conv1": 2.0**0.5 / 32,
    "fpn_inner": 0.3,
    "cls_logits": 0.3,
    "rpn.head.bbox_pred": 0.03,
    "predictor.cls_score": 0.6,
    "predictor.bbox_pred": 1.0,
    "mask_fcn_logits": 2.0,
}


def seeded_benchmark_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of maskrcnn-benchmark's GeneralizedRCNN with a pyramid."""
    if re.search(r"\.(bn\d|downsample\.1)\.", name):
        return seeded_weight(name, shape)
    if name.endswith("cls_score.bias"):
        return np.float32([0, 1.4, 0.9, 0])  # the background comes first
    return _seeded_layer(name, shape, BENCHMARK_GAINS, transposed="conv5_mask")


# The same for the names of matterport's Mask R-CNN, in Keras' order of axes. As in Detectron2's, inputs are
# in 0 to 255 minus the mean.
MATTERPORT_GAINS = {
    "conv1/": 2.0**0.5 / 64,
    "fpn_c": 0.2,
    "rpn_class_raw": 2.0,
    "rpn_bbox_pred": 1.0,
    "mrcnn_class_logits": 3.0,
    "mrcnn_bbox_fc": 1.5,
    "mrcnn_mask/": 2.0,
}


def seeded_matterport_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a parameter of matterport's Mask R-CNN, by layer and kind ("conv1/kernel").

    Every fifth channel of a batch norm has the variance 1e-2, small enough for Keras' epsilon of 1e-3 to
    show.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    layer, kind = name.split("/")
    if kind == "kernel":
        fan_in = shape[-1] if layer == "mrcnn_mask_deconv" else np.prod(shape[:-1])
        gain = next((gain for part, gain in MATTERPORT_GAINS.items() if name.startswith(part)), 2.0**0.5)
        value = rng.standard_normal(shape) * gain / fan_in**0.5
        if layer == "mrcnn_class_logits":  # features are positive and much alike
            value -= value.mean(axis=0, keepdims=True)
        return value.astype(np.float32)
    rare = np.arange(shape[0]) % 5 == 0
    if kind == "moving_variance":
        value = np.where(rare, 1e-2, rng.uniform(0.5, 2.0, shape))
    elif kind == "gamma":
        value = np.where(rare, 0.1, 1.0) * rng.uniform(0.5, 1.2, shape)
        value *= 0.5 if layer.endswith("branch2c") else 1.0
    else:  # bias, beta, moving_mean
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


# Standard deviations of the outputs of layers in a keypoint detector that differ from those above.
KEYPOINT_LOGITS = 3.0


def seeded_keypoint_weight(name: str, shape: tuple[int, ...], library: str) -> np.ndarray:
    """A float32 array for a parameter of Keypoint R-CNN with one class, in torchvision or Detectron2."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("cls_score.bias"):
        return np.float32([0.5, 0])
    if "score_lowres.weight" in name:  # each output sees four of the sixteen places of a kernel
        return (rng.standard_normal(shape) * KEYPOINT_LOGITS / (4 * shape[0]) ** 0.5).astype(np.float32)
    return {"torchvision": seeded_detector_weight, "detectron2": seeded_detectron2_weight}[library](
        name, shape
    )


def seeded_keypoints(boxes, count: int) -> np.ndarray:
    """float32 [G, count, 3] in and a little around boxes, with all three visibilities; zeros for 0."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    rng = np.random.RandomState(int(boxes.sum() * 7) % 100_003 + count)
    size = boxes[:, None, 2:] - boxes[:, None, :2]
    points = boxes[:, None, :2] + size * rng.uniform(-0.05, 1.05, (len(boxes), count, 2))
    visible = rng.randint(0, 3, (len(boxes), count, 1))
    return np.concatenate([points.round(2) * (visible > 0), visible], 2).astype(np.float32)


# Boxes whose heat-maps are decoded: large, narrow, of one pixel and less, with whole and broken sides.
DECODED_BOXES = (
    (10, 20, 210, 120), (3.25, 5.5, 60.75, 200.125), (30, 40, 30.25, 90), (5, 5, 5.5, 5.25),
    (7.5, 2.5, 8.5, 3.5), (0, 0, 56, 56), (100.1, 50.2, 143.9, 98.7), (0, 0, 500.5, 333.25),
)  # fmt: skip


def seeded_heatmaps(count: int, keypoints: int) -> np.ndarray:
    """float32 [count, keypoints, 56, 56], smooth as a head's are."""
    rng = np.random.RandomState(count * 101 + keypoints)
    coarse = rng.standard_normal((count, keypoints, 28, 28)) * KEYPOINT_LOGITS
    return np.kron(coarse, np.ones((2, 2))).astype(np.float32)


def seeded_panoptic_weight(name: str, shape: tuple[int, ...], library: str) -> np.ndarray:
    """A float32 array for a parameter of Panoptic FPN, in Detectron2 or MMDetection; int64 for a counter."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.startswith(("sem_seg_head.", "semantic_head.")):
        if len(shape) == 4:
            last = "predictor" in name or "conv_logits" in name
            value = rng.standard_normal(shape) * (3.0 if last else 2.0**0.5) / np.prod(shape[1:]) ** 0.5
            # What a group norm puts out is positive and much alike.
            return (value - value.mean(axis=1, keepdims=True) if last else value).astype(np.float32)
        affine = rng.uniform(0.5, 1.5, shape) if name.endswith("weight") else 0.3 * rng.standard_normal(shape)
        return affine.astype(np.float32)
    if library == "mmdet":
        if name.endswith("fc_cls.bias"):
            return np.float32([1.5, -3.4, 1.5, -1])  # so that no class wins everywhere
        return seeded_mmdet_cascade_weight(name, shape)
    value = seeded_detectron2_weight(name, shape)
    # Scores that differ, so that they order.
    return value * np.float32(0.1) if name.endswith("cls_score.weight") else value


def seeded_stuff(scene: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """uint8 [height, width]: 0 in the scene's objects, 1 to ``classes`` in bands around them, 255 in some."""
    height, width = scene["image"].shape[:2]
    rng = np.random.RandomState(height * 31 + width)
    coarse = rng.choice([*range(1, classes + 1), 255], (height // 24 + 1, width // 24 + 1))
    labels = np.kron(coarse, np.ones((24, 24), int))[:height, :width].astype(np.uint8)
    labels[scene["masks"].any(0)] = 0
    return labels


def seeded_segments(number: int) -> dict[str, np.ndarray]:
    """Instances and labels of pixels to be combined: masks that overlap, some small, one empty.

    Returns:
        "masks" bool [N, 120, 160], "scores" float32 [N], "labels" int64 [N], "semantic" int64 [120, 160]
        from 0 to 4.
    """
    rng = np.random.RandomState(1000 + number)
    y, x = np.mgrid[:120, :160]
    masks = []
    for _ in range(9):
        middle, radius = rng.uniform((20, 20), (100, 140)), rng.uniform(8, 45, 2)
        masks.append((((y - middle[0]) / radius[0]) ** 2 + ((x - middle[1]) / radius[1]) ** 2) <= 1)
    masks[3] = np.zeros_like(masks[3])
    masks[5] = np.roll(masks[4], 3, axis=1)  # nearly the same as another
    coarse = rng.choice(5, (6, 8), p=[0.2, 0.3, 0.3, 0.15, 0.05])
    scores = np.float32(rng.permutation(np.linspace(0.35, 0.95, 9)))
    return {
        "masks": np.stack(masks), "scores": scores, "labels": rng.randint(0, 3, 9),
        "semantic": np.kron(coarse, np.ones((20, 20), int)),
    }  # fmt: skip


SEGMENT_AREA = 900  # smallest area of stuff in the comparisons of `seeded_segments`


def seeded_entropy() -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [2, 5, 9, 12] and labels uint8 [2, 36, 48] from 0 to 4, a part of them 255."""
    rng = np.random.RandomState(77)
    logits = (3 * rng.standard_normal((2, 5, 9, 12))).astype(np.float32)
    coarse = rng.choice([0, 1, 2, 3, 4, 255], (2, 12, 16))
    return logits, np.kron(coarse, np.ones((3, 3), int)).astype(np.uint8)


def seeded_mmdet_seesaw_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with the seesaw loss: regions of each class and of none so far, and logits of objects."""
    if name.endswith("cum_samples"):
        return np.float32([400, 30, 2, 5000])
    if name.endswith("fc_cls.bias"):  # so that no class wins everywhere
        stage = re.search(r"bbox_head\.\d", name)
        return np.float32([0.75, -0.9, 2.4, 0.5, 4.5] if stage else [2.25, -3.1, 4.1, 0.5, 4.5])
    return seeded_mmdet_cascade_weight(name, shape)
