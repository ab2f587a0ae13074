"""Small detectors with other libraries' conventions, their arrays by those libraries' names; config files."""

import functools
import textwrap
from pathlib import Path

import pytest
from detectors import random_model, small_config

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.config_files import config_from_file
from jaxmaskrcnn.convert.state_dict import to_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.presets import model_config

HEADS = {
    f"{layer}.{kind}"
    for layer in ("box_head.cls_score", "box_head.bbox_pred", "mask_head.logits")
    for kind in ("kernel", "bias")
}


def small(library, **changes) -> ModelConfig:
    """A small model with the conventions of a library's presets."""
    name = {
        "torchvision": "torchvision/maskrcnn_resnet50_fpn",
        "detectron2": "detectron2/mask_rcnn_R_50_FPN_3x",
        "mmdet": "mmdet/mask-rcnn_r50_fpn_1x_coco",
    }[library]
    sizes = {
        field: getattr(small_config(), field)
        for field in (
            "backbone_depth",
            "backbone_width",
            "fpn_channels",
            "box_fc_dim",
            "mask_convs",
            "mask_dim",
        )
    }
    return model_config(name, **{"norm_epsilon": 1e-5, "num_classes": 2, **sizes, **changes})


@functools.cache
def _arrays(config, library):
    return to_state_dict(random_model(config), library)


def arrays_of(library, **changes):
    return dict(_arrays(small(library, **changes), library))


def write_config(folder: Path, name: str, text: str) -> Path:
    """A config file with a text in the source's indentation."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def refusal(path: Path, **options) -> str:
    """What is said of a config file that cannot be read as one of this library's."""
    with pytest.raises(UserError) as error:
        config_from_file(path, **options)
    return str(error.value)
