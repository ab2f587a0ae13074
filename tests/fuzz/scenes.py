"""Small valid files of this library's own doors."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
from cli.test_import_layouts import photograph
from data_helpers import TRIANGLE, annotation, encode
from PIL import Image

from jaxmaskrcnn.convert.files.keras_files import write_keras

SIZES = ((24, 32), (20, 20))  # height, width


def coco_content() -> dict:
    """Polygons, run lengths in both forms, a crowd region, and what other tools add."""
    mask = np.zeros(SIZES[0], bool)
    mask[3:9, 4:20] = True
    runs = [3, 4, 13, 5, 375]
    images = [
        {"id": i + 1, "file_name": f"{i + 1}.png", "height": height, "width": width, "license": 1}
        for i, (height, width) in enumerate(SIZES)
    ]
    annotations = [
        annotation(1, 1, segmentation=TRIANGLE),
        annotation(2, 1, category_id=7, segmentation=encode(mask), bbox=[4, 3, 16, 6], area=96),
        annotation(
            3, 2, segmentation={"size": [20, 20], "counts": runs}, bbox=[0, 3, 2, 9], area=9, iscrowd=1
        ),
        annotation(4, 2, category_id=7, segmentation=[[1, 1, 9, 1, 9, 9, 1, 9], [11, 11, 15, 11, 15, 15]]),
    ]
    categories = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def detections_content() -> list[dict]:
    mask = np.zeros(SIZES[0], bool)
    mask[3:9, 4:20] = True
    square = np.zeros(SIZES[1], bool)
    square[1:9, 1:9] = True
    return [
        {"image_id": 1, "category_id": 7, "score": 0.9, "bbox": [4, 3, 16, 6], "segmentation": encode(mask)},
        {"image_id": 1, "category_id": 1, "score": 0.4, "bbox": [2, 2, 9, 9], "segmentation": encode(mask)},
        {"image_id": 2, "category_id": 7, "score": 0.7, "bbox": [1, 1, 8, 8], "segmentation": encode(square)},
    ]


def write_coco(folder: Path, content: dict) -> None:
    for i, (height, width) in enumerate(SIZES):
        photograph(folder / "images" / f"{i + 1}.png", (width, height), seed=i)
    (folder / "set.json").write_text(json.dumps(content))
    (folder / "detections.json").write_text(json.dumps(detections_content()))


def write_keypoints(folder: Path) -> None:
    """The same with keypoints of the cats, in the annotations and in the detections."""
    content, found = coco_content(), detections_content()
    content["categories"][0] |= {"keypoints": ["left ear", "right ear", "tail"], "skeleton": [[1, 2], [1, 3]]}
    content["annotations"][0] |= {"keypoints": [4, 5, 2, 9, 5, 1, 0, 0, 0], "num_keypoints": 2}
    content["annotations"][2]["keypoints"] = [0] * 9
    for entry in found:
        entry["keypoints"] = [4, 5, 0.8, 9.5, 5, 0.4, 12, 8, 0.01]
    write_coco(folder, content)
    (folder / "detections.json").write_text(json.dumps(found))


def write_lvis(folder: Path) -> None:
    """The same as LVIS has it."""
    content = coco_content()
    for category, frequency in zip(content["categories"], "rf", strict=True):
        category |= {"frequency": frequency, "image_count": 1, "instance_count": 2, "synset": "cat.n.01"}
    for image, negative in zip(content["images"], ([], [1]), strict=True):
        image |= {"neg_category_ids": negative, "not_exhaustive_category_ids": [7]}
    write_coco(folder, content)


def write_cityscapes(folder: Path) -> None:
    """The same with the void regions that ``import --format=cityscapes`` writes."""
    content = coco_content()
    for image, (height, width) in zip(content["images"], SIZES, strict=True):
        void = np.zeros((height, width), bool)
        void[-4:] = True
        image["void"] = encode(void)
    write_coco(folder, content)


def write_stuff(folder: Path) -> None:
    """Objects, and their stuff as pictures of labels and as a json."""
    content = coco_content()
    write_coco(folder, content)
    (folder / "labels").mkdir()
    regions = []
    for i, (height, width) in enumerate(SIZES, 1):
        labels = np.full((height, width), 1, np.uint8)
        labels[height // 2 :] = i
        labels[:, 0], labels[:3, 3:6] = 255, 0
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
        for label in np.unique(labels[(labels > 0) & (labels < 255)]).tolist():
            region = {"image_id": i, "category_id": 90 + label, "segmentation": encode(labels == label)}
            regions.append({"id": len(regions) + 1, "iscrowd": 0, "area": 9, "bbox": [0, 0, 3, 3], **region})
    regions.append({"id": 9, "image_id": 2, "category_id": 183, "segmentation": [[1, 1, 5, 1, 5, 5]]})
    kinds = ((91, "sky", "outdoor"), (92, "grass", "ground"), (183, "other", "other"))
    categories = [{"id": k, "name": name, "supercategory": above} for k, name, above in kinds]
    stuff = {"images": content["images"], "annotations": regions, "categories": categories}
    (folder / "stuff.json").write_text(json.dumps(stuff))


def write_panoptic(folder: Path) -> None:
    """COCO's panoptic json of the same images: stuff above, a thing below, and a column without a segment."""
    images, annotations = [], []
    (folder / "set").mkdir(parents=True)
    for i, (height, width) in enumerate(SIZES, 1):
        photograph(folder / "images" / f"{i}.png", (width, height), seed=i - 1)
        numbers = np.full((height, width), 300 * i)
        numbers[height // 2 :] = 1
        numbers[:, 0] = 0
        colours = np.stack([numbers % 256, numbers // 256, numbers * 0], -1).astype(np.uint8)
        Image.fromarray(colours).save(folder / "set" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        segments = [
            {"id": 300 * i, "category_id": 9, "iscrowd": 0, "area": 5, "bbox": [0, 0, 4, 4]},
            {"id": 1, "category_id": 2, "iscrowd": i % 2, "area": 5, "bbox": [0, 0, 4, 4]},
        ]
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": segments})
    kinds = ((2, "cat", 1), (9, "sky", 0))
    categories = [{"id": k, "name": name, "isthing": thing} for k, name, thing in kinds]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "set.json").write_text(json.dumps(content))


def write_segments(folder: Path) -> None:
    """A panoptic data set, with its own segments as predictions, and detections."""
    write_panoptic(folder)
    (folder / "segments").mkdir()
    for path in (folder / "set").iterdir():
        (folder / "segments" / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "set.json").read_text())
    (folder / "segments.json").write_text(json.dumps({"annotations": content["annotations"]}))
    found = [{"image_id": 1, "category_id": 2, "score": 0.9, "bbox": [4, 3, 16, 6]}]
    (folder / "detections.json").write_text(json.dumps(found))


PICTURES = {
    "png": [{"mode": m} for m in ("RGB", "RGBA", "L", "P", "1", "I;16", "LA")],
    "jpeg": [{"mode": m} for m in ("RGB", "L", "CMYK")] + [{"mode": "RGB", "progressive": True}],
    "tiff": [{"mode": m} for m in ("RGB", "L", "F", "I;16", "I", "CMYK")]
    + [{"mode": "RGB", "compression": c} for c in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    + [{"mode": "RGB", "pages": 3}],
    "webp": [{"mode": "RGB"}, {"mode": "RGBA", "lossless": True}, {"mode": "RGB", "pages": 3}],
    "bmp": [{"mode": m} for m in ("RGB", "L", "P", "1")],
    "gif": [{"mode": "P"}, {"mode": "L"}, {"mode": "RGB", "pages": 3}],
}  # fmt: skip


def picture(kind: str, mode: str = "RGB", pages: int = 1, **options) -> bytes:
    """A small picture file of noise, with an orientation where the format has one."""
    frames = []
    for seed in range(pages):
        rng = np.random.default_rng(seed)
        if mode in ("I;16", "I", "F"):
            values = rng.integers(0, 60000, (9, 13)).astype(
                {"I;16": np.uint16, "I": np.int32, "F": "f4"}[mode]
            )
            frames.append(Image.fromarray(values))
        else:
            frames.append(Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)).convert(mode))
    if pages > 1:
        options |= {"save_all": True, "append_images": frames[1:]}
    if kind in ("jpeg", "png", "webp"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    file = io.BytesIO()
    frames[0].save(file, kind, **options)
    return file.getvalue()


ARRAYS = {"a.weight": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2)), "empty": np.zeros((0, 3))}


