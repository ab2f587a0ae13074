"""Translate names of maskrcnn-benchmark's files to Detectron2's.

The background is the first of their classes. Source: facebookresearch/maskrcnn-benchmark,
maskrcnn_benchmark/modeling (backbone/resnet.py, backbone/fpn.py, rpn/rpn.py, roi_heads/box_head,
roi_heads/mask_head), for the names of the modules, and make_layers.py for those with group norm.
"""

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from jaxmaskrcnn.names.caffe2 import BACKGROUND_LAST, on_c4, without_background, without_pyramid
from jaxmaskrcnn.names.tables import SAME, Row, Table, Transform

SIGNATURE = "roi_heads.box.predictor.cls_score.weight"

_STEM, _BLOCK = "backbone.bottom_up.stem", "backbone.bottom_up.res{stage}.{block}"
_HEAD = "roi_heads.box.feature_extractor"
_STAGES = {str(i): str(i + 1) for i in range(1, 5)}
_NORM = {name: name for name in ("weight", "bias", "running_mean", "running_var")}
_PART = {"weight": "weight", "bias": "bias"}


def _anchors(carried: np.ndarray) -> np.ndarray:
    """Anchors that end after their last pixel and lie around the origin, as Detectron2's files have them."""
    boxes = np.asarray(carried, np.float32) + np.float32([0, 0, 1, 1])
    return boxes - np.tile((boxes[:, :2] + boxes[:, 2:]) / 2, 2)


def _blocks(source: str, target: str) -> Iterator[Row]:
    """Yield the rows of residual blocks."""
    yield Row(f"{source}.conv{{k}}.weight", f"{target}.conv{{k}}.weight")
    yield Row(f"{source}.bn{{k}}.{{norm}}", f"{target}.conv{{k}}.norm.{{norm}}")
    yield Row(f"{source}.downsample.0.weight", f"{target}.shortcut.weight")
    yield Row(f"{source}.downsample.1.{{norm}}", f"{target}.shortcut.norm.{{norm}}")


def _with_norm(source: str, target: str) -> Iterator[Row]:
    """Yield the rows of a layer that is followed by group norm or not."""
    yield Row(f"{source}.{{part}}", f"{target}.{{part}}")
    yield Row(f"{source}.0.{{part}}", f"{target}.{{part}}")
    yield Row(f"{source}.1.{{part}}", f"{target}.norm.{{part}}")


def _convolutions(count_of_modules: int) -> Iterator[Row]:
    """Yield the rows of the box head's convolutions, which share one numbering with norms and ReLUs."""
    for i in range(16):
        source, target = f"{_HEAD}.xconvs", f"roi_heads.box_head.conv{i + 1}"
        yield Row(f"{source}.{count_of_modules * i}.{{part}}", f"{target}.{{part}}")
        if count_of_modules == 3:
            yield Row(f"{source}.{3 * i + 1}.{{part}}", f"{target}.norm.{{part}}")


def _table(norms: bool) -> Table:
    return Table(
        [
            Row("backbone.body.stem.conv1.weight", f"{_STEM}.conv1.weight"),
            Row("backbone.body.stem.bn1.{norm}", f"{_STEM}.conv1.norm.{{norm}}"),
            *_blocks("backbone.body.layer{stage}.{block}", _BLOCK),
            *_blocks(f"{_HEAD}.head.layer4.{{block}}", "roi_heads.res5.{block}"),
            *_with_norm("backbone.fpn.fpn_inner{stage}", "backbone.fpn_lateral{stage}"),
            *_with_norm("backbone.fpn.fpn_layer{stage}", "backbone.fpn_output{stage}"),
            Row("rpn.head.conv.{part}", "proposal_generator.rpn_head.conv.{part}"),
            Row("rpn.head.cls_logits.{part}", "proposal_generator.rpn_head.objectness_logits.{part}"),
            Row("rpn.head.bbox_pred.{part}", "proposal_generator.rpn_head.anchor_deltas.{part}"),
            Row(
                "rpn.anchor_generator.cell_anchors.{level}",
                "proposal_generator.anchor_generator.cell_anchors.{level}",
                Transform(_anchors, SAME.to_source),
            ),
            Row(f"{_HEAD}.{{fc}}.{{part}}", "roi_heads.box_head.{fc}.{part}"),
            *_convolutions(3 if norms else 2),
            Row("roi_heads.box.predictor.cls_score.{part}", "roi_heads.box_predictor.cls_score.{part}",
                BACKGROUND_LAST),
            Row("roi_heads.box.predictor.bbox_pred.{part}", "roi_heads.box_predictor.bbox_pred.{part}",
                without_background(4)),
            *_with_norm("roi_heads.mask.feature_extractor.mask_fcn{k}", "roi_heads.mask_head.mask_fcn{k}"),
            Row("roi_heads.mask.predictor.conv5_mask.{part}", "roi_heads.mask_head.deconv.{part}"),
            Row("roi_heads.mask.predictor.mask_fcn_logits.{part}", "roi_heads.mask_head.predictor.{part}",
                without_background(1)),
        ],
        vocabulary={
            "stage": _STAGES, "norm": _NORM, "part": _PART, "fc": {"fc6": "fc1", "fc7": "fc2"}
        },
        # Without a pyramid, the mask head has the box head's layers a second time.
        ignorable=[r"roi_heads\.mask\.feature_extractor\.head\..*"],
    )  # fmt: skip


def is_benchmark(names: Collection[str]) -> bool:
    """Whether a file has maskrcnn-benchmark's names.

    Args:
        names: The names of its arrays, with or without a prefix.

    Example:
        >>> is_benchmark(["module.roi_heads.box.predictor.cls_score.weight"])
        True
    """
    return any(name.endswith(SIGNATURE) for name in names)


def rename(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate maskrcnn-benchmark's names to Detectron2's.

    Args:
        arrays: Arrays by their names in the file, with or without a prefix.

    Returns:
        Arrays by Detectron2's names, with the classes in its order. Other names are kept.

    Example:
        >>> arrays = {"module.roi_heads.box.predictor.cls_score.weight": np.zeros((81, 8))}
        >>> list(rename(arrays))
        ['roi_heads.box_predictor.cls_score.weight']
    """
    prefix = next(name for name in arrays if name.endswith(SIGNATURE)).removesuffix(SIGNATURE)
    table = _table(any(re.search(r"xconvs\.1\.weight$", name) for name in arrays))
    renamed = {}
    for name, array in arrays.items():
        plain = name.removeprefix(prefix)
        if table.ignores(plain):
            continue
        translated = table.translate(plain) if name.startswith(prefix) else None
        target, transform = translated or (name, SAME)
        renamed[target] = transform.to_model(array)
    return on_c4(renamed) if without_pyramid(renamed) else renamed
