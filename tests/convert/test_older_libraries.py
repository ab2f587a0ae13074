"""Files of the libraries before Detectron2, and of TensorFlow's detectors, which are named alone.

maskrcnn-benchmark's are compared with the library itself in tests/parity/test_maskrcnn_benchmark.py.
"""

import pickle
import re

import numpy as np
import pytest
from conversion_helpers import arrays_of, small
from detectors import flat, random_model
from folders import GOLDENS

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.detector import load_detector
from jaxmaskrcnn.convert.familiar_names import familiar_names
from jaxmaskrcnn.convert.files.reader import read_checkpoint
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.postprocess import rescale_boxes
from jaxmaskrcnn.models.pooling import pool_regions
from jaxmaskrcnn.ops.masks import paste_masks
from jaxmaskrcnn.ops.roi_align import roi_align
from jaxmaskrcnn.structures import Batch

BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
LAST_BLOCKS = {"2": "1", "3": "1", "4": "1", "5": "1"}  # of a ResNet-18
AFTER = {
    "proposal_generator.rpn_head.conv": "conv_rpn_fpn2",
    "proposal_generator.rpn_head.objectness_logits": "rpn_cls_logits_fpn2",
    "proposal_generator.rpn_head.anchor_deltas": "rpn_bbox_pred_fpn2",
    "roi_heads.box_head.fc1": "fc6",
    "roi_heads.box_head.fc2": "fc7",
    "roi_heads.box_predictor.cls_score": "cls_score",
    "roi_heads.box_predictor.bbox_pred": "bbox_pred",
    "roi_heads.mask_head.mask_fcn1": "_[mask]_fcn1",
    "roi_heads.mask_head.deconv": "conv5_mask",
    "roi_heads.mask_head.predictor": "mask_fcn_logits",
}


def detectron_blobs(arrays):
    """The same detector as Detectron's blobs, by the names of its modeling code, typed in.

    The background comes first, with boxes and masks of its own; batch norm is an affine map.
    """
    blobs = {}
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        end = {"weight": "w", "bias": "b"}.get(kind)
        if "running" in kind:
            continue  # random_model's are 0 and 1
        if match := re.fullmatch(r"backbone\.bottom_up\.res(\d)\.(\d+)\.(\w+)(\.norm)?", module):
            stage, block, layer, norm = match.groups()
            blob = f"res{stage}_{block}_{BRANCHES[layer]}"
            blobs[f"{blob}_bn_{'s' if kind == 'weight' else 'b'}" if norm else f"{blob}_w"] = array
        elif module.endswith("stem.conv1.norm"):
            blobs[f"res_conv1_bn_{'s' if kind == 'weight' else 'b'}"] = array
        elif module.endswith("stem.conv1"):
            blobs["conv1_w"] = array
        elif match := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)", module):
            part, stage = match.groups()
            where = f"res{stage}_{LAST_BLOCKS[stage]}_sum"
            lateral = "_lateral" if stage != "5" else ""
            blobs[f"fpn_inner_{where}{lateral}_{end}" if part == "lateral" else f"fpn_{where}_{end}"] = array
        else:
            blob = AFTER[module]
            if blob == "cls_score":
                array = np.concatenate([array[-1:], array[:-1]])
            elif blob in ("bbox_pred", "mask_fcn_logits"):
                rows = 4 if blob == "bbox_pred" else 1
                array = np.concatenate([np.full_like(array[:rows], 99), array])
            blobs[f"{blob}_{end}"] = array
            blobs[f"{blob}_{end}_momentum"] = np.zeros_like(array)
    return {**blobs, "lr": np.float32([0.01]), "conv1_b": np.zeros(8, np.float32)}


def write(folder, blobs):
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"blobs": blobs, "cfg": "MODEL: {}"}, 2))
    return folder / "model_final.pkl"


