"""What torchvision, Detectron2 or MMDetection detects in a folder of images, with a full-size model.

    PYTHON benchmarks/whole_model/run_reference.py LIBRARY IMAGES DIRECTORY [--weights=FILE --config=CONFIG]

PYTHON is the interpreter of an environment with the library in it; this package is not needed.
CONFIG is the name of one of torchvision's functions (maskrcnn_resnet50_fpn), a name of Detectron2's
model zoo (COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml) or a file (of its projects a .py), or
MMDetection's config file.
Writes DIRECTORY/weights.pth (a checkpoint as the library saves it), DIRECTORY/detections.json and, of a
Panoptic FPN, DIRECTORY/panoptic.npz with the number of each pixel's segment.
Without --weights they are drawn from the parameters' names, with gains that spread the scores, so
that about a hundred detections an image hang on every part of the model.
"""

import argparse
import json
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from pycocotools import mask as rle_codec

# Of the layers whose outputs are scores, deltas and masks; 2 ** 0.5 keeps the variance behind a ReLU.
CLASS_LOGITS = r"cls_score|fc_cls"
GAINS = [
    (r"cls_logits|objectness_logits", 2.0),
    # MMDetection ranks probabilities: large logits would be equal as such, and ties fall anyhow.
    (r"rpn_cls", 0.4),
    (r"rpn\.head\.bbox_pred|anchor_deltas|rpn_reg", 0.15),
    (CLASS_LOGITS, 1.5),
    (r"bbox_pred|fc_reg", 0.5),
    (r"score_lowres", 3.0),
    (r"mask_fcn_logits|mask_head\.predictor|conv_logits", 1.5),
    # PointRend's: logits of points vary from cell to cell, and coarse ones are read by the points' layers
    (r"coarse_head\.prediction|mask_head\.fc_logits", 3.0),
    (r"point_head\.(predictor|fc_logits)", 1.5),
    (r"inner_blocks|fpn_lateral|lateral_convs", 0.1),
    # Offsets of a pixel or two, as trained ones are. With the gain below those of an X152 are up to 180
    # pixels, and Detectron2's pyramid differs by 60 % from its own after noise of 1e-7 in the picture.
    (r"conv\d?_offset", 0.1),
    (r"", 2.0**0.5),
]
NORM = (
    r"(bn\d?|gn\d?|norm\d?|(downsample|stem|bns)\.\d|\.1|downsample_layers\.\d\.[01])"
    r"\.(weight|running_)|\.gamma$"
)
# The last norm of a block: small, so that sixteen or thirty-three residual additions keep their size.
LAST_NORM = r"(bn3|gn3|conv3\.norm)\.weight|\.gamma$"


def seeded(
    name: str, value: torch.Tensor, input_scale: float, logits: float, branches: float
) -> torch.Tensor:
    """A value for a parameter, drawn from its name."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(value.shape)
    if not value.is_floating_point() or name.startswith(("pixel_", "data_preprocessor")):
        return value
    if len(shape) == 1 and re.search(NORM, name):
        last = re.search(LAST_NORM, name)
        low, high = (0.2 * branches, 0.4 * branches) if last else (0.5, 1.5)
        drawn = rng.uniform(low, high, shape)
        if name.endswith("running_mean"):
            drawn = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        drawn = 0.1 * rng.standard_normal(shape)
    else:
        transposed = re.search(r"conv5_mask|deconv|upsample", name)
        fan_in = shape[0] if transposed else np.prod(shape[1:])
        if "score_lowres" in name:  # each output sees four of the sixteen places of a kernel
            fan_in = 4 * shape[0]
        gain = next(gain for pattern, gain in GAINS if re.search(pattern, name))
        if re.search(r"(body|stem|^backbone)\.conv1\.weight", name):
            gain /= input_scale
        if re.search(rf"{CLASS_LOGITS}|rpn_cls", name):
            gain *= logits
        drawn = rng.standard_normal(shape) * gain / fan_in**0.5
    return torch.from_numpy(np.asarray(drawn, np.float32))


def seed(model, input_scale: float, logits: float) -> dict[str, torch.Tensor]:
    """Draws a model's parameters; returns its state dict."""
    parameters = model.state_dict().items()
    # With 50 blocks the features of the last stages would grow tenfold, and boxes to the whole picture.
    branches = 0.5 if sum(bool(re.search(LAST_NORM, name)) for name, _ in parameters) > 40 else 1.0
    state = {name: seeded(name, value, input_scale, logits, branches) for name, value in parameters}
    model.load_state_dict(state)
    return state


