"""Names of an MViT's arrays in Detectron2, and settings that arrays imply; see `names/layers.py`."""

from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.mvit import MVITS, MViTConfig
from jaxmaskrcnn.models.backbones.transformer_names import BODY as _BODY
from jaxmaskrcnn.models.backbones.transformer_names import WORDS, block_rows, position_rows, size_of
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, LINEAR, Names, Row, weight_and_bias

LIBRARIES = ()

# The name that occurs once in each file of only this backbone.
STEMS = {"detectron2": "patch_embed.proj.weight"}
# The outputs' norms; classifiers have one of the last stage in their place.
NEW_IN_DETECTORS = r"backbone\.body\.norms\..*"
CLASSIFIERS = (r"(norm|head(\.projection)?)\.(weight|bias)", r"cls_token")


def names(library: str, part: MViTConfig, source: str, target: str = _BODY) -> Names:
    """Return the rows of a library; only Detectron2 has detectors with this backbone.

    Args:
        library: "torchvision", "detectron2", "mmdet" or "matterport".
        part: The backbone.
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
    """
    if library != "detectron2":
        return Names([], {})
    block, model = f"{source}blocks.{{b}}", f"{target}blocks.{{b}}"
    rows = [
        *weight_and_bias(f"{source}patch_embed.proj", f"{target}patch_embed.proj", CONV),
        *block_rows(block, model),
        *position_rows(block, model),
        Row(f"{block}.attn.pool_{{what}}.weight", f"{model}.attn.pool_{{what}}.kernel", CONV),
        Row(f"{block}.attn.norm_{{what}}.{{norm}}", f"{model}.attn.norm_{{what}}.{{norm}}"),
        *weight_and_bias(f"{block}.proj", f"{model}.proj", LINEAR),
        Row(f"{source}scale{{scale}}_norm.{{norm}}", f"{target}norms.{{scale}}.{{norm}}"),
    ]
    words = {"what": {part: part for part in "qkv"}, "scale": {str(i + 2): str(i) for i in range(4)}}
    return Names(rows, WORDS | words)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no such transformer."""
    first = f"{_BODY}blocks.0"
    if f"{first}.attn.pool_q.kernel" not in shapes:
        return None
    width, depth = (
        shapes[f"{_BODY}patch_embed.proj.bias"][0],
        count_layers(shapes, f"{_BODY}blocks.{{}}.norm1.scale"),
    )
    begins = [i for i in range(depth) if f"{_BODY}blocks.{i}.proj.kernel" in shapes]
    return {
        "backbone.width": width,
        "backbone.heads": width // shapes[f"{first}.attn.pool_q.kernel"][-1],
        "backbone.depth": depth,
        "backbone.stage_ends": (*(i - 1 for i in begins), depth - 1),
        "backbone.mlp_ratio": shapes[f"{first}.mlp.fc1.bias"][0] // width,
        "backbone.grid": (shapes[f"{first}.attn.rel_pos_h"][0] + 1) // 2,
    }


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    settings = ("width", "heads", "depth", "stage_ends", "mlp_ratio", "grid")
    return {f"backbone.{name}": getattr(config.backbone, name) for name in settings}


def describe(part: MViTConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(MViTConfig())
        'MViTv2-T'
    """
    if size := size_of(part, MVITS):
        return f"MViTv2-{size}"
    return f"MViT with {part.width} channels and {part.depth} blocks"
