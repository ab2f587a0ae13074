"""Names of a plain vision transformer's arrays in Detectron2 and in MAE's files; see `names/layers.py`."""

from collections import Counter
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.config.vit import VITS, ViTConfig
from jaxmaskrcnn.models.backbones.transformer_names import BODY as _BODY
from jaxmaskrcnn.models.backbones.transformer_names import WORDS, block_rows, position_rows, size_of
from jaxmaskrcnn.names.layers import Shapes, count_layers
from jaxmaskrcnn.names.tables import Names, Row, patches, weight_and_bias

LIBRARIES = ()

# The name that occurs once in each file of only this backbone.
STEMS = {"detectron2": "patch_embed.proj.weight"}
# ImageNet's networks have no relative positions.
NEW_IN_DETECTORS = r".*\.rel_pos_[hw]"
CLASSIFIERS = (r"(cls|mask)_token", r"decoder_.*", r"(norm|fc_norm|head)\.(weight|bias)")


def names(library: str, part: ViTConfig, source: str, target: str = _BODY) -> Names:
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
        Row(f"{source}pos_embed", f"{target}pos_embed"),
        *weight_and_bias(f"{source}patch_embed.proj", f"{target}patch_embed.proj", patches(part.patch)),
        *block_rows(block, model),
        *position_rows(block, model),
    ]
    return Names(rows, WORDS)


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays; None if there is no vision transformer.

    The blocks with global attention are those whose tables of positions differ from most.
    """
    if f"{_BODY}blocks.0.attn.rel_pos_h" not in shapes or f"{_BODY}pos_embed" not in shapes:
        return None
    width, depth = (
        shapes[f"{_BODY}patch_embed.proj.bias"][0],
        count_layers(shapes, f"{_BODY}blocks.{{}}.norm1.scale"),
    )
    tables = [shapes[f"{_BODY}blocks.{i}.attn.rel_pos_h"] for i in range(depth)]
    return _found(
        patch=round((shapes[f"{_BODY}patch_embed.proj.kernel"][0] / 3) ** 0.5),
        width=width,
        heads=width // tables[0][1],
        lengths=[length for length, _ in tables],
        mlp_ratio=shapes[f"{_BODY}blocks.0.mlp.fc1.bias"][0] // width,
        positions=round((shapes[f"{_BODY}pos_embed"][1] - 1) ** 0.5),
    )


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part = config.backbone
    assert isinstance(part, ViTConfig)
    sides = [part.grid if i in part.global_blocks else part.window for i in range(part.depth)]
    return _found(
        patch=part.patch, width=part.width, heads=part.heads, lengths=[2 * side - 1 for side in sides],
        mlp_ratio=part.mlp_ratio, positions=part.positions,
    )  # fmt: skip


def _found(lengths: list[int], **settings: int) -> dict[str, Any]:
    usual = Counter(lengths).most_common(1)[0][0]
    others = tuple(i for i, length in enumerate(lengths) if length != usual)
    found = {**settings, "depth": len(lengths), "window": (usual + 1) // 2, "global_blocks": others}
    if others:
        found["grid"] = (lengths[others[0]] + 1) // 2
    return {f"backbone.{name}": value for name, value in found.items()}


def describe(part: ViTConfig) -> str:
    """Describe the backbone in words.

    Example:
        >>> describe(ViTConfig())
        'ViT-B'
    """
    if size := size_of(part, VITS):
        return f"ViT-{size}"
    return f"vision transformer with {part.width} channels and {part.depth} blocks"
