"""Record torchvision's MaskRCNN one stage at a time, each given the stage before it, for two models.

Usage: python tests/goldens/record_torchvision_stages.py    (needs torch and torchvision; the tests do not)

What passes from a feature map to the next stage is rounded to 8 bits, here and in the test: torchvision's
own stages are run on the rounded arrays. So the file stays small, and both sides begin with the same bits.
"""

import functools
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torchvision
from seeded_weights import sampled, seeded_detector_weight, seeded_scene
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import boxes as box_ops
from torchvision.ops.misc import FrozenBatchNorm2d

WIDTH, CHANNELS, HIDDEN, CLASSES = 4, 16, 32, 4  # of the stem, the pyramid, the FCs; with the background
ANCHOR_SIZES = (16, 32, 64, 128, 256)
SETTINGS = dict(
    min_size=224, max_size=288, rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=180,
    box_detections_per_img=40, box_score_thresh=0.25,
)  # fmt: skip
# The classifier's weights times a factor, and its biases: scores of all classes on both sides of the
# threshold, and with v1 none above it where there is nothing to see.
CLASSIFIERS = {"v1": (0.5, (3.2, 1.5, 1.6, 0.6)), "v2": (6.0, (9.5, 2.5, 2.0, -5.2))}
# The images that torchvision sees together. 97 x 105 becomes 223 x 242 (the short side is cut, not rounded)
# and 250 x 180 becomes 288 x 207 on a common canvas of 288 x 256: the five rows of P6 are 57 pixels apart.
# 64 x 1333 becomes 13 x 288, for which torchvision infers pyramid scales of 1/2 to 1/16.
SCENES = {
    "pair": [
        (97, 105, [(5, 8.5, 60, 70), (40, 20, 104, 95), (70, 3, 90, 22)]),
        (250, 180, [(10, 20, 150, 120), (60, 140.3, 178, 248), (20, 170, 47, 199)]),
    ],
    "oblong": [(64, 1333, [(100, 5, 400, 60), (700, 10, 760, 50), (900, 0, 1330, 64)])],
    "grey": [(130, 160, [(20.5, 41, 60, 111), (45, 5, 158, 129)])],
    "blank": [(100, 100, [])],
}
# Regions besides the proposals: sides at which the level changes, and across the border.
SIDES = (112.0, 111.9999, 224.0, 223.9999, 223.99, 448.0, 447.99, 28.0, 900.0)
SPECIAL = [(0, 0, s, s) for s in SIDES] + [(3, 5, 59, 229), (-30, -20, 90, 80), (150, 190, 330, 310)]
REGIONS, MASKS, PASTED = 20, 10, 5  # of an image: proposals pooled, masks predicted, masks pasted


def image_of(name, scene):
    image = seeded_scene(*scene)["image"]
    if name == "grey":  # as a file of mode L becomes when it is opened as RGB
        image = np.repeat(image[..., 1:2], 3, axis=2)
    return np.full_like(image, (124, 116, 104)) if name == "blank" else image


