"""What the names files of ResNeSt and Res2Net share; see `names/layers.py`. Only MMDetection has them."""

from typing import Any

from jaxmaskrcnn.config.backbones import STAGE_BLOCKS
from jaxmaskrcnn.config.deep_resnets import DeepResNetConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import MISSING, Setting, fixed
from jaxmaskrcnn.names.conversions import choice, optional, whole
from jaxmaskrcnn.names.layers import NORM, Shapes, count_layers
from jaxmaskrcnn.names.tables import CONV, Names, Row

BODY = "backbone.body."
BLOCK = "layer{stage}.{block}"
_STEM = {"0": "0", "3": "1", "6": "2"}  # places of the stem's convolutions; their norms are behind them
# MMDetection's settings, in addition to those of all its backbones.
SETTINGS = (
    Setting("backbone.depth", MISSING, choice({d: d for d in (50, 101, 152)}), "backbone.depth"),
    Setting("backbone.base_channels", 64, whole(1), "backbone.width"),
    fixed("backbone.style", "pytorch", "pytorch"),
    fixed("backbone.strides", (1, 2, 2, 2), (1, 2, 2, 2)),
)
_STEM_CHANNELS = Setting("backbone.stem_channels", None, optional(whole(1)))


def names(source: str, target: str, own: list[Row], words: dict[str, dict[str, str]]) -> Names:
    """Return MMDetection's rows.

    Args:
        source: Prefix of the library's names.
        target: Prefix of the model's paths.
        own: The rows of the layers between a block's 1x1 convolutions.
        words: Vocabulary of these rows.
    """
    block, model = f"{source}{BLOCK}", f"{target}{BLOCK}"
    rows = [
        Row(f"{source}stem.{{conv}}.weight", f"{target}stem.convs.{{conv}}.kernel", CONV),
        Row(f"{source}stem.{{stem_norm}}.{{norm}}", f"{target}stem.norms.{{stem_norm}}.{{norm}}"),
        Row(f"{block}.conv{{k}}.weight", f"{model}.conv{{k}}.kernel", CONV),
        Row(f"{block}.bn{{k}}.{{norm}}", f"{model}.bn{{k}}.{{norm}}"),
        Row(f"{block}.downsample.1.weight", f"{model}.downsample.conv.kernel", CONV),
        Row(f"{block}.downsample.2.{{norm}}", f"{model}.downsample.bn.{{norm}}"),
    ]
    norms = {str(int(place) + 1): i for place, i in _STEM.items()}
    return Names([*rows, *own], {"norm": NORM, "conv": _STEM, "stem_norm": norms, **words})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any]:
    """Infer the settings that both kinds have.

    Raises:
        UserError: The numbers of blocks are not those of a known depth.
    """
    counts = tuple(count_layers(shapes, f"{BODY}layer{i}.{{}}.conv1.kernel") for i in range(1, 5))
    depths = [depth for depth, blocks in STAGE_BLOCKS.items() if depth >= 50 and blocks == counts]
    if not depths:
        raise UserError(
            f"{what} has a backbone whose stages have {', '.join(map(str, counts))} blocks; give one of "
            "depth 50, 101 or 152."
        )
    return {
        "backbone.depth": depths[0],
        "backbone.width": shapes[f"{BODY}layer1.0.conv3.kernel"][-1] // 4,
        "backbone.stem": shapes[f"{BODY}stem.convs.2.kernel"][-1],
        "backbone.norm": "bn",
    }


def structure(part: DeepResNetConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a backbone of this configuration."""
    return {
        "backbone.depth": part.depth,
        "backbone.width": part.width,
        "backbone.stem": part.stem,
        "backbone.norm": "bn",
    }


def read_stem(settings: Any, config: dict[str, Any]) -> None:
    """Read the stem's channels, which are those of the first stage if they are not set."""
    config["backbone.stem"] = settings.get(_STEM_CHANNELS) or config["backbone.width"]


def write_stem(part: DeepResNetConfig) -> dict[str, Any]:
    """The counterpart of `read_stem`."""
    return {_STEM_CHANNELS.key: part.stem}
