"""What the names files of vision transformers share; see `names/layers.py`."""

from collections.abc import Mapping
from typing import Any

from jaxmaskrcnn.names.tables import LINEAR, Row, weight_and_bias

BODY = "backbone.body."
WORDS = {
    "norm": {"weight": "scale", "bias": "bias"},
    "layer": {"qkv": "qkv", "proj": "proj"},
    "axis": {"h": "h", "w": "w"},
}


def block_rows(source: str, target: str) -> list[Row]:
    """Return the rows of a block's norms, attention and MLP, as timm and Detectron2 name them.

    Args:
        source: The block's name, with placeholders of other words than those of `WORDS`.
        target: Path of the block.
    """
    return [
        Row(f"{source}.norm{{k}}.{{norm}}", f"{target}.norm{{k}}.{{norm}}"),
        *weight_and_bias(f"{source}.attn.{{layer}}", f"{target}.attn.{{layer}}", LINEAR),
        *weight_and_bias(f"{source}.mlp.fc{{k}}", f"{target}.mlp.fc{{k}}", LINEAR),
    ]


def position_rows(source: str, target: str) -> list[Row]:
    """Return the row of a block's tables of relative positions; arguments as of `block_rows`."""
    return [Row(f"{source}.attn.rel_pos_{{axis}}", f"{target}.attn.rel_pos_{{axis}}")]


def size_of(part: Any, sizes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the letter of a published size, such as "T" of "tiny", or None for another network.

    Args:
        part: The backbone.
        sizes: By name, its numbers in each size.
    """
    for name, numbers in sizes.items():
        if all(getattr(part, key) == value for key, value in numbers.items() if key != "drop_path"):
            return name[0].upper()
    return None
