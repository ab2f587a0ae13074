"""Record RegNets of Detectron2 and of MMDetection under their pyramids, with weights made from their names.

Usage: python tests/goldens/record_regnet.py    (needs torch and both libraries; the tests do not)

The models are those of the libraries' config files, narrow: "x", Detectron2's RegNetX of its 1x schedule,
with frozen batch norm and no norm in the pyramid; "y", the RegNetY of its new baselines, with
squeeze-and-excitation and batch norm everywhere; "mmdet", MMDetection's RegNetX. "names" holds whole
detectors; what is recorded is their backbones. MMDetection's and Detectron2's RegNetX are the same
function of renamed weights, which the script asserts.

Stages and levels are recorded for a batch of two images on one canvas and for the smaller one alone on its
own canvas (the two differ by more than the borders: squeeze-and-excitation averages over the canvas);
gradients for a random projection of all levels, a row for each name in "gradient_names": samples, and behind
them the norm. "y/train" normalises with the batch's own statistics and moves the running ones ("statistics",
flat, in the order of "names"). On a CPU torch has no synchronised batch norm, so that the script puts
torch's ordinary one, which is the same on one device, in its place.

The environments are those of record_detectron2_c4.py and record_mmdet_model.py together. mmcv's compiled
operators are not needed here.
"""

import copy
import importlib.machinery
import json
import sys
import types
from pathlib import Path

import detectron2
import mmcv
import numpy as np
import torch
from detectron2.config import LazyConfig, instantiate
from seeded_weights import (
    sampled,
    seeded_detectron2_regnet_weight,
    seeded_images,
    seeded_mmdet_weight,
    seeded_projection,
)

sys.modules["mmcv._ext"] = types.ModuleType("mmcv._ext")
sys.modules["mmcv._ext"].__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
sys.modules["mmcv._ext"].__getattr__ = lambda name: None
mmcv.__version__ = "2.1.0"  # MMDetection 3.3.0 refuses mmcv 2.2.0 by its number alone

import mmdet  # noqa: E402
import mmdet.models  # noqa: E402, F401  (registers the parts)
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

init_default_scope("mmdet")

# w_0, w_a, w_m, depth and group width: stages of 1, 2, 3 and 1 blocks, whose widths 16, 32, 64 and 128 become
# 12, 36, 60 and 132 to be multiples of the groups' width.
ARCHITECTURE = {"w_0": 16, "w_a": 14.0, "w_m": 2.0, "depth": 7, "group_width": 12}
CHANNELS, CLASSES, FC = 16, 3, 32
# Height and width of the canvas and of the images on it; the smaller image alone has its own canvas.
CANVAS, IMAGES, OWN_CANVAS = (64, 96), [(64, 96), (40, 60)], (64, 64)
CONFIGS = {
    "x": "COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x.py",
    "y": "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ.py",
    "mmdet": "regnet/mask-rcnn_regnetx-3.2GF_fpn_1x_coco.py",
}
SAMPLED, GRADIENTS = 500, 20


def seeded(model, weight):
    model.load_state_dict(
        {name: torch.as_tensor(weight(name, tuple(v.shape))) for name, v in model.state_dict().items()}
    )
    return model.eval()


def detectron2_model(variant, norm=None):
    """A whole detector of a config file, narrow; ``norm`` replaces the backbone's."""
    model = LazyConfig.load(str(Path(detectron2.__file__).parents[1] / "configs" / CONFIGS[variant])).model
    body, heads = model.backbone.bottom_up, model.roi_heads
    for name, value in ARCHITECTURE.items():
        body[name] = value
    body.freeze_at = 0
    if norm:
        body.norm = model.backbone.norm = norm
    model.backbone.out_channels = CHANNELS
    model.proposal_generator.head.in_channels = CHANNELS
    heads.num_classes = CLASSES
    heads.box_head.input_shape.channels = heads.mask_head.input_shape.channels = CHANNELS
    heads.box_head.conv_dims = [CHANNELS] * len(heads.box_head.conv_dims)
    heads.box_head.fc_dims = [FC] * len(heads.box_head.fc_dims)
    heads.box_predictor.input_shape.channels = FC
    heads.mask_head.conv_dims = [CHANNELS] * len(heads.mask_head.conv_dims)
    return seeded(instantiate(model), seeded_detectron2_regnet_weight)


def mmdet_model():
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / CONFIGS["mmdet"]).model
    a = ARCHITECTURE
    config.backbone.arch = {
        "w0": a["w_0"], "wa": a["w_a"], "wm": a["w_m"], "depth": a["depth"], "group_w": a["group_width"],
        "bot_mul": 1.0,
    }  # fmt: skip
    config.backbone.frozen_stages, config.backbone.init_cfg = -1, None
    config.neck.update(in_channels=[12, 36, 60, 132], out_channels=CHANNELS)
    config.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    roi = config.roi_head
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = CHANNELS
    roi.bbox_head.update(in_channels=CHANNELS, fc_out_channels=FC, num_classes=CLASSES)
    roi.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, num_classes=CLASSES)
    return seeded(MODELS.build(config), seeded_mmdet_weight)


def renamed(name):
    """Detectron2's name of an array of MMDetection's RegNet."""
    if not name.startswith("layer"):
        return name.replace("conv1", "stem.conv").replace("bn1", "stem.bn")
    layer, block, *rest = name.split(".")
    part = f"s{layer[5:]}.b{int(block) + 1}."
    if rest[0] == "downsample":
        return part + {"0": "proj", "1": "bn"}[rest[1]] + f".{rest[2]}"
    kind, letter = rest[0][:-1], "abc"[int(rest[0][-1]) - 1]
    return part + f"f.{letter}" + ("_bn" if kind == "bn" else "") + f".{rest[1]}"


