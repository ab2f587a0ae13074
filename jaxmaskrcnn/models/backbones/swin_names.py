"""Names of a Swin transformer's arrays in other libraries, and settings; see `names/layers.py`.

Detectron2 and the authors' files have the same names and numbers. MMDetection's differ in their names, and in
the order in which the channels of four cells are joined: channel by channel, not cell by cell.
Swin-Transformer-Object-Detection, the authors' copy of MMDetection, has the authors' names and order.
"""

from typing import Any

import numpy as np

from jaxmaskrcnn.config import ModelConfig, SwinConfig
from jaxmaskrcnn.config.swin import SWINS
from jaxmaskrcnn.models.backbones.transformer_names import BODY as _BODY
from jaxmaskrcnn.models.backbones.transformer_names import WORDS, block_rows, size_of
from jaxmaskrcnn.names.config_table import Setting, Settings, fixed, write
from jaxmaskrcnn.names.conversions import choice, number, only, optional, several, whole
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import LINEAR, Names, Row, Transform, patches, weight_and_bias

LIBRARIES = ("mmdet",)

# The name that occurs once in each file of only this backbone.
STEMS = {"detectron2": "patch_embed.proj.weight", "mmdet": "patch_embed.projection.weight"}
MMDET = "SwinTransformer"
# The outputs' norms; classifiers have one of the last stage in their place.
NEW_IN_DETECTORS = r"backbone\.body\.norms\..*"
CLASSIFIERS = (r"(norm|head)\.(weight|bias)", r".*\.(relative_position_index|attn_mask)")
_SETTINGS = (
    Setting("backbone.embed_dims", 96, whole(1), "backbone.width"),
    Setting("backbone.depths", (2, 2, 6, 2), several(whole(1), 4), "backbone.blocks"),
    Setting("backbone.num_heads", (3, 6, 12, 24), several(whole(1), 4), "backbone.heads"),
    Setting("backbone.window_size", 7, whole(2), "backbone.window"),
    Setting("backbone.mlp_ratio", 4, whole(1), "backbone.mlp_ratio"),
    Setting("backbone.drop_path_rate", 0.1, number(0, 0.999), "backbone.drop_path", training=True),
    Setting("backbone.norm_cfg.eps", 1e-5, number(), "backbone.norm_epsilon"),
    Setting(
        "backbone.frozen_stages", -1, choice({n: n + 1 for n in range(-1, 5)}), "backbone.freeze_at",
        training=True,
    ),
    fixed("backbone.norm_cfg.type", "LN", "LN"),
    fixed("backbone.norm_cfg.requires_grad", True, True, training=True),
    fixed("backbone.act_cfg.type", "GELU", "GELU"),
    fixed("backbone.in_channels", 3, 3),
    fixed("backbone.patch_size", 4, 4),
    fixed("backbone.strides", (4, 2, 2, 2), (4, 2, 2, 2)),
    fixed("backbone.out_indices", (0, 1, 2, 3), (0, 1, 2, 3)),
    fixed("backbone.qkv_bias", True, True),
    Setting("backbone.qk_scale", None, only(None)),
    fixed("backbone.patch_norm", True, True),
    fixed("backbone.use_abs_pos_embed", False, False),
    fixed("backbone.drop_rate", 0.0, 0.0, training=True),
    fixed("backbone.attn_drop_rate", 0.0, 0.0, training=True),
    Setting("backbone.pretrain_img_size", 224, optional(whole(1))),  # of absolute positions only
    fixed("backbone.convert_weights", False, False, True),  # whether ImageNet weights are the authors'
)  # fmt: skip
MMDET_KEYS = {row.key for row in _SETTINGS} | {"backbone.type"}


