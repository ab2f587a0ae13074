"""Record whole MMDetection detectors, stage by stage, with weights made from their names.

Usage: python tests/goldens/record_mmdet_model.py    (the tests need nothing of what follows)

Everything that computes is MMDetection's and mmcv's own published code, run: the test pipeline
(mmcv's imrescale on OpenCV), DetDataPreprocessor, ResNet and ResNeXt, FPN, RPNHead, AnchorGenerator,
DeltaXYWHBBoxCoder, SingleRoIExtractor, StandardRoIHead, Shared2FCBBoxHead, Shared4Conv1FCBBoxHead,
FCNMaskHead. mmcv-lite has no compiled operators, and the full mmcv no build for this torch; so
the only ones that its models here need at test time, ``nms``, ``softnms`` and ``roi_align_forward``, are
compiled here from the C++ sources (CPU) inside of the mmcv-lite wheel, and mmcv's own Python above them runs.
Stand-ins: mmcv's NMS knows no float64, so the run that checks the recorded decisions in float64 has
torchvision's kernels in place of ``nms`` and ``roi_align_forward``, and Soft-NMS of rounded boxes; and equal
scores ("saturated" below) come in the order of their indices, which MMDetection leaves to the sort of the
machine it runs on.

The environment (Python 3.11, a C++17 compiler and ninja on the path):

    python -m venv mmdet-venv && . mmdet-venv/bin/activate
    pip install numpy==2.4.6 torch==2.15.0 torchvision==0.29.2
    pip install --no-deps mmdet==3.3.0 mmengine==0.10.7 mmcv-lite==2.2.0
    pip install addict==2.4.0 matplotlib==3.11.2 opencv-python-headless==5.0.0.93 platformdirs==4.14.5 \
        pycocotools==2.0.11 pyyaml==6.0.3 rich==15.0.0 scipy==1.17.1 setuptools==65.5.0 shapely==2.2.0 \
        six termcolor==3.3.0 terminaltables==3.1.10 tqdm yapf

MMDetection 3.3.0 refuses mmcv 2.2.0 by its number alone; the script tells it another one.

What a stage receives is rounded to half precision in the recording as in the test, which halves
the files: C2 to C5, P2 to P6, RPN deltas, pooled features and mask logits. What a stage puts out
is recorded before that. "whole" runs are MMDetection's ``predict`` from image to masks, unrounded.
"""

import contextlib
import copy
import importlib.machinery
import importlib.metadata
import json
import sys
import types
import zlib
from pathlib import Path

import mmcv
import numpy as np
import torch
import torchvision
from seeded_weights import sampled, seeded_mmdet_weight, seeded_scene
from torch.utils import cpp_extension

# -- mmcv's compiled operators


def compile_kernels():
    """mmcv's own C++ of these operators, as a module."""
    sources = Path(mmcv.__file__).parent / "ops" / "csrc"
    files = ("pytorch/nms.cpp", "pytorch/cpu/nms.cpp", "pytorch/roi_align.cpp", "pytorch/cpu/roi_align.cpp")
    return cpp_extension.load_inline(
        "mmcv_kernels",
        "\n".join(f'#include "{file}"' for file in files),
        functions=["nms", "softnms", "roi_align_forward"],
        extra_include_paths=[str(sources), str(sources / "common")],
    )


class Operators(types.ModuleType):
    """In the place of ``mmcv._ext``; operators that no model here has raise when they are called."""

    kernels = compile_kernels()
    stable = False

    def nms(self, boxes, scores, iou_threshold, offset):
        assert offset == 0
        if boxes.dtype == torch.float64 or self.stable:
            return torchvision.ops.nms(boxes, scores, iou_threshold)
        return self.kernels.nms(boxes, scores, iou_threshold, offset)

    def softnms(self, boxes, scores, dets, iou_threshold, sigma, min_score, method, offset):
        assert offset == 0
        found = dets.float()
        index = self.kernels.softnms(
            boxes.float(), scores.float(), found, iou_threshold, sigma, min_score, method, offset
        )
        dets.copy_(found)
        return index

    def roi_align_forward(self, input, rois, output, argmax_y, argmax_x, aligned_height, aligned_width,
                          spatial_scale, sampling_ratio, pool_mode, aligned):  # fmt: skip
        size = (aligned_height, aligned_width)
        if input.dtype == torch.float64:
            assert pool_mode == 1
            pooled = torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned)
            return output.copy_(pooled)
        return self.kernels.roi_align_forward(
            input.contiguous(), rois, output, argmax_y, argmax_x, *size, spatial_scale, sampling_ratio,
            pool_mode, aligned,
        )  # fmt: skip

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(f"mmcv._ext.{name}")

        return missing


