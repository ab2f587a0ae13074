"""Detectron2 as a source library."""

from jaxmaskrcnn.conventions import DETECTRON2
from jaxmaskrcnn.convert.detectron2.names import table
from jaxmaskrcnn.convert.detectron2.settings import config_from_yaml_text, yaml_of_config
from jaxmaskrcnn.convert.fields import get_field
from jaxmaskrcnn.convert.library import RPN_NORM, Library

LIBRARY = Library(
    name="detectron2",
    title="Detectron2",
    convention=DETECTRON2,
    table=table,
    signature="proposal_generator.rpn_head.objectness_logits.weight",
    backbone="backbone.bottom_up.",
    box_conv=r"roi_heads\.box_head\.conv\d+\.weight",
    frozen_counters=False,
    input_names=("pixel_mean", "pixel_std"),
    config_file="a Detectron2 yaml",
    config_suffixes=(".yaml", ".yml"),
    read_settings=config_from_yaml_text,
    write_settings=yaml_of_config,
    impossible=(RPN_NORM,),
    limits=(
        (
            lambda c: get_field(c, "backbone_depth") < 50 and get_field(c, "backbone_width") != 64,
            "its builder makes ResNet-18 and 34 with a stem of 64 channels only",
        ),
    ),
)
