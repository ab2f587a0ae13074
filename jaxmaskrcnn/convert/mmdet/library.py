"""MMDetection as a source library."""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.conventions import MMDET
from jaxmaskrcnn.convert.fields import get_field
from jaxmaskrcnn.convert.library import RPN_NORM, Library
from jaxmaskrcnn.convert.mmdet.names import table
from jaxmaskrcnn.convert.mmdet.settings import config_from_mmdet_text, text_of_config


def config_inside(attributes: Mapping[str, Any]) -> str | None:
    """The text of the config that MMDetection writes into its checkpoints."""
    meta = attributes.get("meta")
    texts = [meta.get(key) for key in ("cfg", "config")] if isinstance(meta, dict) else []
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


LIBRARY = Library(
    name="mmdet",
    title="MMDetection",
    convention=MMDET,
    table=table,
    signature="rpn_head.rpn_cls.weight",
    backbone="backbone.",
    box_conv=r"roi_head\.bbox_head\.shared_convs\.\d+\.conv\.weight",
    frozen_counters=True,
    input_names=("data_preprocessor.mean", "data_preprocessor.std"),
    config_file="an MMDetection config file",
    config_suffixes=(".py",),
    config_inside=config_inside,
    read_settings=config_from_mmdet_text,
    write_settings=text_of_config,
    impossible=(
        RPN_NORM,
        (
            lambda c: (
                get_field(c, "backbone_depth") >= 50
                and get_field(c, "backbone_groups") == 1
                and get_field(c, "backbone_width_per_group") != 64
            ),
            "its ResNet is a wide one",
        ),
    ),
    limits=(),
)