def torchvision_predictor(arguments):
    """One of its functions; the first versions as their COCO_V1 weights are: frozen batch norm, eps 0."""
    from torchvision.models import detection
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    name = arguments.config or "maskrcnn_resnet50_fpn"
    if name.endswith("_v2"):
        model = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    else:
        kinds = {"mask": detection.MaskRCNN, "fast": detection.FasterRCNN, "keyp": detection.KeypointRCNN}
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
        model = kinds[name[:4]](backbone, num_classes=2 if name.startswith("keyp") else 91).eval()
        overwrite_eps(model, 0.0)
    torch.save(seed(model, 1.0, arguments.logits), arguments.directory / "weights.pth")

    def predict(path):
        # torchvision leaves the orientation to its users.
        image = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        # The pooler keeps the scales that it infers from the first image; every image has its own here.
        heads = model.roi_heads
        for pool in filter(None, (heads.box_roi_pool, heads.mask_roi_pool, heads.keypoint_roi_pool)):
            pool.scales = None
        out = model([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
        masks = out["masks"][:, 0] > 0.5 if "masks" in out else []
        keypoints = out["keypoints"][..., :2] if "keypoints" in out else []
        return out["boxes"], out["scores"], out["labels"] - 1, masks, keypoints

    return predict


def detectron2_predictor(arguments):
    """mask_rcnn_R_50_FPN_3x, or the yaml and weights that were given."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "goldens"))
    import detectron2_deform_conv  # noqa: F401  (before Detectron2: it stands in for what is not compiled)
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.data.detection_utils import read_image
    from detectron2.engine import DefaultPredictor

    if (arguments.config or "").endswith(".py"):
        return lazy_predictor(arguments)
    cfg = get_cfg()
    if "pointrend" in (arguments.config or ""):
        from point_rend import add_pointrend_config  # projects/PointRend has to be on the path

        add_pointrend_config(cfg)
    name = arguments.config or "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    cfg.merge_from_file(name if Path(name).exists() else model_zoo.get_config_file(name))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", arguments.weights or ""
    predictor = DefaultPredictor(cfg)
    input_scale = 60.0 if cfg.MODEL.PIXEL_STD[0] == 1 else 1.0
    if arguments.weights:
        state = predictor.model.state_dict()
    else:
        state = seed(predictor.model, input_scale, arguments.logits)
    torch.save({"model": state}, arguments.directory / "weights.pth")

    def predict(path):
        found = predictor(read_image(str(path), "BGR"))
        out = found["instances"]
        masks = out.pred_masks if out.has("pred_masks") else []
        keypoints = out.pred_keypoints[..., :2] if out.has("pred_keypoints") else []
        if "panoptic_seg" in found:
            numbers, segments = found["panoptic_seg"]
            # Its classes of stuff begin with all things.
            kinds = [(s["isthing"], s["category_id"] - (not s["isthing"])) for s in segments]
            arguments.panoptic[path.name] = numbers.numpy(), kinds
        return out.pred_boxes.tensor, out.scores, out.pred_classes, masks, keypoints

    return predict


def lazy_predictor(arguments):
    """The model and the resizing of a config file in Python, with drawn weights."""
    from detectron2.config import LazyConfig, instantiate
    from detectron2.data.detection_utils import read_image

    config = LazyConfig.load(arguments.config)
    model = instantiate(config.model).eval()
    torch.save({"model": seed(model, 1.0, arguments.logits)}, arguments.directory / "weights.pth")
    (resize,) = instantiate(config.dataloader.test.mapper.augmentations)

    def predict(path):
        image = read_image(str(path), config.model.input_format)
        resized = resize.get_transform(image).apply_image(image)
        given = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        out = model([{"image": given, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]
        return out.pred_boxes.tensor, out.scores, out.pred_classes, out.pred_masks, []

    return predict


def mmdet_predictor(arguments):
    """The model of a config file; the stand-ins for mmcv's compiled operators are the golden's."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "goldens"))
    import record_mmdet_model  # noqa: F401  (makes mmcv.ops importable)
    from mmdet.apis import inference_detector, init_detector
    from mmengine.config import Config

    if "convnext" in arguments.config:
        import mmpretrain_convnext  # noqa: F401  (registers the backbone)

    config = Config.fromfile(arguments.config, import_custom_modules=False)
    # Annotations are not read, and those of panoptic data sets need a package to be loaded at all.
    for loader in (config.test_dataloader, config.val_dataloader, config.train_dataloader):
        steps = loader.dataset.get("pipeline", [])
        loader.dataset.pipeline = [step for step in steps if step["type"] != "LoadPanopticAnnotations"]
    model = init_detector(config, None, device="cpu")
    input_scale = 60.0 if model.data_preprocessor.std.max() == 1 else 1.0
    state = seed(model, input_scale, arguments.logits)
    torch.save({"state_dict": state, "meta": {}}, arguments.directory / "weights.pth")

    seen = {}
    if hasattr(model, "panoptic_fusion_head"):  # the detections that it is given are not in its results
        fuse = model.panoptic_fusion_head.predict

        def watched(results, logits):
            seen["instances"] = results[0]
            return fuse(results, logits)

        model.panoptic_fusion_head.predict = watched

    def predict(path):
        image = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        found = inference_detector(model, np.ascontiguousarray(image[..., ::-1]))
        if "pred_panoptic_seg" in found:
            arguments.panoptic[path.name] = numbered(found.pred_panoptic_seg.sem_seg[0].numpy(), model)
        out = seen["instances"] if seen else found.pred_instances
        return out.bboxes, out.scores, out.labels, out.masks if "masks" in out else [], []

    return predict


def numbered(values: np.ndarray, model) -> tuple[np.ndarray, list[tuple[bool, int]]]:
    """MMDetection's map as numbers of segments from 1, and whether each is a thing, and its label."""
    things, nothing = model.num_things_classes, model.num_classes
    distinct = [int(x) for x in np.unique(values) if x != nothing]
    order = sorted(distinct, key=lambda x: (x < 1000, x // 1000, x))
    numbers, kinds = np.zeros(values.shape, np.int32), []
    for number, value in enumerate(order, 1):
        numbers[values == value] = number
        kinds.append((True, value % 1000) if value >= 1000 else (False, value - things))
    return numbers, kinds


PREDICTORS = {
    "torchvision": torchvision_predictor,
    "detectron2": detectron2_predictor,
    "mmdet": mmdet_predictor,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=PREDICTORS)
    parser.add_argument("images", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--config")
    parser.add_argument(
        "--logits", type=float, default=1.0, help="factor of drawn class logits, < 1 where they saturate"
    )
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    arguments.panoptic = {}
    predict = PREDICTORS[arguments.library](arguments)
    results = {}
    for path in sorted(arguments.images.iterdir()):
        with torch.no_grad():
            boxes, scores, labels, masks, keypoints = (np.asarray(x) for x in predict(path))
        rles = [rle_codec.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
        results[path.name] = {
            "boxes": boxes.tolist(),
            "scores": scores.tolist(),
            "labels": labels.tolist(),
            "masks": [{"size": r["size"], "counts": r["counts"].decode()} for r in rles],
        }
        if len(keypoints):
            results[path.name]["keypoints"] = keypoints.tolist()
        spread = ", ".join(f"{s:.3f}" for s in np.percentile(scores, [100, 50, 0])) if len(scores) else "none"
        print(f"{path.name}: {len(scores)} detections, highest, median, lowest score {spread}", flush=True)
    (arguments.directory / "detections.json").write_text(json.dumps(results))
    if arguments.panoptic:
        arrays = {name: numbers for name, (numbers, _) in arguments.panoptic.items()}
        arrays |= {f"{name}/kinds": np.array(kinds) for name, (_, kinds) in arguments.panoptic.items()}
        np.savez_compressed(arguments.directory / "panoptic.npz", **arrays)


if __name__ == "__main__":
    main()
