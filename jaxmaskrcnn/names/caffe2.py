"""Translate names of Caffe2 files, as Detectron 1 wrote them, to Detectron2's.

Their batch norm is an affine map with the statistics folded in; Detectron2 adds a mean of 0 and a
variance of 1. The background is the first of their classes. Source: Detectron2
``checkpoint.c2_model_loading``.
"""

from collections.abc import Collection, Mapping

import numpy as np

from jaxmaskrcnn.names.tables import Row, Table, Transform


def without_background(rows: int) -> Transform:
    """Return what leaves out the background's rows, whose boxes and masks have no use.

    Args:
        rows: Number of rows of each class. Arrays with these alone are kept: they serve all classes.
    """
    return Transform(lambda x: x[rows:] if len(x) > rows else x, lambda x: x)


BACKGROUND_LAST = Transform(lambda x: np.roll(x, -1, axis=0), lambda x: x)


def _with_norm(source: str, target: str) -> tuple[Row, Row]:
    """Return the rows of a layer, and of the group norm that may follow it."""
    return (
        Row(f"{source}_{{part}}", f"{target}.{{part}}"),
        Row(f"{source}_gn_{{affine}}", f"{target}.norm.{{affine}}"),
    )


def without_pyramid(names: Collection[str]) -> bool:
    """Whether Detectron2's names are those of a detector without a pyramid.

    Args:
        names: The names.

    Example:
        >>> without_pyramid(["backbone.bottom_up.stem.conv1.weight"])  # a backbone alone
        False
    """
    return any(name.startswith("roi_heads.box_predictor.") for name in names) and not any(
        name.startswith("backbone.fpn_") for name in names
    )


def on_c4(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the ResNet of a detector without a pyramid the names that it has there.

    Its last stage belongs to the heads, and nothing lies between the backbone and the others.

    Args:
        arrays: Arrays by Detectron2's names for a ResNet under a pyramid.
    """
    last, body = f"{_BODY}.res5.", f"{_BODY}."
    return {
        f"roi_heads.res5.{name.removeprefix(last)}" if name.startswith(last)
        else f"backbone.{name.removeprefix(body)}" if name.startswith(body)
        else name: array
        for name, array in arrays.items()
    }  # fmt: skip


_BODY, _BLOCK = "backbone.bottom_up", "backbone.bottom_up.res{stage}.{block}"

_TABLE = Table(
    [
        Row("conv1_w", f"{_BODY}.stem.conv1.weight"),
        Row("{stem}_{kind}_{affine}", f"{_BODY}.stem.conv1.norm.{{affine}}"),
        Row("res{stage}_{block}_{branch}_w", f"{_BLOCK}.{{branch}}.weight"),
        Row("res{stage}_{block}_{branch}_{kind}_{affine}", f"{_BLOCK}.{{branch}}.norm.{{affine}}"),
        *_with_norm("fpn_inner_res{stage}_{block}_sum", "backbone.fpn_lateral{stage}"),
        *_with_norm("fpn_inner_res{stage}_{block}_sum_lateral", "backbone.fpn_lateral{stage}"),
        *_with_norm("fpn_res{stage}_{block}_sum", "backbone.fpn_output{stage}"),
        # The levels of a pyramid share the layers of the first; without a pyramid there is one level.
        *(
            Row(f"{source}{level}_{{part}}", f"proposal_generator.rpn_head.{target}.{{part}}")
            for level in ("_fpn2", "")
            for source, target in (
                ("conv_rpn", "conv"),
                ("rpn_cls_logits", "objectness_logits"),
                ("rpn_bbox_pred", "anchor_deltas"),
            )
        ),
        *_with_norm("head_conv{k}", "roi_heads.box_head.conv{k}"),
        Row("{fc}_{part}", "roi_heads.box_head.{fc}.{part}"),
        Row("cls_score_{part}", "roi_heads.box_predictor.cls_score.{part}", BACKGROUND_LAST),
        Row("bbox_pred_{part}", "roi_heads.box_predictor.bbox_pred.{part}", without_background(4)),
        *_with_norm("_[mask]_fcn{k}", "roi_heads.mask_head.mask_fcn{k}"),
        Row("conv5_mask_{part}", "roi_heads.mask_head.deconv.{part}"),
        Row("mask_fcn_logits_{part}", "roi_heads.mask_head.predictor.{part}", without_background(1)),
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


def is_caffe2(names: Collection[str]) -> bool:
    """Whether a file has Caffe2's names.

    Args:
        names: The names of its arrays.

    Example:
        >>> is_caffe2(["conv1_w", "res_conv1_bn_s"])
        True
    """
    return "conv1_w" in names


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
    if not is_caffe2(arrays):
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
    return on_c4(renamed) if without_pyramid(renamed) else renamed
