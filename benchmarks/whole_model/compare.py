"""Whether this library detects the same as the one a checkpoint comes from, on the same images.

    python benchmarks/whole_model/compare.py DIRECTORY IMAGES --model=NAME|CONFIG_FILE [--weights=FILE]

DIRECTORY is what run_reference.py or run_matterport.py wrote. The checkpoint is read as any user would, with
`load_model`, and the images by their paths. A detection is matched by one of the same label, a
score within 0.001 and boxes with IoU above 0.99; of the matched ones the masks' IoU and the distances of the
keypoints are told too, and of a Panoptic FPN the share of the pixels that are in the same segment.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as rle_codec


def match(ours: dict, theirs: dict) -> list[tuple[int, int]]:
    """Pairs of detections, each used once: best scores of theirs first."""
    pairs, free = [], set(range(len(ours["scores"])))
    for i in range(len(theirs["scores"])):
        candidates = [
            (_iou(ours["boxes"][j], theirs["boxes"][i]), j)
            for j in free
            if ours["labels"][j] == theirs["labels"][i]
            and abs(ours["scores"][j] - theirs["scores"][i]) < 1e-3
        ]
        best = max(candidates, default=(0.0, -1))
        if best[0] > 0.99:
            pairs.append((best[1], i))
            free.discard(best[1])
    return pairs


def _iou(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
    return overlap / union if union > 0 else float(np.abs(a - b).max() < 1e-2)


def compressed(rle: dict) -> dict:
    """An RLE as pycocotools compares it, which run_matterport.py writes as numbers."""
    return rle_codec.frPyObjects(rle, *rle["size"]) if isinstance(rle["counts"], list) else rle


def same_pixels(ours: np.ndarray, segments: list, theirs: np.ndarray, kinds: np.ndarray) -> float:
    """The share of pixels in the same segment: ours of the same class that shares most with theirs."""
    partner = {0: 0}
    for number, kind in enumerate(kinds.tolist(), 1):
        counts = np.bincount(ours[theirs == number], minlength=len(segments) + 1)
        own = [0] + [counts[i] if segment == tuple(kind) else 0 for i, segment in enumerate(segments, 1)]
        partner[number] = int(np.argmax(own)) if max(own) else -1
    return float((np.vectorize(partner.get)(theirs) == ours).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    model = jmr.load_model(arguments.weights or arguments.directory / "weights.pth", arguments.model)
    predictor = jmr.Predictor(model, score_threshold=model.config.detections.score_threshold)
    index = {category.id: i for i, category in enumerate(model.categories)}
    reference = json.loads((arguments.directory / "detections.json").read_text())
    total = {"theirs": 0, "ours": 0, "matched": 0}
    mask_ious, score_errors, box_errors, distances, shares = [], [], [], [], []
    panoptic = arguments.directory / "panoptic.npz"
    maps = np.load(panoptic) if panoptic.exists() else {}
    stuff = {category.id: i for i, category in enumerate(model.config.known_stuff())}
    print("image                theirs   ours  matched  worst box (px)  worst score  lowest mask IoU")
    for name, theirs in reference.items():
        out = predictor(arguments.images / name, masks="rle")
        ours = {
            "boxes": out["boxes"],
            "scores": out["scores"],
            "labels": [index[int(label)] for label in out["labels"]],
        }
        pairs = match(ours, theirs)
        if name in maps:
            segments = [
                (s["isthing"], (index if s["isthing"] else stuff)[s["category"]]) for s in out["segments"]
            ]
            kinds = maps[f"{name}/kinds"]
            shares.append(same_pixels(out["panoptic"], segments, maps[name], kinds))
            things = sum(bool(thing) for thing, _ in kinds)
            print(f"  {len(kinds)} segments ({things} things), of ours {len(segments)}: ", end="")
            print(f"{shares[-1]:.5%} of the pixels")
        theirs["masks"] = [compressed(mask) for mask in theirs["masks"]]
        with_masks = pairs if "masks" in out else []
        ious = [
            float(rle_codec.iou([out["masks"][j]], [theirs["masks"][i]], [0])[0, 0])
            if theirs["masks"][i]["size"] and rle_codec.area(theirs["masks"][i])
            else float(not rle_codec.area(out["masks"][j]))
            for j, i in with_masks
        ]
        for j, i in pairs if "keypoints" in theirs and "keypoints" in out else []:
            distances += np.abs(out["keypoints"][j][:, :2] - theirs["keypoints"][i]).max(1).tolist()
        boxes = [float(np.abs(np.subtract(ours["boxes"][j], theirs["boxes"][i])).max()) for j, i in pairs]
        scores = [float(abs(ours["scores"][j] - theirs["scores"][i])) for j, i in pairs]
        mask_ious, box_errors, score_errors = mask_ious + ious, box_errors + boxes, score_errors + scores
        counts = len(theirs["scores"]), len(ours["scores"]), len(pairs)
        total = {key: total[key] + n for key, n in zip(total, counts, strict=True)}
        worst = (max(boxes, default=0), max(scores, default=0), min(ious, default=1))
        print(f"{name:20s} {counts[0]:6d} {counts[1]:6d} {counts[2]:8d}  {worst[0]:14.2e}", end="")
        print(f"  {worst[1]:11.1e}  {worst[2]:15.4f}", flush=True)
    print(
        f"matched {total['matched']} of {total['theirs']} "
        f"({total['matched'] / max(total['theirs'], 1):.2%}); of ours {total['ours']}, "
        f"{total['ours'] - total['matched']} without a partner; "
        f"boxes within {max(box_errors, default=0):.2e} px, scores within {max(score_errors, default=0):.1e}"
        + (f", mask IoU at least {min(mask_ious):.4f}, mean {np.mean(mask_ious):.5f}" if mask_ious else "")
    )
    if shares:
        print(f"pixels in the same segment: at least {min(shares):.4%}, mean {np.mean(shares):.4%}")
    if distances:
        near = np.mean(np.array(distances) <= 0.1)
        print(f"{len(distances)} keypoints: {near:.3%} within 0.1 px, the farthest {max(distances):.2e} px")


if __name__ == "__main__":
    main()
