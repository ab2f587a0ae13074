"""Record what Detectron2 makes of photographs with real weights.

Usage: python tests/goldens/record_detectron2_checkpoint.py SHARED WEIGHTS
    SHARED: the folder with data/balloon and checkpoints; WEIGHTS: what its expand.py wrote.
    (needs torch and detectron2; the tests do not)
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from photographs import LARGE, derived_photographs
from pycocotools import mask as rle_codec
from seeded_weights import sampled


def record_backbone(photo, weights):
    """C2 to C5 of the ImageNet ResNet-50, of a photograph as Detectron2 resizes it."""
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    body = build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    DetectionCheckpointer(body).load(str(weights / "R-50.pkl"))
    image = read_image(str(photo), "BGR")
    resized = ResizeShortestEdge([224, 224], 320).get_transform(image).apply_image(image)
    pixels = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    mean = torch.tensor(cfg.MODEL.PIXEL_MEAN)[:, None, None]
    height, width = resized.shape[:2]
    padded = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    padded[0, :, :height, :width] = pixels - mean
    with torch.no_grad():
        stages = body(padded)
    golden = {"backbone/photo": np.array(photo.name), "backbone/size": np.array([height, width])}
    for name, values in stages.items():
        values = values.permute(0, 2, 3, 1).numpy()
        name = f"C{name[-1]}"
        golden[f"backbone/{name}_shape"] = np.array(values.shape)
        golden[f"backbone/{name}"] = sampled(name, values, 500)
    return golden


def record_photographs(shared, weights):
    """The balloon detector's detections on `derived_photographs`."""
    golden = {}
    predictors = {}
    for size in ((448, 640), (800, 1333)):
        cfg = get_cfg()
        cfg.merge_from_file(str(shared / "checkpoints" / "detectron2_balloon.yaml"))
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size
        cfg.MODEL.WEIGHTS = str(weights / "model_final.pkl")
        cfg.DATASETS.TEST, cfg.DATASETS.TRAIN = (), ()
        predictors[size] = DefaultPredictor(cfg)
    with tempfile.TemporaryDirectory() as out:
        for name, path, checksum in derived_photographs(shared / "data" / "balloon", Path(out)):
            size = (800, 1333) if name in LARGE else (448, 640)
            image = read_image(str(path), "BGR")
            found = predictors[size](image)["instances"]
            masks = np.asfortranarray(found.pred_masks.numpy().transpose(1, 2, 0).astype(np.uint8))
            counts = [rle["counts"].decode() for rle in rle_codec.encode(masks)] if len(found) else []
            golden[f"{name}/checksum"], golden[f"{name}/size"] = np.array(checksum), np.array(image.shape[:2])
            golden[f"{name}/boxes"] = found.pred_boxes.tensor.numpy()
            golden[f"{name}/scores"] = found.scores.numpy()
            golden[f"{name}/masks"] = np.array(json.dumps(counts))
            print(name, image.shape, len(found), found.scores[:4].tolist())
    return golden


if __name__ == "__main__":
    shared, weights = map(Path, sys.argv[1:])
    photos = json.loads((shared / "data" / "balloon" / "val.json").read_text())["images"]
    photo = shared / "data" / "balloon" / "val" / photos[0]["file_name"]
    golden = record_backbone(photo, weights) | record_photographs(shared, weights)
    path = Path(__file__).with_name("detectron2_checkpoint.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes")