def test_detectrons_files_load_without_a_preset(tmp_path):
    model, report = load_detector(write(tmp_path, detectron_blobs(arrays_of("detectron2"))))
    expected = flat(random_model(small("detectron2")))
    own = flat(model)
    assert own.keys() == expected.keys() and not report.left and not report.warnings
    for name, value in own.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    wanted = {
        "num_classes": 2, "background": "last", "label_order": "list", "backbone.stride_in_1x1": True,
        "backbone.norm_epsilon": 0.0, "input.pixel_mean": (102.9801, 115.9465, 122.7717),
        "input.normalise_before_resize": True, "rpn.anchors.base": "stride", "rpn.anchors.offset": 0.5,
        "box.pool.aligned": False, "box.pool.inclusive": True, "mask.pool.sampling_ratio": 2,
        "detections.paste_rule": "whole_pixels_inclusive",
    }  # fmt: skip
    assert {path: model.config.get(path) for path in wanted} == wanted
    assert report.library == "Detectron" and report.model.startswith("Detectron's conventions (Mask R-CNN")


def test_other_settings_than_the_older_librarys_are_told(tmp_path):
    path = write(tmp_path, detectron_blobs(arrays_of("detectron2")))
    (warning,) = load_detector(path, small("detectron2"))[1].warnings
    assert "The file is Detectron's, which has other settings than the given ModelConfig: " in warning
    assert "rpn.anchors.base stride (there size)" in warning and "leave model out" in warning


def test_names_without_a_pyramid_and_with_group_norm():
    blobs = {
        "conv1_w": (8, 3, 7, 7), "res5_0_branch1_w": (64, 32, 1, 1), "conv_rpn_w": (32, 32, 3, 3),
        "rpn_cls_logits_b": (15,), "rpn_bbox_pred_b": (60,), "cls_score_w": (4, 64), "bbox_pred_w": (16, 64),
        "conv5_mask_w": (64, 16, 2, 2), "mask_fcn_logits_w": (4, 16, 1, 1),
    }  # fmt: skip
    arrays, older = familiar_names({name: np.zeros(shape, np.float32) for name, shape in blobs.items()})
    assert older == "Detectron"
    assert {name: x.shape for name, x in arrays.items()} == {
        "backbone.stem.conv1.weight": (8, 3, 7, 7),
        "roi_heads.res5.0.shortcut.weight": (64, 32, 1, 1),
        "proposal_generator.rpn_head.conv.weight": (32, 32, 3, 3),
        "proposal_generator.rpn_head.objectness_logits.bias": (15,),
        "proposal_generator.rpn_head.anchor_deltas.bias": (60,),
        "roi_heads.box_predictor.cls_score.weight": (4, 64),
        "roi_heads.box_predictor.bbox_pred.weight": (12, 64),
        "roi_heads.mask_head.deconv.weight": (64, 16, 2, 2),
        "roi_heads.mask_head.predictor.weight": (3, 16, 1, 1),
    }
    # Names of Detectron's group norm baselines; their Detectron2 names are those that Detectron2's own
    # convert_c2_detectron_names gives.
    renamed = {
        "conv1_gn_s": "backbone.bottom_up.stem.conv1.norm.weight",
        "res2_0_branch2a_gn_b": "backbone.bottom_up.res2.0.conv1.norm.bias",
        "fpn_inner_res5_2_sum_gn_s": "backbone.fpn_lateral5.norm.weight",
        "fpn_inner_res4_5_sum_lateral_gn_b": "backbone.fpn_lateral4.norm.bias",
        "fpn_res2_2_sum_gn_s": "backbone.fpn_output2.norm.weight",
        "head_conv1_w": "roi_heads.box_head.conv1.weight",
        "head_conv4_gn_s": "roi_heads.box_head.conv4.norm.weight",
        "_[mask]_fcn2_gn_b": "roi_heads.mask_head.mask_fcn2.norm.bias",
    }
    arrays, _ = familiar_names({name: np.zeros(8) for name in ("conv1_w", *renamed)})
    assert list(arrays)[1:] == list(renamed.values())


