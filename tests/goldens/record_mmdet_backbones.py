"""Record small MMDetection detectors on other backbones: features, detections, losses and their gradients.

Usage: python tests/goldens/record_mmdet_backbones.py [NAME ...]    (the tests need nothing of it)

NAME is a file of `CASES` without its ending; all are recorded without it.

The models are MMDetection's own config files, narrow: "dcn" and "dcnv2" with deformable convolutions of both
versions, the latter with four groups of offsets; "dc5" on a dilated C5; "c4", whose shared head has the
widths of a complete ResNet-50 as it has no setting for them; "regnet", a small RegNetX with deformable
convolutions of version 2; "swin", a Swin transformer; "convnext", a ConvNeXt, for which mmpretrain 1.2.0 is
needed too; "gcb", with global context blocks; "gn_ws", with standardised kernels before group
norm; "resnest", "res2net" and "hrnet"; "pafpn" with
the loss of IoUs, and "bounded_iou"; "carafe", with CARAFE in the pyramid and in the mask head;
"soft_nms"; "groie", whose regions are made of all levels. Weights are made from their names.
"mmdet_soft_nms" also has what mmcv's Soft-NMS keeps of many boxes, in "crowd/".

The environment is described in `record_mmdet_model.py`, whose stand-ins are used with those of
`record_mmdet_cascade.py`. mmcv-lite has no compiled deformable convolution either: torchvision's
`deform_conv2d` takes its place. Its order of offsets, (y, x) for each tap, is that of mmcv's C++ source in
the wheel (`ops/csrc/pytorch/cpu/deform_conv.cpp`, where channel 2k is added to the row and 2k + 1 to the
column).

Nor has it CARAFE's reassembly, whose only kernels are CUDA's. `reassemble` below is written from what they
compute (`ops/csrc/common/cuda/carafe_naive_cuda_kernel.cuh`: the window around the cell that a new cell lies
in, its places row by row among the weights' channels, and nothing beside the map); mmcv's Python above it
runs.
"""

import copy
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from record_mmdet_cascade import SCENES, load
from record_mmdet_model import VERSIONS, channels_last
from seeded_weights import (
    sampled,
    seeded_crowd,
    seeded_mmdet_block_weight,
    seeded_mmdet_carafe_weight,
    seeded_mmdet_dcn_weight,
    seeded_mmdet_deep_weight,
    seeded_mmdet_groie_weight,
    seeded_mmdet_hrnet_weight,
    seeded_mmdet_map_weight,
    seeded_mmdet_res2net_weight,
    seeded_mmdet_soft_weight,
    seeded_mmdet_transformer_cascade_weight,
    seeded_mmdet_transformer_weight,
)
from torchvision.ops import deform_conv2d

# isort: split
import mmcv.ops.deform_conv as version_1  # only now, as record_mmdet_model.py makes it importable
import mmcv.ops.modulated_deform_conv as version_2
import mmdet
from mmcv.ops import batched_nms
from mmdet.registry import MODELS
from mmengine.config import Config