sys.modules["mmcv._ext"] = Operators("mmcv._ext")
sys.modules["mmcv._ext"].__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
PACKAGES = ("mmdet", "mmcv-lite", "mmengine", "torch", "torchvision", "opencv-python-headless")
VERSIONS = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
mmcv.__version__ = "2.1.0"

import mmdet.models  # noqa: E402, F401  (registers the parts)
from mmcv.image.geometric import rescale_size  # noqa: E402
from mmcv.transforms import Compose  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures.bbox import bbox2roi  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

init_default_scope("mmdet")

# -- models and images

RGB = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
BGR = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False}
BN = {"type": "BN", "requires_grad": True}
GN = {"type": "GN", "num_groups": 32, "requires_grad": True}
CLASSES = 3
# What configs/_base_/models/mask-rcnn_r50_fpn.py is changed by, besides its widths.
VARIANTS = {
    "pytorch": {"input": RGB, "width": 8, "channels": 16, "norm": BN},
    "caffe": {
        "input": BGR, "width": 8, "channels": 16, "norm": {"type": "BN", "requires_grad": False},
        "backbone": {"style": "caffe"},
    },
    "gn": {"input": BGR, "width": 32, "channels": 64, "norm": GN, "box_head": "Shared4Conv1FCBBoxHead"},
    "resnext": {
        "input": RGB, "width": 16, "channels": 16, "norm": BN, "class_agnostic": True,
        "backbone": {"type": "ResNeXt", "groups": 4, "base_width": 4},
    },
}  # fmt: skip
# Height and width of the images of a batch, and the test scale (long side, short side). LANDSCAPE is
# limited by its short side, PORTRAIT by its long one, OBLONG is enlarged, and THIN leaves half of its
# padded height empty (torchvision would take its features to have another scale).
LANDSCAPE, PORTRAIT, OBLONG, THIN = (120, 150), (200, 90), (40, 110), (20, 110)
SMALL, TALL = (75, 110), (110, 60)
CASES = {
    "pytorch": {"pair": ([LANDSCAPE, PORTRAIT], (128, 96)), "alone": ([OBLONG], (320, 96))},
    "caffe": {"alone": ([THIN], (96, 64))},
    "gn": {"pair": ([SMALL, TALL], (96, 64))},
    "resnext": {"alone": ([TALL], (96, 64))},
}
REGIONS = {"gn": 6}  # proposals whose pooled features are kept in full, 20 unless named
MASK_REGIONS = {"gn": 2}  # likewise detections, else 5
# For the pooler: the proposals of small images all lie on the finest levels.
LARGE_BOXES = [
    [0, 0, 112, 112], [-30, 5.5, 193.99, 229.4], [3, -200, 280, 250], [-150, -140, 300, 310],
    [20, 30, 20, 90], [-100, 10, 250, 60], [280, 90, 292, 140], [10.25, 7.75, 122, 94.5],
]  # fmt: skip


def model_dict(variant):
    """A config's ``model``, narrow."""
    v = VARIANTS[variant]
    channels, agnostic = v["channels"], v.get("class_agnostic", False)
    head_norm = {"norm_cfg": GN} if v["norm"] is GN else {}
    conv_head = {"conv_out_channels": channels, **head_norm} if "box_head" in v else {}

    def coder(*stds):
        return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": list(stds)}

    def extractor(size):
        return {
            "type": "SingleRoIExtractor",
            "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
            "out_channels": channels,
            "featmap_strides": [4, 8, 16, 32],
        }

    return {
        "type": "MaskRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor", "pad_mask": True, "pad_size_divisor": 32, **v["input"],
        },
        "backbone": {
            "type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3),
            "base_channels": v["width"], "frozen_stages": 1, "norm_cfg": v["norm"], "norm_eval": True,
            "style": "pytorch", **v.get("backbone", {}),
        },
        "neck": {
            "type": "FPN", "in_channels": [4 * v["width"] * 2**i for i in range(4)],
            "out_channels": channels, "num_outs": 5, **head_norm,
        },
        "rpn_head": {
            "type": "RPNHead", "in_channels": channels, "feat_channels": channels,
            "anchor_generator": {
                "type": "AnchorGenerator", "scales": [4], "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": coder(1.0, 1.0, 1.0, 1.0),
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": extractor(7),
            "bbox_head": {
                "type": v.get("box_head", "Shared2FCBBoxHead"), "in_channels": channels,
                "fc_out_channels": 32, "roi_feat_size": 7, "num_classes": CLASSES,
                "bbox_coder": coder(0.1, 0.1, 0.2, 0.2), "reg_class_agnostic": agnostic, **conv_head,
            },
            "mask_roi_extractor": extractor(14),
            "mask_head": {
                "type": "FCNMaskHead", "num_convs": 4, "in_channels": channels,
                "conv_out_channels": channels, "num_classes": CLASSES, "class_agnostic": agnostic,
                **head_norm,
            },
        },
        "train_cfg": None,
        "test_cfg": {
            "rpn": {
                "nms_pre": 40, "max_per_img": 90, "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 16,
                "mask_thr_binary": 0.5,
            },
        },
    }  # fmt: skip


