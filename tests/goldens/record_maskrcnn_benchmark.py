"""Record a small detector of maskrcnn-benchmark, and the names of its large ones.

Usage: python tests/goldens/record_maskrcnn_benchmark.py CHECKOUT    (needs torch, torchvision and yacs; the
tests do not). CHECKOUT is a copy of facebookresearch/maskrcnn-benchmark, whose Python runs unchanged.

Of its compiled operators two are called, and given here: RoIAlign by torchvision's, which has its arithmetic
if it is not aligned, and NMS written out from csrc/cpu/nms_cpu.cpp. Modules that today's torch and
NumPy lack are replaced by what they contained.

No proposal lies outside of its image (there it would stay as a box of a single pixel, here it is dropped),
and no two have the same objectness, whose order would be open.
"""

import json
import pathlib
import sys
import types

import numpy as np
import torch
import torchvision
from PIL import Image
from seeded_weights import seeded_benchmark_weight, seeded_scene

FOLDER = pathlib.Path(__file__).parent
SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 16,
    "MODEL.RPN.ANCHOR_SIZES": (8, 16, 32, 64, 128),
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 200,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 40,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": 40,
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 4,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 24,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": (16, 16),
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": 9,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 160,
}
# Height and width: enlarged by the short side, reduced by the limit of the long one and by the short side.
SCENES = ((66, 88), (180, 72), (210, 280))
ZOO = (
    "e2e_mask_rcnn_R_50_FPN_1x",
    "e2e_mask_rcnn_R_50_C4_1x",
    "e2e_faster_rcnn_X_101_32x8d_FPN_1x",
    "gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn",
)


def nms(boxes, scores, threshold):
    """csrc/cpu/nms_cpu.cpp: with the width of a box that includes its last pixel."""
    boxes, order = boxes.numpy(), torch.sort(scores, descending=True)[1].numpy()
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    suppressed = np.zeros(len(boxes), bool)
    for place, i in enumerate(order):
        if suppressed[i]:
            continue
        for j in order[place + 1 :]:
            low, high = np.maximum(boxes[i, :2], boxes[j, :2]), np.minimum(boxes[i, 2:], boxes[j, 2:])
            overlap = np.prod(np.maximum(np.float32(0), high - low + 1))
            suppressed[j] |= overlap / (areas[i] + areas[j] - overlap) >= threshold
    return torch.from_numpy(np.flatnonzero(~suppressed))


def roi_align(features, regions, scale, height, width, ratio):
    return torchvision.ops.roi_align(features, regions, (height, width), scale, ratio, aligned=False)


class Operators(types.ModuleType):
    """Stands for the compiled module, of which no other operator is called."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def prepare(checkout):
    """Make the library importable."""
    sys.path.insert(0, checkout)
    np.float = float
    amp = types.SimpleNamespace(float_function=lambda function: function)
    sys.modules["maskrcnn_benchmark._C"] = Operators("maskrcnn_benchmark._C")
    for name, content in {
        "apex": {"amp": amp},
        "cv2": {"__version__": "4.0.0"},
        "pycocotools": {"mask": None},
        "pycocotools.mask": {},
        "torch._six": {"PY3": True, "string_classes": str},
    }.items():
        sys.modules.setdefault(name, types.ModuleType(name)).__dict__.update(content)
    torch._six = sys.modules["torch._six"]
    # The package of the transforms, without its data sets.
    data = sys.modules["maskrcnn_benchmark.data"] = types.ModuleType("maskrcnn_benchmark.data")
    data.__path__ = [f"{checkout}/maskrcnn_benchmark/data"]
    import maskrcnn_benchmark

    maskrcnn_benchmark._C = sys.modules["maskrcnn_benchmark._C"]


def build(file, **changes):
    from maskrcnn_benchmark.config import cfg
    from maskrcnn_benchmark.modeling.detector import build_detection_model

    cfg = cfg.clone()
    cfg.merge_from_file(f"{sys.argv[1]}/configs/{file}.yaml")
    cfg.merge_from_list([x for item in {"MODEL.DEVICE": "cpu", **changes}.items() for x in item])
    return cfg, build_detection_model(cfg).eval()


def main():
    prepare(sys.argv[1])
    from maskrcnn_benchmark.data.transforms.build import build_transforms
    from maskrcnn_benchmark.modeling.roi_heads.mask_head.inference import Masker
    from maskrcnn_benchmark.structures.image_list import to_image_list

    cfg, model = build(ZOO[0], **SETTINGS)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    weights = {
        name: value
        if "cell_anchors" in name
        else torch.from_numpy(seeded_benchmark_weight(name, value.shape))
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(weights)
    transform = build_transforms(cfg, is_train=False)
    golden = {
        f"cell_anchors.{i}": weights[f"rpn.anchor_generator.cell_anchors.{i}"].numpy() for i in range(5)
    }
    for n, (height, width) in enumerate(SCENES):
        image = seeded_scene(height, width, [(5, 5, width - 20, height - 9)])["image"]
        nothing = types.SimpleNamespace(resize=lambda size: True)  # the place of annotations
        network_input, _ = transform(Image.fromarray(image), nothing)
        batch = to_image_list(network_input, cfg.DATALOADER.SIZE_DIVISIBILITY)
        with torch.no_grad():
            (proposals,), _ = model.rpn(batch, model.backbone(batch.tensors))
            (found,) = model(batch)
        order = torch.sort(found.get_field("scores"), descending=True, stable=True)[1]
        found = found[order].resize((width, height))
        masks = Masker(threshold=0.5, padding=1)([found.get_field("mask")], [found])[0]
        golden |= {
            f"{n}.input": network_input.numpy().transpose(1, 2, 0)[::7, ::5],
            f"{n}.size": np.array(network_input.shape[1:]),
            f"{n}.proposals": proposals.bbox.numpy(),
            f"{n}.boxes": found.bbox.numpy(),
            f"{n}.xywh": found.convert("xywh").bbox.numpy(),
            f"{n}.scores": found.get_field("scores").numpy(),
            f"{n}.labels": found.get_field("labels").numpy(),
            f"{n}.masks": np.packbits(masks.numpy().astype(bool).reshape(len(found), -1), axis=1),
        }
        sides = proposals.bbox[:, 2:] - proposals.bbox[:, :2] + 1
        scores = proposals.get_field("objectness")
        assert sides.min() > 1 and len(scores.unique()) == len(scores), (sides.min(), scores)
        print(n, golden[f"{n}.size"], len(found), golden[f"{n}.scores"].round(3), golden[f"{n}.labels"])
    zoo = {}
    for file in ZOO:
        built = build(file)[1].state_dict()
        zoo[file] = {name: list(value.shape) for name, value in built.items()}
    golden["names"], golden["zoo"] = json.dumps(shapes), json.dumps(zoo)
    np.savez_compressed(FOLDER / "maskrcnn_benchmark.npz", **golden)


if __name__ == "__main__":
    main()