CLASSES, CHANNELS, WIDTH = 3, 16, 8
MAPS, GRADIENTS = 1000, 30  # values of a feature map and of a parameter's gradient
FILES = {
    "dcn": "dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
    "dcnv2": "dcnv2/faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco.py",
    "dc5": "faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py",
    "c4": "mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py",
    "regnet": "regnet/mask-rcnn_regnetx-3.2GF-mdconv-c3-c5_fpn_1x_coco.py",
    "swin": "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py",
    "convnext": "convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py",
    "gcb": "gcnet/mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco.py",
    "gn_ws": "gn+ws/mask-rcnn_r50_fpn_gn-ws-all_2x_coco.py",
    "resnest": "resnest/mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco.py",
    "res2net": "res2net/mask-rcnn_res2net-101_fpn_2x_coco.py",
    "hrnet": "hrnet/mask-rcnn_hrnetv2p-w32-1x_coco.py",
    "carafe": "carafe/mask-rcnn_r50_fpn-carafe_1x_coco.py",
    "groie": "groie/mask-rcnn_r50_fpn_groie_1x_coco.py",
    "soft_nms": "faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py",
    "pafpn": "pafpn/faster-rcnn_r50_pafpn_1x_coco.py",
    "bounded_iou": "faster_rcnn/faster-rcnn_r50_fpn_bounded-iou_1x_coco.py",
    "cascade": "convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py",
}
CASES = {
    "mmdet_backbones": ("dcn", "dcnv2", "dc5", "c4"),
    "mmdet_regnet": ("regnet",),
    "mmdet_swin": ("swin",),
    "mmdet_blocks": ("gcb", "gn_ws"),
    "mmdet_ious": ("pafpn", "bounded_iou"),
    "mmdet_deep": ("resnest", "res2net"),
    "mmdet_hrnet": ("hrnet",),
    "mmdet_carafe": ("carafe",),
    "mmdet_soft_nms": ("soft_nms",),
    "mmdet_groie": ("groie",),
    "mmdet_convnext": ("convnext", "cascade"),
}
# Widths 8, 16, 32 and 64; a window is larger than the last map.
SWIN = {"embed_dims": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "drop_path_rate": 0.0}
CONVNEXT = {"depths": [2, 1, 3, 1], "channels": [8, 16, 32, 64]}
# Widths 8, 16, 32 and 64, of 1, 1, 2 and 2 blocks.
REGNET = {"w0": 8, "wa": 10.0, "wm": 2.0, "depth": 6, "group_w": 4, "bot_mul": 1.0}
WEIGHTS = {
    "dcn": seeded_mmdet_dcn_weight, "dcnv2": seeded_mmdet_dcn_weight, "dc5": seeded_mmdet_map_weight,
    "c4": seeded_mmdet_map_weight, "regnet": seeded_mmdet_dcn_weight,
    "swin": seeded_mmdet_transformer_weight, "convnext": seeded_mmdet_transformer_weight,
    "cascade": seeded_mmdet_transformer_cascade_weight, "gcb": seeded_mmdet_block_weight,
    "gn_ws": seeded_mmdet_block_weight, "resnest": seeded_mmdet_deep_weight,
    "res2net": seeded_mmdet_res2net_weight, "hrnet": seeded_mmdet_hrnet_weight,
    "pafpn": seeded_mmdet_block_weight, "carafe": seeded_mmdet_carafe_weight,
    "soft_nms": seeded_mmdet_soft_weight, "groie": seeded_mmdet_groie_weight,
    "bounded_iou": seeded_mmdet_block_weight,
}  # fmt: skip
# This library's names of the losses.
NAMES = {"loss_cls": "loss_classifier", "loss_bbox": "loss_box_reg", "loss_mask": "loss_mask"}


def convolve(x, offset, weight, stride, padding, dilation, groups, offset_groups, bias, step):
    assert not bias and offset.shape[1] == 18 * offset_groups and x.shape[1] == groups * weight.shape[1]
    return deform_conv2d(x, offset, weight, None, stride, padding, dilation)


def convolve_modulated(x, offset, mask, weight, bias, stride, padding, dilation, groups, offset_groups):
    assert mask.shape[1] == 9 * offset_groups and x.shape[1] == groups * weight.shape[1]
    return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


