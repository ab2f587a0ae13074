"""Translate names of Caffe2 files, as Detectron 1 wrote them, to Detectron2's.

Their batch norm is an affine map with the statistics folded in; Detectron2 adds a mean of 0 and a
variance of 1. The background is the first of their classes. Source: Detectron2
``checkpoint.c2_model_loading``.
"""

from collections.abc import Mapping

import numpy as np

from jaxmaskrcnn.names.tables import Row, Table, Transform


def _drop(rows: int) -> Transform:
    """Drop the background's rows, whose boxes and masks have no use."""
    return Transform(lambda x: x[rows:], lambda x: x)


_BACKGROUND_LAST = Transform(lambda x: np.roll(x, -1, axis=0), lambda x: x)
_BODY, _BLOCK = "backbone.bottom_up", "backbone.bottom_up.res{stage}.{block}"

_TABLE = Table(
    [
        Row("conv1_w", f"{_BODY}.stem.conv1.weight"),
        Row("{stem}_{kind}_{affine}", f"{_BODY}.stem.conv1.norm.{{affine}}"),
        Row("res{stage}_{block}_{branch}_w", f"{_BLOCK}.{{branch}}.weight"),
        Row("res{stage}_{block}_{branch}_{kind}_{affine}", f"{_BLOCK}.{{branch}}.norm.{{affine}}"),
        Row("fpn_inner_res{stage}_{block}_sum_{part}", "backbone.fpn_lateral{stage}.{part}"),
        Row("fpn_inner_res{stage}_{block}_sum_lateral_{part}", "backbone.fpn_lateral{stage}.{part}"),
        Row("fpn_res{stage}_{block}_sum_{part}", "backbone.fpn_output{stage}.{part}"),
        Row("conv_rpn_fpn2_{part}", "proposal_generator.rpn_head.conv.{part}"),
        Row("rpn_cls_logits_fpn2_{part}", "proposal_generator.rpn_head.objectness_logits.{part}"),
        Row("rpn_bbox_pred_fpn2_{part}", "proposal_generator.rpn_head.anchor_deltas.{part}"),
        Row("{fc}_{part}", "roi_heads.box_head.{fc}.{part}"),
        Row("cls_score_{part}", "roi_heads.box_predictor.cls_score.{part}", _BACKGROUND_LAST),
        Row("bbox_pred_{part}", "roi_heads.box_predictor.bbox_pred.{part}", _drop(4)),
        Row("_[mask]_fcn{k}_{part}", "roi_heads.mask_head.mask_fcn{k}.{part}"),
        Row("conv5_mask_{part}", "roi_heads.mask_head.deconv.{part}"),
        Row("mask_fcn_logits_{part}", "roi_heads.mask_head.predictor.{part}", _drop(1)),
    ],
    vocabulary={
        "stem": {"res_conv1": "", "conv1": ""},
        "kind": {"bn": "", "gn": ""},
        "affine": {"s": "weight", "b": "bias", "gamma": "weight", "beta": "bias"},
        "branch": {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"},
        "part": {"w": "weight", "b": "bias"},
        "fc": {"fc6": "fc1", "fc7": "fc2"},
    },
    # Some files have an unused bias of conv1; "pred" is ImageNet's classifier.
    ignorable=["conv1_b", "pred_[wb]", "fc1000_[wb]", "lr", "weight_order", ".*_momentum"],
)


def rename(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate Caffe2's names to Detectron2's; other files are returned unchanged.

    Args:
        arrays: Arrays by their names in the file.

    Returns:
        Arrays in torch's layout by Detectron2's names, with the classes in its order. Names unknown
        to Caffe2's Detectron are kept.

    Example:
        >>> list(rename({"conv1_w": np.zeros((64, 3, 7, 7))}))
        ['backbone.bottom_up.stem.conv1.weight']
    """
    if "conv1_w" not in arrays:
        return dict(arrays)
    affine_norm = any(name.endswith("_bn_s") for name in arrays)
    renamed = {}
    for name, array in arrays.items():
        if _TABLE.ignores(name):
            continue
        translated = _TABLE.translate(name)
        if translated is None:
            renamed[name] = array
            continue
        target, transform = translated
        renamed[target] = transform.to_model(array)
        if affine_norm and target.endswith(".norm.weight"):
            layer = target.removesuffix("weight")
            renamed[f"{layer}running_mean"] = np.zeros_like(array)
            renamed[f"{layer}running_var"] = np.ones_like(array)
    return renamed
