"""Recognise unsupported checkpoints by telltale names: other kinds of model, or a ResNet alone.

Without this check such a file would be rejected array by array, without saying what it is.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxmaskrcnn.convert.libraries import wrappers_prefix
from jaxmaskrcnn.convert.structure import has_part
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.prefixes import WRAPPERS


class Family(NamedTuple):
    """A kind of model that is recognised but not supported.

    Attributes:
        title: For the message: "is TITLE".
        telltale: Pattern that only such models' names match, at their start or after a dot.
        part: The kind of part that supports such models; if it exists, the row is skipped.
    """

    title: str
    telltale: str
    part: str = ""


# The first match counts, so the most specific families come first.
FAMILIES = (
    Family("a Segment Anything model", r"image_encoder\.patch_embed\.|mask_decoder\.iou_prediction_head\."),
    Family(
        "Mask2Former or MaskFormer",
        r"sem_seg_head\.(predictor\.\w+|pixel_decoder)\.|panoptic_head\.pixel_decoder\.|"
        r"pixel_level_module\.|decode_head\.pixel_decoder\.",
    ),
    Family(
        "a DETR model",
        r"(query_embed|class_embed|query_embedding|class_labels_classifier)\.(\d+\.)?(weight|bias)|"
        r"transformer\.encoder\.layers\.|bbox_head\.(reg|cls)_branches\.",
    ),
    Family(
        "a one-stage detector (RetinaNet, FCOS, SSD)",
        r"head\.(classification_head|regression_head|cls_subnet|bbox_subnet|cls_tower|cls_score\.0)\.|"
        r"(?<!roi_head\.)bbox_head\.(retina_|conv_cls|atss_|gfl_|cls_convs\.|multi_level_|conv_reg)",
    ),
    Family("a YOLO model", r"model\.\d+\.(conv|cv\d|m\.\d+|dfl)\b|module_list\.\d+\.|yolo_head\."),
    Family("tensorpack's Faster or Mask R-CNN", r"(group\d/block\d+/conv\d|fastrcnn|maskrcnn|rpn/conv0)/"),
    Family("Keypoint R-CNN of a library before Detectron2", r"(?<!keypoint_predictor\.)kps_score"),
    Family("Keypoint R-CNN", r"roi_heads?\.keypoint[_.]", "heatmap"),
    Family("Panoptic FPN", r"sem_seg_head\.", "pyramid"),
    Family(
        "PointRend", r"roi_heads?\.mask_(head\.(coarse|point)_head|point_head)|point_head\.fc", "point_rend"
    ),
    Family("Mask Scoring R-CNN of its authors", r"roi_heads\.maskiou\."),
    Family("Hybrid Task Cascade", r"roi_head\.(semantic_head|mask_head\.\d+\.conv_res)\."),
    Family("an R-CNN on C4 features", r"roi_heads\.res5\.|roi_head\.shared_head\.", "res5"),
    Family("a detector with a RegNet", r"(bottom_up|backbone)\.(s\d\.b\d+|stem\.conv\.weight)\b", "regnet"),
    Family("a detector with torchvision's RegNet", r"(backbone|body)\.trunk_output\b"),
    Family(
        "torchvision's Vision Transformer",
        r"encoder\.layers\.encoder_layer_\d+\.",
    ),
    Family("a detector with a MobileNet", r"backbone\.body\.\d+\.(\d+|conv|block)\."),
    Family("a detector with a PAFPN neck", r"neck\.(downsample_convs|pafpn_convs)\.", "pafpn"),
)

_REGIONS = re.compile(
    r"(proposal_generator|rpn|rpn_head|roi_heads?)\.|backbone\.fpn|neck\.|rpn_class_raw/|mrcnn_"
)
_PYRAMID = re.compile(r"fpn[._]")  # in a pyramid's own file; within a detector it has a prefix
_STEM = re.compile(r"(.*\.)?(stem\.)?conv1\.weight")
_FIRST_BLOCK = re.compile(r"(.*\.)?(layer1|res2)\.0\.(conv|convs\.)\d")  # many other networks have a conv1


def holds_detector(names: Iterable[str], path: str = "The file") -> bool:
    """Whether a file has a detector's parts, a pyramid or heads.

    Args:
        names: Names of its arrays.
        path: The file, for messages.

    Raises:
        UserError: It holds several detectors.

    Example:
        >>> holds_detector(["conv1.weight", "layer1.0.conv1.weight", "fc.weight"])
        False
    """
    names = list(names)
    return any(_REGIONS.match(name) for name in _without_wrappers(names, path))


def refuse_other_families(names: Iterable[str], path: str) -> None:
    """Reject a checkpoint that cannot be converted, with an error that says what it is.

    Args:
        names: Names of its arrays.
        path: The file, for the message.

    Raises:
        UserError: The names are those of a ResNet without heads, or of a model of ``FAMILIES``.

    Example:
        >>> refuse_other_families(["roi_heads.maskiou.predictor.bias"], "ms.pth")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.errors.UserError: ms.pth is Mask Scoring R-CNN of its authors (it has roi_heads.maskiou...
    """
    names = list(names)
    for family in FAMILIES:
        if has_part(family.part):
            continue
        telltale = re.compile(rf"(^|\.)({family.telltale})")
        if found := next(filter(telltale.search, names), None):
            raise UserError(
                f"{path} is {family.title} (it has {found}), which is not supported yet; give a Faster or "
                "Mask R-CNN with a ResNet or RegNet, of torchvision, Detectron2 or MMDetection."
            )
    resnet = any(map(_STEM.fullmatch, names)) and any(map(_FIRST_BLOCK.match, names))
    if resnet and not holds_detector(names, path):
        pyramid = any(_PYRAMID.match(name) for name in _without_wrappers(names, path))
        what = "a ResNet with a pyramid" if pyramid else "a ResNet alone"
        raise UserError(
            f"{path} holds {what} ({len(names)} arrays) but no heads; load the ResNet into a detector's "
            "backbone with load_backbone(model, path), or train from it with --config.model.weights=PATH."
        )


def _without_wrappers(names: list[str], path: str) -> Iterator[str]:
    """Yield names without the prefixes that wrappers add."""
    prefix = wrappers_prefix(names, path)
    for name in names:
        plain = name.removeprefix(prefix)
        wrappers = WRAPPERS.match(plain)
        assert wrappers is not None  # the pattern also matches an empty string
        yield plain[wrappers.end() :]
