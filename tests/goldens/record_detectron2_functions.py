"""Record functions of Detectron2 that need no network: sizes, levels, the box code, what comes last.

Usage: python tests/goldens/record_detectron2_functions.py    (needs torch and detectron2; the tests do not)
"""

import copy
from pathlib import Path

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import Boxes, Instances
from record_detectron2_model import instances_of


def main():
    rng = np.random.RandomState(0)
    shapes = rng.randint(1, 2000, (400, 2)).tolist() + [
        [480, 640],
        [640, 480],
        [1080, 1920],
        [1, 640],
        [64, 1333],
    ]
    sizes = [ResizeShortestEdge.get_output_shape(h, w, 800, 1333) for h, w in shapes]

    sides = [112, 224, 448, 223.9999, 111.9999, 447.9999, 223.99998, 224.0001, 0, 1e-3, 5000]
    square = [[8, 16, 8 + s, 16 + s] for s in sides] + [[0, 0, s, s] for s in sides]
    oblong = [[0, 0, 56, 224], [0, 0, 448, 112], [10, 10, 906, 66], [3, 4, 1795, 116]]
    corners = rng.uniform(0, 700, (100, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    # And the float32 numbers around the boundaries, where only the rounding decides.
    near = np.concatenate([(np.float32(s).view(np.int32) + np.arange(-12, 13)) for s in (112, 224, 448)])
    near = near.astype(np.int32).view(np.float32)[:, None] * np.float32([0, 0, 1, 1])
    boxes = np.concatenate([np.float32(square + oblong), near, corners]).astype(np.float32)
    levels = assign_boxes_to_levels([Boxes(torch.from_numpy(boxes))], 2, 5, 224, 4) + 2

    deltas = rng.standard_normal((60, 4)).astype(np.float32)
    deltas[:20, 2:] *= 20  # beyond the limit, above and below
    anchors = corners[:60]
    decoded = [
        Box2BoxTransform(weights).apply_deltas(torch.from_numpy(deltas), torch.from_numpy(anchors)).numpy()
        for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0))
    ]

    # Beyond every border, outside of the image, without area, smaller than a pixel, larger than the image.
    found = Instances((100, 140))
    found.pred_boxes = Boxes(
        torch.tensor([
            [5, 6, 60.5, 80.25], [-12, 4, 30, 50], [100.3, 60.1, 171, 133], [-40, 10, -2, 60],
            [150, 3, 190, 40], [30, 30, 30, 70], [50.2, 50.3, 50.9, 50.8], [-20, -30, 200, 190],
            [0, 0, 140, 100], [71, 20, 139.9, 33],
        ])
    )  # fmt: skip
    count = len(found.pred_boxes)
    found.scores = torch.linspace(0.9, 0.1, count)
    found.pred_classes = torch.arange(count) % 3
    masks = rng.uniform(0, 1, (count, 1, 28, 28)).astype(np.float32)
    masks[0] = 1  # a full mask fills exactly the box
    found.pred_masks = torch.from_numpy(masks)
    # A probability of exactly one half, of which no interpolation takes anything.
    half = paste_masks_in_image(torch.full((1, 28, 28), 0.5), torch.tensor([[3.0, 5, 31, 33]]), (40, 50))

    # Proposals outside of the image, without area, thinner than torchvision takes, and not finite.
    candidates = rng.uniform(0, 90, (60, 4)).astype(np.float32)
    candidates[:, 2:] = candidates[:, :2] + candidates[:, 2:] / 2
    candidates[:6] = [
        [-50, 10, -3, 40], [8, 9, 8, 70], [20, 30, 20.0005, 60], [40, 50.5, 70, 50.5002],
        [145, 20, 170, 60], [np.nan, 5, 20, 30],
    ]  # fmt: skip
    logits = rng.permutation(np.linspace(-3, 3, len(candidates))).astype(np.float32)
    logits[:6] += 6  # among the best, which are looked at
    (proposals,) = find_top_rpn_proposals(
        [torch.from_numpy(candidates[None])], [torch.from_numpy(logits[None])], [(100, 140)],
        nms_thresh=0.7, pre_nms_topk=50, post_nms_topk=90, min_box_size=0.0, training=False,
    )  # fmt: skip
    golden = {
        "half": half.numpy(), "candidates": candidates, "candidate_logits": logits,
        "proposals": proposals.proposal_boxes.tensor.numpy(),
        "proposal_logits": proposals.objectness_logits.numpy(),
        "shapes": np.array(shapes), "sizes": np.array(sizes),
        "level_boxes": boxes, "levels": levels.numpy(),
        "deltas": deltas, "anchors": anchors, "decoded": np.array(decoded),
        **instances_of("raw_", copy.deepcopy(found)),
    }  # fmt: skip
    golden["raw_masks"] = golden["raw_masks"][:, 0]
    final = instances_of("final_", detector_postprocess(found, 133, 171))
    golden |= final | {"final_masks": np.packbits(final["final_masks"])}
    path = Path(__file__).with_name("detectron2_functions.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes", len(final["final_boxes"]), "of", count)


if __name__ == "__main__":
    main()