def names(library: str, part: SwinConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library; torchvision's detectors have no such backbone, and matterport has none.

    Args:
        library: "torchvision", "detectron2" or "mmdet".
        part: The backbone.
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
    """
    if library in ("torchvision", "matterport"):
        return Names([], {})
    if library == "detectron2":
        return Names([*_authors(source, target), *_shared(source, target)], WORDS)
    block = f"{source}stages.{{s}}.blocks.{{b}}"
    model = f"{target}layers.{{s}}.blocks.{{b}}"
    merging = f"{source}stages.{{s}}.downsample"
    rows = [
        *weight_and_bias(f"{source}patch_embed.projection", f"{target}patch_embed.proj", patches(4)),
        Row(f"{block}.norm{{k}}.{{norm}}", f"{model}.norm{{k}}.{{norm}}"),
        *weight_and_bias(f"{block}.attn.w_msa.qkv", f"{model}.attn.qkv", LINEAR),
        Row(f"{block}.attn.w_msa.relative_position_bias_table", f"{model}.attn.bias_table"),
        *weight_and_bias(f"{block}.attn.w_msa.proj", f"{model}.attn.proj", LINEAR),
        *weight_and_bias(f"{block}.ffn.layers.0.0", f"{model}.mlp.fc1", LINEAR),
        *weight_and_bias(f"{block}.ffn.layers.1", f"{model}.mlp.fc2", LINEAR),
        Row(f"{merging}.norm.{{norm}}", f"{target}layers.{{s}}.downsample.norm.{{norm}}", _FOUR_CELLS),
        Row(f"{merging}.reduction.weight", f"{target}layers.{{s}}.downsample.reduction.kernel", _MERGING),
    ]
    older = [row._replace(alias=True) for row in _authors(source, target)]
    return Names([*rows, *_shared(source, target), *older], WORDS)


def _shared(source: str, target: str) -> list[Row]:
    """Return the rows of the names that all libraries have."""
    return [
        Row(f"{source}patch_embed.norm.{{norm}}", f"{target}patch_embed.norm.{{norm}}"),
        Row(f"{source}norm{{s}}.{{norm}}", f"{target}norms.{{s}}.{{norm}}"),
    ]


def _authors(source: str, target: str) -> list[Row]:
    """Return the rows of the other names of the authors."""
    block, model = f"{source}layers.{{s}}.blocks.{{b}}", f"{target}layers.{{s}}.blocks.{{b}}"
    merging = "layers.{s}.downsample"
    return [
        *weight_and_bias(f"{source}patch_embed.proj", f"{target}patch_embed.proj", patches(4)),
        *block_rows(block, model),
        Row(f"{block}.attn.relative_position_bias_table", f"{model}.attn.bias_table"),
        Row(f"{source}{merging}.norm.{{norm}}", f"{target}{merging}.norm.{{norm}}"),
        Row(f"{source}{merging}.reduction.weight", f"{target}{merging}.reduction.kernel", LINEAR),
    ]


def _cell_by_cell(x: np.ndarray) -> np.ndarray:
    """Change the last axis from MMDetection's order, (channel, row, column), to (column, row, channel)."""
    parts = x.reshape(*x.shape[:-1], -1, 2, 2)
    return np.moveaxis(parts, (-1, -2), (-3, -2)).reshape(x.shape)


def _channel_by_channel(x: np.ndarray) -> np.ndarray:
    parts = x.reshape(*x.shape[:-1], 2, 2, -1)
    return np.moveaxis(parts, (-3, -2), (-1, -2)).reshape(x.shape)


_FOUR_CELLS = Transform(_cell_by_cell, _channel_by_channel)
_MERGING = Transform(
    lambda x: _cell_by_cell(x).transpose(1, 0), lambda x: _channel_by_channel(x.transpose(1, 0))
)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no Swin transformer."""
    first = f"{_BODY}layers.0.blocks.0"
    if f"{first}.attn.bias_table" not in shapes:
        return None
    width = shapes[f"{_BODY}patch_embed.proj.bias"][0]
    stages = [f"{_BODY}layers.{i}.blocks" for i in range(4)]
    positions, _ = shapes[f"{first}.attn.bias_table"]
    return {
        "backbone.width": width,
        "backbone.blocks": tuple(count_layers(shapes, f"{stage}.{{}}.norm1.scale") for stage in stages),
        "backbone.heads": tuple(shapes[f"{stage}.0.attn.bias_table"][1] for stage in stages),
        "backbone.window": (round(positions**0.5) + 1) // 2,
        "backbone.mlp_ratio": shapes[f"{first}.mlp.fc1.bias"][0] // width,
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    settings = ("width", "blocks", "heads", "window", "mlp_ratio")
    return {f"backbone.{name}": getattr(config.backbone, name) for name in settings}


def describe(part: SwinConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(SwinConfig())
        'Swin-T'
    """
    if size := size_of(part, SWINS):
        return f"Swin-{size}"
    return f"Swin transformer with {part.width} channels and {', '.join(map(str, part.blocks))} blocks"


def read_mmdet(settings: Settings, config: dict[str, Any]) -> None:
    """Read MMDetection's settings."""
    config |= settings.fields(_SETTINGS)


def write_mmdet(config: ModelConfig) -> dict[str, Any]:
    """The counterpart of `read_mmdet`."""
    return write(_SETTINGS, config, config)