def write_checkpoints(folder: Path, kind: str, goldens: Path) -> None:
    """The small files of one format, in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in goldens.iterdir():
        stream = path.name.endswith(".stream.pth")
        own = {"zip": path.name.endswith((".zip.pth", ".pt")), "stream": stream}
        if own.get(kind, path.suffix == f".{kind}"):
            (folder / path.name).write_bytes(path.read_bytes())
    if kind == "pkl":
        for protocol in (0, 2, 4):
            (folder / f"{protocol}.pkl").write_bytes(pickle.dumps({"model": ARRAYS}, protocol))
    if kind == "npz":
        np.savez(folder / "plain.npz", **ARRAYS)
        np.savez_compressed(folder / "compressed.npz", **ARRAYS)
    if kind == "h5":
        with open(folder / "weights.h5", "wb") as file:
            write_keras(file, {f"{layer}/{kind}": np.ones((3, 2), np.float32) for layer, kind in KERAS})


YAML = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: somewhere.pkl
  MASK_ON: True
  PIXEL_STD: [57.375, 57.12, 58.395]
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 50, NORM: GN, STRIDE_IN_1X1: False, OUT_FEATURES: [res2, res3, res4, res5]}
  FPN: {NORM: GN, IN_FEATURES: [res2, res3, res4, res5]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]], ASPECT_RATIOS: [[0.5, 1.0, 2.0]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], PRE_NMS_TOPK_TRAIN: 2000, POST_NMS_TOPK_TEST: 1000}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5], NUM_CLASSES: 8, SCORE_THRESH_TEST: 0.1}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_CONV: 4, NUM_FC: 1, NORM: GN, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 4, NORM: GN, POOLER_RESOLUTION: 14}
SOLVER: {STEPS: "(210000, 250000)", MAX_ITER: 270000}
INPUT: {MIN_SIZE_TRAIN: "(640, 672)", MIN_SIZE_TEST: 800, FORMAT: BGR}
DATASETS: {TRAIN: '("cityscapes_fine_instance_seg_train",)'}
VERSION: 2
"""

KERAS = [(layer, kind) for layer in ("conv1", "rpn_class_raw", "mrcnn_mask") for kind in ("kernel", "bias")]
CLASS = """
import numpy as np
from mrcnn.config import Config

SIDE = 512

class Cells(Config):
    NAME = "cells"
    NUM_CLASSES = 1 + 2
    BACKBONE = "resnet50"
    IMAGE_MAX_DIM = IMAGE_MIN_DIM = SIDE
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    MEAN_PIXEL = np.array([43.5, 39.5, 48.25])

class Predict(Cells):
    DETECTION_MIN_CONFIDENCE = 0
"""

PYTHON = """
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
norm_cfg = dict(type='BN', requires_grad=False)
classes = ('cat', 'dog')
size = (1333, 800)
model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(depth=50, norm_cfg=norm_cfg, style='caffe', init_cfg=None, frozen_stages=1),
    rpn_head=dict(anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0])),
    roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)),
    test_cfg=dict(rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=size, keep_ratio=True)]
test_dataloader = dict(dataset=dict(pipeline=pipeline, metainfo=dict(classes=classes)))
max_epochs = 12 * 2
"""
