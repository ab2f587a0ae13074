"""What a checkpoint holds, by telltale names: a detector on FPN, a ResNet alone, or something else.

A detector of another kind would fail array by array; its names show what it is before that.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxmaskrcnn.convert.structure import has_part
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.prefixes import WRAPPERS


class Family(NamedTuple):
    """A kind of model that is known and not supported.

    Attributes:
        title: For the message: "is TITLE".
        telltale: Pattern of a part of a name, from one of its dots on, that only such models have.
        part: The kind of part that reads such models: where there is one, they are supported and the row does
            not count.
    """

    title: str
    telltale: str
    part: str = ""


# The first that fits counts, so that what says most about a model stands first.
FAMILIES = (
    Family("a Segment Anything model", r"image_encoder\.patch_embed\.|mask_decoder\.iou_prediction_head\."),
    Family(
        "Mask2Former or MaskFormer",
        r"sem_seg_head\.(predictor\.\w+|pixel_decoder)\.|panoptic_head\.pixel_decoder\.|"
        r"pixel_level_module\.|decode_head\.pixel_decoder\.",
    ),
    Family(
        "a DETR",
        r"(query_embed|class_embed|query_embedding|class_labels_classifier)\.(\d+\.)?(weight|bias)|"
        r"transformer\.encoder\.layers\.|bbox_head\.(reg|cls)_branches\.",
    ),
    Family(
        "a one-stage detector (RetinaNet, FCOS, SSD)",
        r"head\.(classification_head|regression_head|cls_subnet|bbox_subnet|cls_tower|cls_score\.0)\.|"
        r"(?<!roi_head\.)bbox_head\.(retina_|conv_cls|atss_|gfl_|cls_convs\.|multi_level_|conv_reg)",
    ),
    Family("a YOLO", r"model\.\d+\.(conv|cv\d|m\.\d+|dfl)\b|module_list\.\d+\.|yolo_head\."),
    Family("Keypoint R-CNN", r"roi_heads?\.keypoint_"),
    Family("Panoptic FPN", r"sem_seg_head\."),
    Family("PointRend", r"roi_heads?\.mask_(head\.(coarse|point)_head|point_head)|point_head\.fc"),
    Family("Mask Scoring R-CNN", r"roi_heads?\.(mask_iou_head|maskiou)"),
    Family(
        "Cascade R-CNN or Hybrid Task Cascade",
        r"roi_heads\.box_predictor\.\d+\.|roi_head\.(bbox|mask)_head\.\d+\.|roi_head\.semantic_head\.",
    ),
    Family("an R-CNN on C4", r"roi_heads\.res5\.|roi_head\.shared_head\.", "res5"),
    Family("an R-CNN on dilated C5 (DC5)", r"backbone\.res5\."),
    Family("an R-CNN with deformable convolutions", r"conv2_offset\.|conv2\.conv_offset\."),
    Family("a detector on a RegNet", r"(bottom_up|backbone)\.(s\d\.b\d+|stem\.conv\.weight)\b", "regnet"),
    Family("a detector on torchvision's RegNet", r"(backbone|body)\.trunk_output\b"),
    Family(
        "a Vision Transformer or a detector on one",
        r"(blocks\.\d+\.(attn|norm1)|patch_embed\.proj|encoder\.layers\.encoder_layer_\d+)\.",
    ),
    Family("a detector on a MobileNet", r"backbone\.body\.\d+\.(\d+|conv|block)\."),
    Family("a detector with a PAFPN neck", r"neck\.(downsample_convs|pafpn_convs)\."),
)

_REGIONS = re.compile(r"(proposal_generator|rpn|rpn_head|roi_heads?)\.|backbone\.fpn|neck\.")
_PYRAMID = re.compile(r"fpn[._]")  # of a pyramid's own file; within a detector it has a prefix
_STEM = re.compile(r"(.*\.)?(stem\.)?conv1\.weight")


def holds_detector(names: Iterable[str]) -> bool:
    """Whether a file has a detector's parts, a pyramid or heads.

    Args:
        names: Of its arrays.

    Example:
        >>> holds_detector(["conv1.weight", "layer1.0.conv1.weight", "fc.weight"])
        False
    """
    return any(_REGIONS.match(name, WRAPPERS.match(name).end()) for name in names)


def refuse_other_families(names: Iterable[str], path: str) -> None:
    """Say what a checkpoint is when it is none that can be converted.

    Args:
        names: Of its arrays.
        path: The file, for the message.

    Raises:
        UserError: The names are those of a ResNet without heads, or of a model of ``FAMILIES``.

    Example:
        >>> refuse_other_families(["sem_seg_head.predictor.weight"], "fpn.pkl")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        jaxmaskrcnn.errors.UserError: fpn.pkl is Panoptic FPN (it has sem_seg_head.predictor.weight), ...
    """
    names = list(names)
    for family in FAMILIES:
        if has_part(family.part):
            continue
        telltale = re.compile(rf"(^|\.)({family.telltale})")
        if found := next(filter(telltale.search, names), None):
            raise UserError(
                f"{path} is {family.title} (it has {found}), which is not supported yet; give a Faster or "
                "Mask R-CNN with a ResNet and FPN."
            )
    if not holds_detector(names) and any(_STEM.fullmatch(name) for name in names):
        pyramid = any(_PYRAMID.match(name, WRAPPERS.match(name).end()) for name in names)
        what = "a ResNet with a pyramid" if pyramid else "a ResNet alone"
        raise UserError(
            f"{path} holds {what} ({len(names)} arrays) and no heads; load the ResNet into a detector's "
            "backbone with load_backbone(model, path), or train from it with --config.model.weights=PATH."
        )
