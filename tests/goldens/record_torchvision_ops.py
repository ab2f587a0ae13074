"""Record what torchvision's operators return, for the tests of jaxmaskrcnn.ops.

Needs torch and torchvision, which nothing else here does:

    python tests/goldens/record_torchvision_ops.py

writes torchvision_ops_boxes.npz, torchvision_ops_roi_align.npz and torchvision_ops_masks.npz
next to this file, inputs and outputs together.
"""

import pathlib

import numpy as np
import torch
import torchvision
from torchvision.models.detection import _utils as det_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, nms, roi_align
from torchvision.ops.poolers import LevelMapper

HERE = pathlib.Path(__file__).parent
NMS_THRESHOLDS = (0.3, 0.5, 0.7, 0.95)


def random_boxes(rng, n, image, smallest, largest):
    centre = rng.uniform(0, image, (n, 2))
    half = rng.uniform(smallest, largest, (n, 2)) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def record_boxes():
    rng = np.random.default_rng(0)
    out = {}
    a, b = random_boxes(rng, 40, 100, 1, 60), random_boxes(rng, 60, 100, 1, 60)
    out |= {"iou_a": a, "iou_b": b, "iou": box_iou(torch.tensor(a), torch.tensor(b)).numpy()}

    deltas = rng.normal(0, 2, (40, 3, 4)).astype(np.float32)
    for name, weights in (("rpn", (1.0, 1.0, 1.0, 1.0)), ("box", (10.0, 10.0, 5.0, 5.0))):
        coder = det_utils.BoxCoder(weights)
        out[f"encode_{name}"] = coder.encode_single(torch.tensor(b[:40]), torch.tensor(a)).numpy()
        decoded = coder.decode(torch.tensor(deltas).flatten(1), [torch.tensor(a)])
        out[f"decode_{name}"] = decoded.numpy()
    out["deltas"] = deltas
    out["clip"] = clip_boxes_to_image(torch.tensor(a), (70, 90)).numpy()

    generator = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    extent = (96, 160)  # P6 has the derived strides 48 and 53
    features = [torch.zeros(1, 1, -(-96 // s), -(-160 // s)) for s in (4, 8, 16, 32, 64)]
    anchors = generator(ImageList(torch.zeros(1, 3, *extent), [extent]), features)[0]
    out["anchors"] = anchors.numpy()
    out["anchor_feature_sizes"] = np.array([f.shape[2:] for f in features])

    # Whole-pixel boxes of few sizes have many ties; the fifth object overlaps no column.
    corner = rng.integers(0, 30, (60, 2))
    columns = np.concatenate([corner, corner + rng.integers(1, 4, (60, 1)) * 10], axis=1)
    objects = np.concatenate([columns[[2, 12, 22, 13]] + np.array([0, 0, 5, 0]), [[500, 500, 510, 510]]])
    columns = np.concatenate([anchors.numpy()[-48:], columns])
    objects = np.concatenate([objects, random_boxes(rng, 4, 100, 10, 80)]).astype(np.float32)
    columns = columns.astype(np.float32)
    iou = box_iou(torch.tensor(objects), torch.tensor(columns))
    out["match_iou"] = iou.numpy()
    touching = [0, 1, 2, 3, 5, 6, 7, 8]
    out["match_touching_rows"] = np.array(touching)
    for name, quality, low in (("all", iou, True), ("touching", iou[touching], True), ("plain", iou, False)):
        out[f"match_{name}"] = det_utils.Matcher(0.7, 0.3, low)(quality).numpy()

    boxes = random_boxes(rng, 200, 60, 10, 40)
    boxes = np.concatenate([boxes, boxes + rng.normal(0, 0.2, boxes.shape)]).astype(np.float32)
    scores = np.round(rng.uniform(0, 1, 400), 2).astype(np.float32)  # many equal scores
    ids = rng.integers(0, 3, 400)
    out |= {"nms_boxes": boxes, "nms_scores": scores, "nms_ids": ids}
    for threshold in NMS_THRESHOLDS:
        for name, kept in (
            ("nms", nms(torch.tensor(boxes), torch.tensor(scores), threshold)),
            ("batched_nms", batched_nms(*map(torch.tensor, (boxes, scores, ids)), threshold)),
        ):
            keep = np.zeros(400, bool)
            keep[kept.numpy()] = True
            out[f"{name}_{threshold}"] = keep

    sides = np.array(
        [1, 56, 111.9999, 112, 223.99, 223.9999, 224, 224.0001, 447.999, 448, 900, 0], np.float32
    )
    boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=1)
    boxes = np.concatenate([boxes, random_boxes(rng, 200, 800, 20, 900)])
    out["level_boxes"] = boxes
    out["levels"] = LevelMapper(2, 5)([torch.tensor(boxes)]).numpy() + 2
    return out


def record_roi_align():
    rng = np.random.default_rng(1)
    sizes = ((24, 30), (12, 15), (6, 8))
    features = [rng.normal(0, 1, (*size, 2)).astype(np.float32) for size in sizes]
    special = [
        [-20, -30, 40, 50],  # over the top left border
        [80, 60, 140, 130],  # over the bottom right border
        [-30, -40, 200, 180],  # larger than the image
        [20, 30, 20, 30],  # no size
        [20, 30, 60, 30],  # no height
        [0, 0, 0, 0],
        [300, 20, 340, 60],  # right of the image
        [-90, -90, -40, -50],  # left of it
        [-4, -4, 116, 92],  # samples at exactly -1 and at the extent
        [0, 0, 120, 96],  # all of the image
        [1, 2, 1.5, 2.25],  # within one feature pixel
        [3, 10, 119, 14],  # very wide
        [60, 40, 20, 10],  # inverted
    ]
    boxes = np.concatenate([np.array(special, np.float32), random_boxes(rng, 14, 110, 2, 90)])
    levels = np.arange(len(boxes)) % 3
    out = {"boxes": boxes, "levels": levels, "scales": np.array([0.25, 0.125, 0.0625])}
    for i, feature in enumerate(features):
        out[f"features_{i}"] = feature
    output_size = (3, 4)
    out["cotangent"] = cotangent = rng.normal(0, 1, (len(boxes), *output_size, 2)).astype(np.float32)
    for aligned in (False, True):
        for ratio in (0, 1, 2, 3):
            name = f"{'aligned' if aligned else 'plain'}_{ratio}"
            pooled = np.zeros_like(cotangent)
            for level, feature in enumerate(features):
                mine = levels == level
                x = torch.tensor(feature).permute(2, 0, 1)[None].requires_grad_()
                rois = torch.cat([torch.zeros(mine.sum(), 1), torch.tensor(boxes[mine])], dim=1)
                y = roi_align(x, rois, output_size, float(out["scales"][level]), ratio, aligned)
                y.backward(torch.tensor(cotangent[mine]).permute(0, 3, 1, 2))
                pooled[mine] = y.detach().permute(0, 2, 3, 1).numpy()
                out[f"{name}_grad_{level}"] = x.grad[0].permute(1, 2, 0).numpy()
            out[name] = pooled
    return out


def record_masks():
    rng = np.random.default_rng(2)
    image = (41, 53)
    y, x = np.mgrid[: image[0], : image[1]]
    masks = np.stack(
        [
            (y - 15) ** 2 + (x - 20) ** 2 < 150,
            (y + x) % 7 < 4,
            np.ones(image, bool),
            (abs(y - 30) < 3) | (abs(x - 45) < 2),
        ]
    )
    special = np.array(
        [[0, 0, 53, 41], [10, 5, 10, 5], [40, 30, 53, 41], [3.3, 2.1, 4.0, 9.9], [20, 7, 21, 38]], np.float32
    )
    boxes = np.concatenate([special, random_boxes(rng, 11, 45, 4, 40)])
    boxes = np.clip(boxes, 0, [53, 41, 53, 41]).astype(np.float32)
    index = np.arange(len(boxes)) % len(masks)
    out = {"masks": masks, "target_boxes": boxes, "target_index": index}
    args = (torch.tensor(masks), torch.tensor(boxes), torch.tensor(index))
    out["targets_soft"] = project_masks_on_boxes(*args, 14).numpy()
    rois = torch.cat([args[2][:, None].float(), args[1]], dim=1)
    out["targets_aligned"] = roi_align(args[0][:, None].float(), rois, (14, 14), 1.0, 0, True)[:, 0].numpy()

    inside = np.array(
        [
            [10, 8, 38, 36],  # 28 pixels: the enlarged edges fall on whole pixels
            [-6.5, -3.2, 20.4, 18.7],
            [30, 20, 70, 60],
            [5.2, 6.1, 5.9, 6.8],
            [12, 9, 12, 9],
            [-10, -10, 80, 70],
            [3, 30, 50, 33.5],
            [60, 60, 550, 550],  # with a fused multiply-add the edge at 25 would be at 24
        ],
        np.float32,
    )
    boxes = np.concatenate([inside, random_boxes(rng, 9, 40, 3, 30)]).astype(np.float32)
    probs = rng.uniform(0, 1, (len(boxes), 14, 14)).astype(np.float32)
    out |= {"probs": probs, "paste_boxes": boxes, "image_size": np.array(image)}
    out["paste_torchvision"] = paste_masks_in_image(torch.tensor(probs)[:, None], torch.tensor(boxes), image)[
        :, 0
    ].numpy()

    # Detectron2 and MMDetection call grid_sample with the pixel centres in box coordinates.
    x1, y1, x2, y2 = torch.tensor(boxes).T[:, :, None]
    grid_y = (torch.arange(image[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid_x = (torch.arange(image[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack(
        [grid_x[:, None, :].expand(-1, image[0], -1), grid_y[:, :, None].expand(-1, -1, image[1])], dim=3
    )
    pasted = torch.nn.functional.grid_sample(torch.tensor(probs)[:, None], grid, align_corners=False)
    out["paste_detectron2"] = pasted[:, 0].numpy()
    return out


if __name__ == "__main__":
    for name, record in (("boxes", record_boxes), ("roi_align", record_roi_align), ("masks", record_masks)):
        path = HERE / f"torchvision_ops_{name}.npz"
        np.savez_compressed(path, version=torchvision.__version__, **record())
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