def build(config, pixel_std):
    model = MODELS.build(ConfigDict(config)).eval()
    state = model.state_dict()
    weights = {
        k: torch.as_tensor(seeded_mmdet_weight(k, tuple(v.shape), pixel_std)) for k, v in state.items()
    }
    model.load_state_dict(weights)
    return model


def load(model, shapes, scale):
    """The test pipeline of configs/_base_/datasets/coco_instance.py, and the model's preprocessor."""
    pipeline = Compose(
        [
            {"type": "mmdet.LoadImageFromNDArray"},
            {"type": "mmdet.Resize", "scale": scale, "keep_ratio": True},
            {"type": "mmdet.PackDetInputs", "meta_keys": ("ori_shape", "img_shape", "scale_factor")},
        ]
    )
    # LoadImageFromFile has BGR images.
    images = [np.ascontiguousarray(seeded_scene(*shape, [])["image"][..., ::-1]) for shape in shapes]
    packed = [pipeline({"img": image}) for image in images]
    data = {key: [p[key] for p in packed] for key in ("inputs", "data_samples")}
    return model.data_preprocessor(data, False)


# -- stages


def run(model, data, forced=None):
    """What each part puts out, fed with what the one before put out.

    Args:
        model: MaskRCNN.
        data: From its preprocessor.
        forced: What a float32 run handed on, for a run in float64.

    Returns:
        Outputs by name, lists of tensors; and what was handed on.
    """
    seen, handed_on = {}, {}

    def hand_on(name, values, exact=False):
        seen[name] = list(values)
        if forced is not None:
            handed_on[name] = [v.to(values[0].dtype) for v in forced[name]]
        else:
            handed_on[name] = [v if exact else v.half().to(v.dtype) for v in values]
        return handed_on[name]

    metas = [sample.metainfo for sample in data["data_samples"]]
    stages = hand_on("C", model.backbone(data["inputs"]))
    levels = hand_on("P", model.neck(stages))
    rpn, heads = model.rpn_head, model.roi_head
    objectness, deltas = rpn(levels)
    objectness, deltas = hand_on("objectness", objectness, exact=True), hand_on("deltas", deltas)
    proposals = rpn.predict_by_feat(objectness, deltas, batch_img_metas=metas, rescale=False)
    seen["proposal_scores"] = [p.scores for p in proposals]
    boxes = hand_on("proposals", [p.bboxes for p in proposals], exact=True)
    rois, counts = bbox2roi(boxes), [len(b) for b in boxes]
    seen["levels"] = heads.bbox_roi_extractor.map_roi_levels(rois, 4).split(counts)
    pooled = hand_on("pooled", heads.bbox_roi_extractor(levels[:4], rois).split(counts))
    logits, box_deltas = heads.bbox_head(torch.cat(pooled))
    logits = hand_on("logits", logits.split(counts), exact=True)
    box_deltas = hand_on("box_deltas", box_deltas.split(counts), exact=True)
    found = heads.bbox_head.predict_by_feat(
        rois.split(counts), logits, box_deltas, metas, rcnn_test_cfg=heads.test_cfg, rescale=False
    )
    seen["scores"], seen["labels"] = [f.scores for f in found], [f.labels for f in found]
    boxes, counts = hand_on("boxes", [f.bboxes for f in found], exact=True), [len(f) for f in found]
    rois = bbox2roi(boxes)
    pooled = hand_on("mask_pooled", heads.mask_roi_extractor(levels[:4], rois).split(counts))
    mask_logits = hand_on("mask_logits", heads.mask_head(torch.cat(pooled)).split(counts))
    if forced is None:  # pasting is done in float32 whatever the masks are
        results = heads.mask_head.predict_by_feat(
            mask_logits, copy.deepcopy(found), metas, rcnn_test_cfg=heads.test_cfg, rescale=True
        )
        seen["final_boxes"], seen["masks"] = [r.bboxes for r in results], [r.masks for r in results]
    return seen, handed_on