@pytest.mark.slow
def test_regions_end_at_the_last_pixel():
    rng = np.random.default_rng(0)
    levels = [rng.normal(size=(1, 64 // s, 64 // s, 4)).astype(np.float32) for s in (4, 8, 16, 32)]
    boxes = np.float32([[[3, 5, 30, 41], [10.5, 2, 12, 60]]])
    sizes = np.array([[64, 64]])
    batch = Batch(images=np.zeros((1, 64, 64, 3), np.float32), image_sizes=sizes, original_sizes=sizes,
                  extents=sizes, index=np.zeros(1, int), valid=np.ones(1, bool))  # fmt: skip
    config = ModelConfig().replace({"box.pool.inclusive": True, "box.pool.scale": "stride"}).box.pool
    pooled = pool_regions(batch, levels, (4, 8, 16, 32), boxes, config)
    wanted = roi_align(
        levels[0][0], boxes[0] - np.float32([0, 0, 1, 1]), 7, spatial_scale=1 / 4, sampling_ratio=2
    )
    np.testing.assert_allclose(pooled, wanted, atol=1e-5)


@pytest.mark.slow
def test_boxes_and_masks_of_last_pixels():
    boxes = np.float32([[2, 3, 13, 24], [0, 0, 40, 20]])
    scaled, kept = rescale_boxes(boxes, (40, 80), (20, 60), "multiply_inclusive")
    last = (boxes - [0, 0, 1, 1]) * [0.75, 0.5, 0.75, 0.5]
    np.testing.assert_allclose(scaled, last + [0, 0, 1, 1], rtol=1e-6)
    assert kept.all()
    probs = np.random.default_rng(0).uniform(size=(2, 14, 14)).astype(np.float32)
    own = paste_masks(probs, boxes, (30, 50), convention="whole_pixels_inclusive")
    there = paste_masks(probs, boxes - np.float32([0, 0, 1, 1]), (30, 50), convention="whole_pixels")
    np.testing.assert_array_equal(own, there)


# -- TensorFlow's detectors

INDEX_END = bytes.fromhex("57fb808b247547db")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            b"\0model/mask_head/_conv/.ATTRIBUTES/VARIABLE_VALUE",
            "of TensorFlow's Model Garden (a Mask R-CNN), ",
        ),
        (b"\0SecondStageBoxPredictor/ClassPredictor/biases", "of TensorFlow's Object Detection API, "),
        (b"\0dense/kernel", "a TensorFlow checkpoint, "),
    ],
)
def test_checkpoints_of_tensorflow_are_named(tmp_path, names, said):
    (tmp_path / "ckpt-9.index").write_bytes(names * 3 + INDEX_END)
    (tmp_path / "ckpt-9.data-00000-of-00001").write_bytes(b"\0" * 600)
    for name in ("ckpt-9.index", "ckpt-9.data-00000-of-00001"):
        with pytest.raises(UserError) as error:
            read_checkpoint(tmp_path / name)
        assert said in str(error.value) and "which is not converted; give a Mask R-CNN" in str(error.value)


def test_tensorpacks_files_are_named(tmp_path):
    names = ("conv0/W:0", "group0/block0/conv1/W:0", "fpn/lateral_1x1_c2/W:0", "fastrcnn/fc6/W:0")
    np.savez(tmp_path / "COCO-MaskRCNN-R50FPN2x.npz", **{name: np.zeros(3, np.float32) for name in names})
    with pytest.raises(UserError, match="is tensorpack's Faster or Mask R-CNN .it has group0/"):
        load_detector(tmp_path / "COCO-MaskRCNN-R50FPN2x.npz")


def test_keypoints_of_the_older_libraries_are_refused(tmp_path):
    assert (GOLDENS / "maskrcnn_benchmark.npz").exists()
    np.savez(tmp_path / "a.npz", **{"conv1_w": np.zeros((8, 3, 7, 7)), "kps_score_lowres_w": np.zeros(3)})
    with pytest.raises(UserError, match="is Keypoint R-CNN of a library before Detectron2"):
        load_detector(tmp_path / "a.npz")
