"""Small detectors with other libraries' conventions, their arrays by those libraries' names; config files."""

import functools
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from detectors import random_model, small_config
from flax import nnx

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.state_dict import to_state_dict
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo.lookup import model_config

# The libraries whose files are torch's; matterport's layers are its own (convert/test_matterport_files.py).
TORCH = ("torchvision", "detectron2", "mmdet")
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
    paths = ["backbone.depth", "backbone.width", "neck.channels", "box.fc_dim"]
    if "mask" not in changes:  # None has no settings
        paths += ["mask.convs", "mask.dim"]
    sizes = {path: small_config().get(path) for path in paths}
    return model_config(name, **{"backbone.norm_epsilon": 1e-5, "num_classes": 2, **sizes, **changes})


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


def imagenet_weights(detector) -> dict[str, np.ndarray]:
    """The ResNet of a detector under Detectron2's names."""
    words = {
        "scale": "norm.weight",
        "bias": "norm.bias",
        "mean": "norm.running_mean",
        "var": "norm.running_var",
    }
    state = {}
    for path, variable in nnx.to_flat_state(nnx.state(detector.backbone.body)):
        value = np.asarray(variable[...])
        name = ".".join(map(str, path[:-1]))
        name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
        name = re.sub(r"downsample\.(conv|bn)", "shortcut", name).replace("bn", "conv")
        name = re.sub(r"^conv1", "stem.conv1", name)
        kernel = path[-1] == "kernel"
        state[f"{name}.{'weight' if kernel else words[path[-1]]}"] = (
            value.transpose(3, 2, 0, 1) if kernel else value
        )
    return state