def per_anchor(maps, values):
    """[B, A * values, h, w] of each level -> [B, N, values]"""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, values) for m in maps], 1)


def channels_last(x):
    return x.movedim(1, -1).numpy()


def record(golden, prefix, variant, model, data):
    """The stages of one batch into ``golden``."""
    seen, handed_on = run(model, data)

    def put(name, value, kind=np.float32):
        golden[f"{prefix}/{name}"] = np.asarray(value).astype(kind)

    def put_sample(name, values, count=400):
        put(f"{name}/values", sampled(name, values, count))
        golden[f"{prefix}/{name}/shape"] = np.array(values.shape)
        print(f"  {name} {values.shape} rms {values.std():.2g} largest {np.abs(values).max():.2g}")

    metas = [sample.metainfo for sample in data["data_samples"]]
    inputs = channels_last(data["inputs"])
    put("image_sizes", [m["img_shape"] for m in metas], np.int32)
    put_sample("input", inputs)
    put("input/crc", zlib.crc32(np.ascontiguousarray(inputs).tobytes()), np.int64)
    for name, kept in (("C", (variant, prefix) != ("pytorch", "alone")), ("P", True)):
        for i, (out, given) in enumerate(zip(seen[name], handed_on[name], strict=True)):
            put_sample(f"{name}{i + 2}", channels_last(out))
            if name == "P":
                put_sample(f"P{i + 2}/last", channels_last(out[-1:]))
            if kept:
                # Wide stages are costly to keep; the pyramid is given the last image's alone.
                given = given if name == "P" else given[-1:]
                put(f"{name}{i + 2}", channels_last(given), np.float16)
    sizes = [level.shape[-2:] for level in seen["P"]]
    anchors = torch.cat(model.rpn_head.prior_generator.grid_priors(sizes, device="cpu")).numpy()
    put("anchors/count", len(anchors), np.int64)
    put("anchors/crc", zlib.crc32(anchors.tobytes()), np.int64)
    put("anchors", np.concatenate([anchors[:12], anchors[-12:]]))
    put("objectness", per_anchor(seen["objectness"], 1)[..., 0])
    put_sample("deltas", per_anchor(seen["deltas"], 4).numpy())
    put("deltas", per_anchor(handed_on["deltas"], 4), np.float16)

    count, mask_count = REGIONS.get(variant, 20), MASK_REGIONS.get(variant, 5)
    for i in range(len(metas)):
        for name in ("proposals", "proposal_scores", "logits", "box_deltas", "boxes", "scores"):
            put(f"{i}/{name}", seen[name][i])
        put(f"{i}/levels", seen["levels"][i], np.int8)
        put(f"{i}/labels", seen["labels"][i], np.int8)
        put_sample(f"{i}/pooled", channels_last(seen["pooled"][i][:count]))
        put(f"{i}/pooled", channels_last(handed_on["pooled"][i][:count]), np.float16)
        put_sample(f"{i}/mask_pooled", channels_last(seen["mask_pooled"][i][:mask_count]))
        put(f"{i}/mask_pooled", channels_last(handed_on["mask_pooled"][i][:mask_count]), np.float16)
        put_sample(f"{i}/mask_logits", channels_last(seen["mask_logits"][i][:mask_count]))
        own = (
            seen["labels"][i] if seen["mask_logits"][i].shape[1] > 1 else torch.zeros_like(seen["labels"][i])
        )
        put(f"{i}/mask_logits", handed_on["mask_logits"][i][range(len(own)), own], np.float16)
        put(f"{i}/final_boxes", seen["final_boxes"][i])
        put(f"{i}/masks", np.packbits(seen["masks"][i].numpy()), np.uint8)
        sides = seen["boxes"][i][:, 2:] - seen["boxes"][i][:, :2]
        print(
            f"  {i}: {len(seen['proposals'][i])} proposals on levels {seen['levels'][i].bincount().tolist()},"
            f" detections {seen['labels'][i].tolist()} {seen['scores'][i].numpy().round(2)},"
            f" shortest side {sides.min():.2g}, covered {seen['masks'][i].float().mean():.2f}"
        )
    if prefix == "alone" and variant == "pytorch":
        rois = torch.cat([torch.zeros(len(LARGE_BOXES), 1), torch.tensor(LARGE_BOXES)], 1)
        levels = handed_on["P"][:4]
        put("large/boxes", LARGE_BOXES)
        put("large/levels", model.roi_head.bbox_roi_extractor.map_roi_levels(rois, 4), np.int8)
        for name in ("bbox", "mask"):
            pooled = getattr(model.roi_head, f"{name}_roi_extractor")(levels, rois)
            put_sample(f"large/{name}", channels_last(pooled), 1000)

    whole = model.predict(data["inputs"], data["data_samples"], rescale=True)
    for i, sample in enumerate(whole):
        found = sample.pred_instances
        put(f"{i}/whole/boxes", found.bboxes)
        put(f"{i}/whole/scores", found.scores)
        put(f"{i}/whole/labels", found.labels, np.int8)
        put(f"{i}/whole/masks", np.packbits(found.masks.numpy()), np.uint8)

    # Nothing recorded may hang on a rounding error: in float64, the same decisions.
    model, data = copy.deepcopy(model).double(), {**data, "inputs": data["inputs"].double()}
    double, _ = run(model, data, handed_on)
    alone = run_decisions(model, data)
    for i in range(len(metas)):
        assert (seen["levels"][i] == double["levels"][i]).all(), "levels"
        assert (seen["labels"][i] == double["labels"][i]).all(), "labels"
        for name in ("proposals", "boxes"):
            assert (seen[name][i] - double[name][i]).abs().max() < 1e-2, name
        assert (torch.as_tensor(golden[f"{prefix}/{i}/whole/labels"]) == alone[i].labels).all(), "whole"
        factor = torch.tensor(metas[i]["scale_factor"]).tile(2)
        difference = torch.as_tensor(golden[f"{prefix}/{i}/whole/boxes"]) * factor - alone[i].bboxes
        assert difference.abs().max() < 1e-2, "whole"
    return handed_on