def reassemble(x, weights, kernel_size, group_size, scale_factor):
    assert group_size == 1
    n, channels, h, w = x.shape
    windows = torch.nn.functional.unfold(x, kernel_size, padding=kernel_size // 2)
    windows = windows.reshape(n, channels, kernel_size**2, h, w)
    windows = windows.repeat_interleave(scale_factor, 3).repeat_interleave(scale_factor, 4)
    return (windows * weights[:, None]).sum(2)


version_1.deform_conv2d, version_2.modulated_deform_conv2d = convolve, convolve_modulated
sys.modules["mmcv.ops.carafe"].carafe = reassemble


def settings(case):
    """MMDetection's own config, narrow."""
    file = Path(mmdet.__file__).parent / ".mim/configs" / FILES[case]
    config = Config.fromfile(file, import_custom_modules=False)
    if case in ("convnext", "cascade"):
        importlib.import_module("mmpretrain_convnext")
    model = config.model
    model.backbone |= {"frozen_stages": -1, "init_cfg": None}
    rpn, heads = model.rpn_head, model.roi_head
    if case == "regnet":
        model.backbone.arch = REGNET
    elif case == "swin":
        model.backbone |= SWIN
    elif case == "hrnet":
        del model.backbone["frozen_stages"]
        for number in range(1, 5):
            stage = model.backbone.extra[f"stage{number}"]
            stage |= {"num_blocks": (1,) * number, "num_channels": tuple(8 * 2**i for i in range(number))}
            stage.num_modules = 2 if number == 4 else 1
    elif case in ("convnext", "cascade"):
        model.backbone |= {"arch": CONVNEXT, "drop_path_rate": 0.0, "frozen_stages": 0}
    elif case != "c4":
        model.backbone.base_channels = 32 if case == "gn_ws" else WIDTH
    if case == "carafe":
        model.neck.upsample_cfg.compressed_channels = heads.mask_head.upsample_cfg.compressed_channels = 8
    if case == "groie":
        for part in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
            part.pre_cfg |= {"in_channels": CHANNELS, "out_channels": CHANNELS}
            part.post_cfg.in_channels = CHANNELS
    if case == "pafpn":
        heads.bbox_head |= {"reg_decoded_bbox": True, "loss_bbox": {"type": "IoULoss", "loss_weight": 10.0}}
    if case in ("resnest", "res2net"):
        model.backbone |= {"depth": 50, "stem_channels": 8}
    if case == "resnest":
        # The norm of a batch of two images would multiply rounding errors from layer to layer.
        model.backbone |= {"norm_eval": True, "norm_cfg": {"type": "BN", "requires_grad": True}}
        heads.bbox_head |= {"conv_out_channels": CHANNELS, "norm_cfg": {"type": "BN"}}
        heads.mask_head.norm_cfg = {"type": "BN"}
    if case == "res2net":
        model.backbone.base_width = 6
    if "neck" in model:
        model.neck |= {"in_channels": [4 * WIDTH * 2**i for i in range(4)], "out_channels": CHANNELS}
        if case in ("regnet", "swin", "convnext", "cascade", "hrnet"):
            model.neck.in_channels = [8, 16, 32, 64]
        channels = regions = CHANNELS
        if case == "gn_ws":  # group norm has 32 groups
            channels = regions = 32
            model.neck |= {"in_channels": [128, 256, 512, 1024], "out_channels": 32}
        rpn.anchor_generator.scales = [2.5]
    else:
        channels, regions = (1024, 2048) if case == "c4" else (32 * WIDTH, 32 * WIDTH)
        rpn.anchor_generator.scales = [0.75, 1.5, 2.5, 4, 6]
    rpn |= {"in_channels": channels, "feat_channels": channels}
    heads.bbox_roi_extractor.out_channels = channels
    for head in heads.bbox_head if case == "cascade" else [heads.bbox_head]:
        head |= {"in_channels": regions, "num_classes": CLASSES}
        if case != "c4":
            head.fc_out_channels = 32
        if (
            case == "cascade"
        ):  # torch has no synchronised batch norm on a CPU; on one device it is the ordinary one
            head |= {"num_shared_convs": 1, "conv_out_channels": CHANNELS, "norm_cfg": {"type": "BN"}}
    if "mask_head" in heads:
        heads.mask_head |= {"in_channels": regions, "conv_out_channels": CHANNELS, "num_classes": CLASSES}
        if case != "c4":
            heads.mask_head.num_convs = 1
            if case == "gn_ws":
                heads.mask_head.conv_out_channels = head.conv_out_channels = 32
            heads.mask_roi_extractor.out_channels = channels
    model.train_cfg.rpn.sampler.num = 64
    model.train_cfg.rpn_proposal |= {"nms_pre": 70, "max_per_img": 80}
    for stage in model.train_cfg.rcnn if case == "cascade" else [model.train_cfg.rcnn]:
        stage.sampler |= {"num": 100, "pos_fraction": 0.5}
    model.test_cfg.rpn |= {"nms_pre": 40, "max_per_img": 30}
    model.test_cfg.rcnn.max_per_img = 12
    config.test_dataloader.dataset.pipeline[1].scale = (126, 94)
    return config


def build(case, config):
    model = MODELS.build(copy.deepcopy(config.model))
    state = model.state_dict()
    buffers = {k: v for k, v in state.items() if k.endswith("relative_position_index")}
    weights = {k: torch.as_tensor(WEIGHTS[case](k, tuple(v.shape))) for k, v in state.items()}
    model.load_state_dict(weights | buffers)
    return model


@torch.no_grad()
def predict(model, data):
    """The levels, and what is found in each image; masks in the network's resolution."""
    model.eval()
    moves, hooks = [], []
    for name, part in model.backbone.named_modules():
        if name.endswith("conv_offset"):
            hooks.append(part.register_forward_hook(lambda part, x, out: moves.append(out)))
    levels, samples, heads = model.extract_feat(data["inputs"]), data["data_samples"], model.roi_head
    for hook in hooks:
        hook.remove()
    proposals = model.rpn_head.predict(levels, samples, rescale=False)
    metas = [sample.metainfo for sample in samples]
    found = heads.predict_bbox(levels, metas, proposals, heads.test_cfg, rescale=False)
    images = []
    for i, instances in enumerate(found):
        image = {
            "boxes": instances.bboxes.numpy(), "scores": instances.scores.numpy(),
            "labels": instances.labels.numpy(),
        }  # fmt: skip
        if heads.with_mask:
            rois = torch.cat([instances.bboxes.new_full((len(instances), 1), i), instances.bboxes], 1)
            if isinstance(heads.mask_head, torch.nn.ModuleList):  # a cascade: the mean of its stages
                stages = [heads._mask_forward(k, levels, rois) for k in range(heads.num_stages)]
            else:
                stages = [heads._mask_forward(levels, rois)]
            masks = torch.stack([stage["mask_preds"].sigmoid() for stage in stages]).mean(0)
            image["masks"] = masks[range(len(rois)), instances.labels].numpy()
        images.append(image)
    return levels, images, moves


def losses_of(model, data):
    """Losses and gradients of the model, and the regions of each image."""
    model.train().zero_grad()
    samples = copy.deepcopy(data["data_samples"])
    levels = model.extract_feat(data["inputs"])
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.to(levels[0].dtype)
    plain = copy.deepcopy(samples)
    for sample in plain:
        sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    values, proposals = model.rpn_head.loss_and_predict(
        levels, plain, proposal_cfg=model.train_cfg.rpn_proposal
    )
    values = {
        "loss_objectness": sum(values["loss_rpn_cls"]), "loss_rpn_box_reg": sum(values["loss_rpn_bbox"]),
    }  # fmt: skip
    for name, value in model.roi_head.loss(levels, proposals, samples).items():
        if "loss" in name:
            stage, _, plain_name = name.rpartition(".")
            values[NAMES[plain_name] + (f"_stage{stage[1:]}" if stage else "")] = value
    sum(values.values()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    # A softmax does not change when all of its logits do.
    gradients = {k: g for k, g in gradients.items() if not k.endswith("conv_mask.bias")}
    # No anchor of an HRNet's coarsest level, which has a layer of its own, is among those that are sampled.
    gradients = {k: g for k, g in gradients.items() if not k.startswith("neck.fpn_convs.4.") or g.any()}
    return {k: float(v.detach()) for k, v in values.items()}, gradients


def record(golden, case):
    config = settings(case)
    model = build(case, config)
    double = copy.deepcopy(model).double()
    data = load(model, False)
    wide = {**data, "inputs": data["inputs"].double()}
    levels, images, moves = predict(model, data)
    twin_levels, twins, _ = predict(double, wide)
    print(case, "offsets rms", [round(float(x.square().mean().sqrt()), 2) for x in moves])
    for i, (level, twin) in enumerate(zip(levels, twin_levels, strict=True)):
        values = channels_last(level)
        away = np.abs(values - channels_last(twin)).max() / np.abs(values).max()
        print(f"  level {i} {values.shape} rms {np.sqrt(np.mean(values**2)):.3g}; float64: {away:.0e}")
        golden[f"{case}/maps/{i}/shape"] = np.array(values.shape)
        golden[f"{case}/maps/{i}/values"] = sampled(str(i), values, MAPS)
    for i, (image, twin) in enumerate(zip(images, twins, strict=True)):
        print("  labels", image["labels"], "scores", image["scores"].round(3))
        print("  boxes", image["boxes"].round(0).astype(int).tolist())
        assert (image["labels"] == twin["labels"]).all()
        assert np.abs(image["boxes"] - twin["boxes"]).max() < 2e-3
        golden |= {f"{case}/{i}/{name}": values for name, values in image.items()}

    data = load(model, True)
    values, gradients = losses_of(model, data)
    twin, twins = losses_of(double, {**data, "inputs": data["inputs"].double()})
    # Nothing recorded may hang on a rounding error.
    ways = {k: float((g - twins[k]).norm() / twins[k].norm()) for k, g in gradients.items()}
    print(
        "  ", values, "\n   float64, losses:", {k: f"{abs(v / twin[k] - 1):.0e}" for k, v in values.items()}
    )
    print("   gradients:", sorted(((v, k) for k, v in ways.items()), reverse=True)[:3])
    assert max(ways.values()) < 1e-3
    for name, value in values.items():
        golden[f"{case}/train/{name}"] = np.float64(value)
    for name, gradient in gradients.items():
        norm = float(gradient.double().norm())
        assert norm, name
        sample = sampled(name, gradient.contiguous().numpy(), GRADIENTS)
        golden[f"{case}/gradient/{name}"] = np.append(sample, norm)
    golden[f"{case}/names"] = json.dumps(
        {
            k: tuple(v.shape)
            for k, v in model.state_dict().items()
            if not k.endswith("relative_position_index")
        }
    )
    golden[f"{case}/config"] = config.pretty_text


def record_crowd(golden):
    """What mmcv's Soft-NMS keeps, in its order, and the scores that are left."""
    boxes, scores, ids = map(torch.as_tensor, seeded_crowd(300))
    for method in ("linear", "gaussian", "naive"):
        options = {"type": "soft_nms", "iou_threshold": 0.4, "method": method, "min_score": 0.05}
        found, index = batched_nms(boxes, scores, ids, options)
        print("crowd", method, len(index), "boxes, scores", found[:: len(found) // 6, 4].numpy().round(3))
        golden |= {f"crowd/{method}/index": index.numpy(), f"crowd/{method}/scores": found[:, 4].numpy()}


def main(names):
    for name in names or CASES:
        golden = {"scenes": json.dumps(SCENES), "versions": VERSIONS}
        for case in CASES[name]:
            record(golden, case)
        if name == "mmdet_soft_nms":
            record_crowd(golden)
        path = Path(__file__).with_name(f"{name}.npz")
        np.savez_compressed(path, **{k: np.asarray(v) for k, v in golden.items()})
        print(path, path.stat().st_size, "bytes,", VERSIONS)


if __name__ == "__main__":
    main(sys.argv[1:])