class Narrow(ResNet):
    """ResNet-50 with another number of channels in the stem."""

    def __init__(self, norm):
        super().__init__(Bottleneck, [1, 1, 1, 1], norm_layer=norm)
        self.inplanes = WIDTH
        self.conv1, self.bn1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False), norm(WIDTH)
        for i, blocks in enumerate((3, 4, 6, 3)):
            layer = self._make_layer(Bottleneck, WIDTH * 2**i, blocks, stride=1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", layer)


def build(version):
    """maskrcnn_resnet50_fpn ("v1") or maskrcnn_resnet50_fpn_v2 ("v2"), narrow."""
    second = version == "v2"
    norm = nn.BatchNorm2d if second else None
    resnet = Narrow(norm or functools.partial(FrozenBatchNorm2d, eps=0.0))
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    channels = [4 * WIDTH * 2**i for i in range(4)]
    pooled = (CHANNELS, 7, 7)
    model = MaskRCNN(
        BackboneWithFPN(resnet, stages, channels, CHANNELS, norm_layer=norm),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
        rpn_head=RPNHead(CHANNELS, 3, conv_depth=2 if second else 1),
        box_head=FastRCNNConvFCHead(pooled, [CHANNELS] * 4, [HIDDEN], norm_layer=norm)
        if second
        else TwoMLPHead(int(np.prod(pooled)), HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, CLASSES),
        mask_head=MaskRCNNHeads(CHANNELS, [CHANNELS] * 4, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, CLASSES),
        **SETTINGS,
    )
    weights = {k: seeded_detector_weight(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    factor, bias = CLASSIFIERS[version]
    weights["roi_heads.box_predictor.cls_score.weight"] *= np.float32(factor)
    weights["roi_heads.box_predictor.cls_score.bias"] = np.float32(bias)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return model.eval()


def forget_scales(model):
    """The poolers keep the scales that they infer from the first images they see."""
    for pooler in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
        pooler.scales = pooler.map_levels = None


def rounded(name, values, golden):
    """8 bits a value for the next stage, on both sides."""
    step = 2.0 ** np.ceil(np.log2(float(values.abs().max()) / 127))
    small = (values / step).round()
    golden[f"{name}/rounded"], golden[f"{name}/step"] = small.numpy().astype(np.int8), np.float32(step)
    return small * step


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def record(name, values, golden, count=400):
    values = values.numpy()
    golden[f"{name}/shape"], golden[f"{name}/values"] = np.array(values.shape), sampled(name, values, count)
    print(f"  {name} {values.shape} rms {np.sqrt((values**2).mean()):.3g}, max {np.abs(values).max():.3g}")


def origins(boxes, scores, candidates, candidate_scores):
    """Which candidate each box is, by its bits; the candidates must be distinct."""
    found = []
    for box, score in zip(boxes, scores, strict=True):
        match = torch.where((candidates == box).all(-1) & (candidate_scores == score))[0]
        assert len(match) == 1, match
        found.append(int(match[0]))
    return np.array(found, np.int32)


def select(model, objectness, deltas, anchors, counts, sizes):
    """Proposals by torchvision, and which anchors they come from."""
    n = len(sizes)
    decoded = model.rpn.box_coder.decode(deltas.reshape(-1, 4), anchors).view(n, -1, 4)
    boxes, scores = model.rpn.filter_proposals(decoded, objectness.reshape(-1, 1), sizes, counts)
    places = []
    for i in range(n):
        candidates = box_ops.clip_boxes_to_image(decoded[i], sizes[i]), objectness[i].sigmoid()
        places.append(origins(boxes[i], scores[i], *candidates))
    return boxes, places


def detections(model, logits, deltas, proposals, sizes):
    """Detections by torchvision, and which (proposal, class) they come from."""
    boxes, scores, labels = model.roi_heads.postprocess_detections(logits, deltas, proposals, sizes)
    decoded = model.roi_heads.box_coder.decode(deltas, proposals)
    counts = [len(p) for p in proposals]
    places = []
    parts = zip(decoded.split(counts), logits.softmax(-1).split(counts), strict=True)
    for i, (all_boxes, probs) in enumerate(parts):
        candidates = box_ops.clip_boxes_to_image(all_boxes, sizes[i]).reshape(-1, 4), probs.reshape(-1)
        places.append(origins(boxes[i], scores[i], *candidates))
        assert (places[-1] % CLASSES == labels[i].numpy()).all()
    return boxes, scores, labels, places


@torch.no_grad()
def teacher_forced(model, run, images, golden):
    """Every stage, given torchvision's own stage before it."""
    keep = functools.partial(record, golden=golden)
    forget_scales(model)
    inputs, _ = model.transform(images)
    sizes, body = inputs.image_sizes, model.backbone.body
    x = body["maxpool"](body["relu"](body["bn1"](body["conv1"](inputs.tensors))))
    stages = OrderedDict()
    for i in range(4):
        x = body[f"layer{i + 1}"](x)
        keep(f"{run}/C{i + 2}", nhwc(x))
        stages[str(i)] = x = rounded(f"{run}/C{i + 2}", x, golden)
    levels = model.backbone.fpn(stages)
    for i, (key, x) in enumerate(levels.items()):
        keep(f"{run}/P{i + 2}", nhwc(x))
        # P6 is every second cell of P5 and needs no place of its own.
        levels[key] = rounded(f"{run}/P{i + 2}", x, golden) if i < 4 else levels["3"][:, :, ::2, ::2]

    features = list(levels.values())
    objectness, deltas = model.rpn.head(features)
    anchors = model.rpn.anchor_generator(inputs, features)
    counts = [x[0].numel() for x in objectness]
    objectness, deltas = concat_box_prediction_layers(objectness, deltas)
    objectness, deltas = objectness.view(len(images), -1), deltas.view(len(images), -1, 4)
    keep(f"{run}/objectness", objectness)
    keep(f"{run}/deltas", deltas)
    boxes, places = select(model, objectness, deltas, anchors, counts, sizes)
    _, exact = select(
        model, objectness.double(), deltas.double(), [a.double() for a in anchors], counts, sizes
    )
    golden[f"{run}/anchors"] = anchors[0].numpy().astype(np.int16)
    assert (golden[f"{run}/anchors"] == anchors[0].numpy()).all()
    golden[f"{run}/objectness"] = objectness.numpy()
    best = torch.zeros_like(objectness, dtype=bool)
    for i, part in enumerate(objectness.split(counts, 1)):
        start = sum(counts[:i])
        for image, values in enumerate(part):
            limit = min(SETTINGS["rpn_pre_nms_top_n_test"], counts[i])
            top = values.sort(descending=True).values
            assert limit == counts[i] or top[limit - 1] > top[limit]
            best[image, start : start + counts[i]] = values >= top[limit - 1]
    golden[f"{run}/best_deltas"] = deltas[best].numpy()

    pooler = model.roi_heads.box_roi_pool
    special = torch.tensor(SPECIAL)
    regions = [torch.cat([b[:REGIONS], special]) for b in boxes]
    pooled = pooler(levels, regions, sizes)
    golden[f"{run}/scales"] = np.array(pooler.scales, np.float32)
    print("  scales", pooler.scales, "strides of P6", [int(v) for v in anchors[0][-3:, :2].mean(0)])
    keep(f"{run}/box features", nhwc(pooled), count=1500)
    pooled = rounded(f"{run}/box features", pooled, golden)
    logits, box_deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
    golden[f"{run}/region_logits"], golden[f"{run}/region_deltas"] = logits.numpy(), box_deltas.numpy()
    logits, box_deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(pooler(levels, boxes, sizes)))
    found = detections(model, logits, box_deltas, boxes, sizes)
    double = detections(model, logits.double(), box_deltas.double(), [b.double() for b in boxes], sizes)
    for i, (box, place) in enumerate(zip(boxes, places, strict=True)):
        # Nothing recorded may hang on a rounding error.
        assert (place == exact[i]).all() and (found[3][i] == double[3][i]).all()
        golden[f"{run}/{i}/proposals"], golden[f"{run}/{i}/proposal_places"] = box.numpy(), place
        levels_of = pooler.map_levels([torch.cat([box, special])]).numpy()
        golden[f"{run}/{i}/levels"] = levels_of.astype(np.int8)
        print("  proposals", len(box), "of each level", np.bincount(levels_of, minlength=4))
    counts = [len(b) for b in boxes]
    for key, values in (("logits", logits), ("box_deltas", box_deltas)):
        for i, part in enumerate(values.split(counts)):
            golden[f"{run}/{i}/{key}"] = part.numpy()

    chosen = [b[:MASKS] for b in found[0]]
    labels = [x[:MASKS] for x in found[2]]
    pooled = model.roi_heads.mask_roi_pool(levels, chosen, sizes)
    keep(f"{run}/mask features", nhwc(pooled), count=1500)
    pooled = rounded(f"{run}/mask features", pooled, golden)
    mask_logits = model.roi_heads.mask_predictor(model.roi_heads.mask_head(pooled))
    keep(f"{run}/mask logits", nhwc(mask_logits), count=1500)
    probs = maskrcnn_inference(mask_logits, labels)
    results = [
        {"boxes": b, "scores": s[:MASKS], "labels": y, "masks": m}
        for b, s, y, m in zip(chosen, found[1], labels, probs, strict=True)
    ]
    pasted = model.transform.postprocess([dict(r) for r in results], sizes, [x.shape[-2:] for x in images])
    for i, (box, score, label, place) in enumerate(zip(*found, strict=True)):
        print("  detections", len(box), "of class", np.bincount(label.numpy()), score.numpy()[[0, -1]])
        golden[f"{run}/{i}/boxes"], golden[f"{run}/{i}/scores"] = box.numpy(), score.numpy()
        golden[f"{run}/{i}/labels"], golden[f"{run}/{i}/places"] = label.numpy().astype(np.int8), place
        golden[f"{run}/{i}/probs"] = results[i]["masks"][:PASTED, 0].numpy()
        golden[f"{run}/{i}/pasted_boxes"] = pasted[i]["boxes"].numpy()
        masks = pasted[i]["masks"][:PASTED, 0].numpy()
        inside = np.flatnonzero(masks)
        rng = np.random.RandomState(i)
        index = np.concatenate([rng.choice(inside, 500), rng.randint(masks.size, size=200)]).astype(np.int32)
        golden[f"{run}/{i}/pasted_index"], golden[f"{run}/{i}/pasted_values"] = index, masks.ravel()[index]
        golden[f"{run}/{i}/pasted"] = np.packbits(masks > 0.5, axis=-1)
        golden[f"{run}/{i}/pasted_unsure"] = np.flatnonzero(np.abs(masks - 0.5) < 1e-4).astype(np.int32)


@torch.no_grad()
def whole(model, run, images, golden):
    """Nothing rounded: what a user of torchvision gets."""
    forget_scales(model)
    inputs, _ = model.transform(images)
    golden[f"{run}/sizes"] = np.array(inputs.image_sizes, np.int32)
    record(f"{run}/input", nhwc(inputs.tensors), golden, count=2000)
    results = model(images)
    forget_scales(model)
    double = model.double()([x.double() for x in images])
    model.float()
    for i, found in enumerate(results):
        labels = found["labels"].numpy()
        print(f"  {run} {tuple(images[i].shape)}: {len(labels)} detections of class", np.bincount(labels))
        assert (labels == double[i]["labels"].numpy()).all()
        assert not len(labels) or (found["boxes"] - double[i]["boxes"]).abs().max() < 1e-2
        golden[f"{run}/{i}/whole_labels"] = labels.astype(np.int8)
        golden[f"{run}/{i}/whole_boxes"] = found["boxes"].numpy()
        golden[f"{run}/{i}/whole_scores"] = found["scores"].numpy()
        masks = found["masks"][:, 0].numpy()
        golden[f"{run}/{i}/whole_areas"] = (masks > 0.5).sum((1, 2)).astype(np.int32)


def anchors_of(height, width):
    """torchvision's anchors for a padded image of a size that is used."""
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64)]
    sizes = tuple((s,) for s in (32, 64, 128, 256, 512))
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)(images, maps)[0].numpy()
    assert (anchors == np.round(anchors)).all()
    return anchors