def run_decisions(model, data):
    """Detections of the unrounded model at the network's scale, without masks."""
    levels = model.extract_feat(data["inputs"])
    proposals = model.rpn_head.predict(levels, data["data_samples"], rescale=False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    return model.roi_head.predict_bbox(levels, metas, proposals, model.roi_head.test_cfg, rescale=False)


# -- single functions


@contextlib.contextmanager
def in_order():
    """Sorting as MMDetection does, but with the lower index first among equal values."""
    sort, operators = torch.Tensor.sort, sys.modules["mmcv._ext"]
    torch.Tensor.sort = lambda self, **options: sort(self, stable=True, **options)
    operators.stable = True
    yield
    torch.Tensor.sort, operators.stable = sort, False


def record_functions(golden, model, data, handed_on):
    """What needs inputs of its own: sizes, anchors of a large image, levels, ties, Faster R-CNN."""
    rng = np.random.RandomState(0)
    shapes = rng.randint(16, 4000, (2000, 2))
    # Where a length falls between two numbers of pixels, the order of the arithmetic decides.
    grid = np.stack(np.meshgrid(np.arange(240, 641), np.arange(240, 641)), -1).reshape(-1, 2)
    exact = grid * np.minimum(1333 / grid.max(1), 800 / grid.min(1))[:, None]
    shapes = np.concatenate([shapes, grid[(np.abs(exact % 1 - 0.5) < 1e-6).any(1)]])
    print(len(shapes), "shapes")
    golden["sizes/shapes"] = shapes.astype(np.int16)
    new = [rescale_size((int(w), int(h)), (1333, 800))[::-1] for h, w in shapes]
    golden["sizes/resized"] = np.array(new, np.int16)

    config = {
        "type": "AnchorGenerator",
        "scales": [8],
        "ratios": [0.5, 1.0, 2.0],
        "strides": [4, 8, 16, 32, 64],
    }
    config = {**model_dict("pytorch")["rpn_head"], "anchor_generator": config}
    sizes = [(800 // s, 1344 // s) for s in (4, 8, 16, 32)] + [(13, 21)]
    generator = MODELS.build(ConfigDict(config)).prior_generator
    anchors = torch.cat(generator.grid_priors(sizes, device="cpu")).numpy()
    golden["anchors/crc"] = np.array(zlib.crc32(anchors.tobytes()), np.int64)
    golden["anchors"] = np.concatenate([anchors[:12], anchors[-12:]])

    # Sides next to where the level changes, float by float, and any.
    edges = np.float32([112, 224, 448])[:, None]
    sides = (edges + np.spacing(edges) * np.arange(-60, 61, dtype=np.float32)).ravel()
    boxes = np.stack([np.zeros_like(sides), np.zeros_like(sides), sides, sides], 1)
    corners = rng.uniform(0, 600, (500, 2, 2)).astype(np.float32)
    boxes = np.concatenate([boxes, np.concatenate([corners.min(1), corners.max(1)], 1)])
    rois = torch.from_numpy(np.pad(boxes, ((0, 0), (1, 0))))
    golden["levels/boxes"] = boxes
    golden["levels"] = model.roi_head.bbox_roi_extractor.map_roi_levels(rois, 4).numpy().astype(np.int8)

    # Probabilities that float32 rounds to 1, and deltas beyond both limits.
    metas = [sample.metainfo for sample in data["data_samples"]]
    objectness = [8 * x + 10 for x in handed_on["objectness"]]
    deltas = [10 * x for x in handed_on["deltas"]]

    def rank():
        return model.rpn_head.predict_by_feat(objectness, deltas, batch_img_metas=metas, rescale=False)

    unordered = rank()
    with in_order():
        ordered = rank()
    for i, (found, other) in enumerate(zip(ordered, unordered, strict=True)):
        shared = (torch.cdist(found.bboxes, other.bboxes) < 1e-3).any(1).sum()
        print(
            f"saturated {i}: {len(found)} proposals, {(found.scores == 1).sum()} with the probability 1;"
            f" {shared} of {len(other)} shared with the unstable sort of this machine"
        )
        golden[f"saturated/{i}/proposals"] = found.bboxes.numpy()
        golden[f"saturated/{i}/scores"] = found.scores.numpy()

    # Faster R-CNN rescales its boxes before NMS.
    heads = {k: v for k, v in model_dict("pytorch")["roi_head"].items() if not k.startswith("mask")}
    config = {**model_dict("pytorch"), "type": "FasterRCNN", "roi_head": heads}
    config["test_cfg"]["rcnn"]["max_per_img"] = 300  # so that the threshold decides
    faster = build(config, 1.0)
    proposals = model.rpn_head.predict_by_feat(
        handed_on["objectness"], handed_on["deltas"], batch_img_metas=metas, rescale=False
    )
    assert not faster.with_mask
    rois = bbox2roi([p.bboxes for p in proposals]).split([len(p) for p in proposals])
    found = faster.roi_head.bbox_head.predict_by_feat(
        rois, handed_on["logits"], handed_on["box_deltas"], metas,
        rcnn_test_cfg=faster.roi_head.test_cfg, rescale=True,
    )  # fmt: skip
    for i, instances in enumerate(found):
        at_input = faster.roi_head.bbox_head.predict_by_feat(
            rois[i : i + 1], handed_on["logits"][i : i + 1], handed_on["box_deltas"][i : i + 1],
            metas[i : i + 1], rcnn_test_cfg=faster.roi_head.test_cfg, rescale=False,
        )[0]  # fmt: skip
        same = (at_input.scores == instances.scores).all() and (at_input.labels == instances.labels).all()
        print(f"faster {i}: {len(instances)} detections; the same before rescaling: {same}")
        for name in ("bboxes", "scores", "labels"):
            golden[f"faster/{i}/{name}"] = instances[name].numpy()


def save(name, golden):
    path = Path(__file__).with_name(f"mmdet_{name}.npz")
    np.savez_compressed(path, **golden)
    print(path.name, path.stat().st_size, "bytes")


@torch.no_grad()
def main():
    for variant, cases in CASES.items():
        # Where the input is not normalised, its values are some 60 times as large.
        pixel_std = 60.0 if VARIANTS[variant]["input"] is BGR else 1.0
        model = build(model_dict(variant), pixel_std)
        names = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        golden = {"names": json.dumps(names), "cases": json.dumps(cases), "versions": VERSIONS}
        golden = {k: np.array(v) for k, v in golden.items()}
        for case, (shapes, scale) in cases.items():
            print(variant, case)
            data = load(model, shapes, scale)
            handed_on = record(golden, case, variant, model, data)
            if case == "pair" and variant == "pytorch":
                functions = {}
                record_functions(functions, model, data, handed_on)
        save(variant, golden)
    save("functions", functions)


if __name__ == "__main__":
    main()
