"""torchvision's or Detectron2's training losses and each parameter's gradient, photograph by photograph.

    PYTHON benchmarks/loss_parity/record.py LIBRARY ANNOTATIONS IMAGES DIRECTORY --ids=ID,ID,...
        [--weights=FILE --config=CONFIG --min_size=N --max_size=N --noise=SIGMA --seed=N]

PYTHON is the interpreter of an environment with the library in it; this package is not needed.
ANNOTATIONS is COCO's json and IMAGES its folder; --ids names the images. CONFIG is the name of one of
torchvision's functions (maskrcnn_resnet50_fpn) or of Detectron2's model zoo. All stages train, the samplers
take the lowest indices first, and crowd regions are left out, as both libraries' own training does.

Writes DIRECTORY/instances.json (only the images named), weights.pth, reference.json (settings and
losses) and ID.npz, the gradients (about 170 MB each). Without --weights they are drawn from the
parameters' names as for benchmarks/whole_model.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "whole_model"), str(ROOT / "tests" / "goldens")]
from run_reference import seed  # noqa: E402  (of benchmarks/whole_model)

# Detectron2's names of the losses that have another name there.
NAMES = {
    "loss_rpn_cls": "loss_objectness", "loss_rpn_loc": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
}  # fmt: skip


def noise(image, arguments):
    generator = torch.Generator().manual_seed(arguments.seed)
    return arguments.noise * torch.randn(image.shape, generator=generator)


def torchvision_trainer(arguments, coco):
    """As `references/detection` of its repository trains: xywh made xyxy and cut at the image."""
    from record_torchvision_model import LowestFirst
    from torchvision.models import detection
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    categories = sorted(coco.getCatIds())
    sizes = {"min_size": arguments.min_size, "max_size": arguments.max_size}
    name = arguments.config or "maskrcnn_resnet50_fpn"
    if name.endswith("_v2"):
        model = getattr(detection, name)(
            num_classes=len(categories) + 1, weights=None, weights_backbone=None, **sizes
        )
    else:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
        model = detection.MaskRCNN(backbone, num_classes=len(categories) + 1, **sizes)
        overwrite_eps(model, 0.0)
    state = seed(model, 1.0, arguments.logits)
    if arguments.weights:
        model.load_state_dict(torch.load(arguments.weights))
        state = model.state_dict()
    torch.save(state, arguments.directory / "weights.pth")
    for part in (model.rpn, model.roi_heads):
        part.fg_bg_sampler = LowestFirst(part.fg_bg_sampler)

    def losses(path, image, annotations):
        height, width = image["height"], image["width"]
        annotations = [a for a in annotations if not a["iscrowd"]]
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=width)
        boxes[:, 1::2].clamp_(min=0, max=height)
        masks = [coco.annToMask(a) for a in annotations]
        target = {
            "boxes": boxes,
            "labels": torch.tensor([categories.index(a["category_id"]) + 1 for a in annotations]).long(),
            "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, height, width)),
        }
        pixels = np.array(Image.open(path).convert("RGB"))
        # The pooler keeps the scales that it infers from the first image; every image has its own here.
        for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
            pool.scales = None
        pixels = torch.from_numpy(pixels).permute(2, 0, 1).float()
        return model([(pixels + noise(pixels, arguments)) / 255], [target])

    return model, losses


def detectron2_trainer(arguments, coco):
    """mask_rcnn_R_50_FPN_3x, behind Detectron2's own DatasetMapper."""
    import record_detectron2_losses  # noqa: F401  (its sampler takes the lowest indices first)
    from detectron2 import model_zoo
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.data import DatasetMapper
    from detectron2.data.transforms import ResizeShortestEdge
    from detectron2.modeling import build_model
    from detectron2.structures import BoxMode
    from detectron2.utils.events import EventStorage

    categories = sorted(coco.getCatIds())
    cfg = get_cfg()
    cfg.merge_from_file(
        model_zoo.get_config_file(arguments.config or "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    )
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.FREEZE_AT = "cpu", 0
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(categories)
    model = build_model(cfg)
    if arguments.weights:
        DetectionCheckpointer(model).load(arguments.weights)
        state = model.state_dict()
    else:
        state = seed(model, 60.0 if cfg.MODEL.PIXEL_STD[0] == 1 else 1.0, arguments.logits)
    torch.save({"model": state}, arguments.directory / "weights.pth")
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[ResizeShortestEdge([arguments.min_size] * 2, arguments.max_size)],
        image_format="BGR",
        use_instance_mask=True,
    )

    def losses(path, image, annotations):
        fields = ("bbox", "iscrowd", "segmentation")
        annotations = [
            {k: a[k] for k in fields}
            | {"category_id": categories.index(a["category_id"]), "bbox_mode": BoxMode.XYWH_ABS}
            for a in annotations
        ]
        size = {k: image[k] for k in ("height", "width")}
        inputs = mapper({"file_name": str(path), "annotations": annotations, **size})
        inputs["image"] = inputs["image"].float() + noise(inputs["image"], arguments)
        with EventStorage():
            return model([inputs])

    return model, losses


TRAINERS = {"torchvision": torchvision_trainer, "detectron2": detectron2_trainer}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", choices=TRAINERS)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ids", required=True, help="of the images, separated by commas")
    parser.add_argument("--weights")
    parser.add_argument("--config")
    parser.add_argument("--min_size", type=int, default=480)
    parser.add_argument("--max_size", type=int, default=800)
    parser.add_argument(
        "--logits", type=float, default=0.5, help="factor of drawn class logits, < 1 where they saturate"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="added to the images, in grey levels",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    ids = [int(i) for i in arguments.ids.split(",")]
    content = json.loads(arguments.annotations.read_text())
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    chosen = arguments.directory / "instances.json"
    chosen.write_text(json.dumps(content))
    coco = COCO(str(chosen))
    model, losses = TRAINERS[arguments.library](arguments, coco)
    model.train()
    reference = {
        "library": arguments.library,
        "images": str(arguments.images.resolve()),
        "config": {
            "num_classes": len(coco.getCatIds()),
            "input.test_min_size": arguments.min_size,
            "input.test_max_size": arguments.max_size,
        },
        "losses": {},
    }
    for i in ids:
        model.zero_grad()
        image = coco.imgs[i]
        values = losses(arguments.images / image["file_name"], image, coco.imgToAnns[i])
        sum(values.values()).backward()
        gradients = {k: p.grad.numpy() for k, p in model.named_parameters() if p.requires_grad}
        np.savez(arguments.directory / f"{i}.npz", **gradients)
        values = {NAMES.get(k, k): float(v.detach()) for k, v in values.items()}
        reference["losses"][i] = values
        print(image["file_name"], {k: round(v, 4) for k, v in values.items()}, flush=True)
    (arguments.directory / "reference.json").write_text(json.dumps(reference, indent=1))


if __name__ == "__main__":
    main()