def place(images, canvas):
    """Images in the upper left corner of a canvas of zeros, float32 [B, 3, H, W]."""
    batch = np.zeros((len(images), *canvas, 3), np.float32)
    for out, (height, width) in zip(batch, images, strict=True):
        out[:height, :width] = seeded_images(height, width)[0]
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()


def maps(model, x):
    """Stem, stages and levels by name, channels last at the end; differentiable."""
    seen = {}
    if hasattr(model, "neck"):
        stem = model.backbone.norm1.register_forward_hook(lambda part, x, out: seen.update(stem=out.relu()))
        stages = model.backbone(x)
        levels = model.neck(stages)
        seen |= {f"C{i}": stage for i, stage in enumerate(stages, 2)}
        seen |= {f"P{i}": level for i, level in enumerate(levels, 2)}
    else:
        body = model.backbone.bottom_up
        stem = body.stem.register_forward_hook(lambda part, x, out: seen.update(stem=out))
        hook = body.register_forward_hook(lambda part, x, out: seen.update(stages=out))
        levels = model.backbone(x)
        hook.remove()
        seen |= {f"C{int(name[1:]) + 1}": stage for name, stage in seen.pop("stages").items()}
        seen |= {name.upper(): level for name, level in levels.items()}
    stem.remove()
    return seen


def backbone_parameters(model):
    return {k: p for k, p in model.named_parameters() if k.startswith(("backbone.", "neck."))}


def run(model, x):
    """Maps, and gradients of a projection of the levels with respect to the input and the weights."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    found = maps(model, x)
    total = 0
    for name, level in found.items():
        if name.startswith("P"):
            shape = (len(level), *level.shape[2:], level.shape[1])
            factors = torch.from_numpy(seeded_projection(name, shape)).permute(0, 3, 1, 2)
            total = total + (level * factors.to(level.dtype)).sum()
    total.backward()
    gradients = {name: p.grad.clone() for name, p in backbone_parameters(model).items()}
    stages = {name: value.detach().permute(0, 2, 3, 1).numpy() for name, value in found.items()}
    return stages, x.grad.permute(0, 2, 3, 1).numpy(), gradients


def record(golden, prefix, model, x, whole):
    """One batch into ``golden``; of maps not in ``whole`` samples."""
    twin = copy.deepcopy(model).double()
    stages, of_input, gradients = run(model, x)
    exact, exact_input, exact_gradients = run(twin, x.double())
    errors = {k: np.abs(v - exact[k]).max() / np.abs(v).max() for k, v in stages.items()}
    ways = {k: float((g - exact_gradients[k]).norm() / g.norm()) for k, g in gradients.items()}
    ways["input"] = np.linalg.norm(of_input - exact_input) / np.linalg.norm(exact_input)
    print(f"{prefix}: rms", {k: round(float(np.sqrt(np.mean(v**2))), 3) for k, v in stages.items()})
    print(f"   float32 - float64: maps {max(errors.values()):.0e}, gradients {max(ways.values()):.0e}")
    assert max(errors.values()) < 1e-5 and max(ways.values()) < 3e-5, max(ways, key=ways.get)
    for name, value in stages.items():
        if name not in whole:
            golden[f"{prefix}/{name}_shape"] = np.array(value.shape)
            value = sampled(name, value, SAMPLED)
        golden[f"{prefix}/{name}"] = value
    golden[f"{prefix}/input_gradient"] = np.append(
        sampled("input", of_input, SAMPLED), np.linalg.norm(of_input.astype(np.float64))
    )
    rows = []
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        assert norm, name
        rows.append(np.append(sampled(name, gradient.numpy(), GRADIENTS), norm))
    golden[f"{prefix}/gradients"] = np.float32(rows)
    golden[f"{prefix}/gradient_names"] = np.array(json.dumps(list(gradients)))
    return stages


def main():
    golden = {
        "architecture": json.dumps(ARCHITECTURE),
        "canvas": np.array(CANVAS),
        "own_canvas": np.array(OWN_CANVAS),
        "images": np.array(IMAGES),
        "versions": ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, detectron2, mmdet)),
    }
    golden = {k: np.array(v) for k, v in golden.items()}
    pair, alone = place(IMAGES, CANVAS), place(IMAGES[1:], OWN_CANVAS)
    models = {"x": detectron2_model("x"), "y": detectron2_model("y"), "mmdet": mmdet_model()}
    for variant, model in models.items():
        names = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        golden[f"{variant}/names"] = np.array(json.dumps(names))
        whole = {f"C{i}" for i in range(2, 6)} if variant != "mmdet" else ()
        together = record(golden, f"{variant}/pair", model, pair, whole)
        apart = record(golden, f"{variant}/alone", model, alone, ())
        print("   C5 differs by", np.abs(together["C5"][1:, :2, :2] - apart["C5"]).max())

    train = detectron2_model("y", "BN").train()
    before = copy.deepcopy(train.state_dict())
    record(golden, "y/train", train, pair, ())
    statistics = {k: v for k, v in train.state_dict().items() if k.startswith("backbone.") and "running" in k}
    assert not any(torch.equal(value, before[name]) for name, value in statistics.items())
    golden["y/train/statistics"] = torch.cat(list(statistics.values())).numpy()

    weights = {renamed(k): v for k, v in models["mmdet"].backbone.state_dict().items() if "tracked" not in k}
    twin = copy.deepcopy(models["x"].backbone.bottom_up)
    twin.load_state_dict(weights)
    for one, other in zip(twin(pair).values(), models["mmdet"].backbone(pair), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    path = Path(__file__).with_name("regnet.npz")
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size, "bytes,", golden["versions"])


if __name__ == "__main__":
    main()