def main():
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    for version in ("v1", "v2"):
        model = build(version)
        golden = {
            "names": json.dumps({k: tuple(v.shape) for k, v in model.state_dict().items()}),
            "scenes": json.dumps(SCENES),
            "classifier": json.dumps(CLASSIFIERS[version]),
            "special": np.float32(SPECIAL),
            "versions": versions,
        }
        golden = {k: np.array(v) for k, v in golden.items()}
        for run, scenes in SCENES.items():
            print(version, run)
            pictures = [image_of(run, scene) for scene in scenes]
            images = [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pictures]
            whole(model, run, images, golden)
            if run in ("pair", "oblong"):
                teacher_forced(model, run, images, golden)
        if version == "v1":
            for height, width in ((800, 1344), (1312, 864)):
                anchors = anchors_of(height, width)
                # Sums by column weighted by place tell any change of order or value.
                weights = np.arange(1, len(anchors) + 1, dtype=np.int64) % 65521
                golden[f"anchors {height} {width}"] = (weights[:, None] * anchors.astype(np.int64)).sum(0)
                golden[f"anchors {height} {width}/ends"] = np.concatenate([anchors[:12], anchors[-12:]])
        path = Path(__file__).with_name(f"torchvision_stages_{version}.npz")
        np.savez_compressed(path, **golden)
        print(path, path.stat().st_size, "bytes,", versions)
        for key in sorted(golden, key=lambda k: -golden[k].nbytes)[:12]:
            print("   ", key, golden[key].nbytes)


if __name__ == "__main__":
    main()
