"""CARAFE in other libraries' files: only MMDetection has it, in the pyramid and in the mask head."""

from typing import Any

from jaxmaskrcnn.config.carafe import CarafeConfig
from jaxmaskrcnn.names.config_table import Setting, fixed
from jaxmaskrcnn.names.conversions import odd, whole
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Row, weight_and_bias


def carafe_rows(source: str, target: str) -> list[Row]:
    """Return the rows of MMDetection's arrays of a CARAFE.

    Args:
        source: Its name there.
        target: Path of the `Carafe`.
    """
    return [
        *weight_and_bias(f"{source}.channel_compressor", f"{target}.compress"),
        *weight_and_bias(f"{source}.content_encoder", f"{target}.encode"),
    ]


def carafe_structure(shapes: Shapes, layer: str, path: str) -> dict[str, Any]:
    """Infer the settings of a CARAFE from its arrays; {} if there are none.

    Args:
        shapes: Shapes of a part's arrays.
        layer: Path of the `Carafe`.
        path: Path of its settings.

    Example:
        >>> shapes = {"up.compress.kernel": (1, 1, 8, 4), "up.encode.kernel": (3, 3, 4, 36)}
        >>> carafe_structure(shapes, "up", "neck.upsample")["neck.upsample.kernel"]
        3
    """
    if f"{layer}.encode.kernel" not in shapes:
        return {}
    side, _, channels, logits = shapes[f"{layer}.encode.kernel"]
    found = {"kernel": round((logits / 4) ** 0.5), "encoder_kernel": side, "channels": channels}
    return {f"{path}.{name}": value for name, value in found.items()}


def settings_of(part: CarafeConfig, path: str) -> dict[str, Any]:
    """Return what `carafe_structure` infers for a CARAFE of these settings."""
    return {f"{path}.{name}": getattr(part, name) for name in ("kernel", "encoder_kernel", "channels")}


# -- MMDetection's settings


def rows(prefix: str, path: str) -> tuple[Setting, ...]:
    """Return the rows of MMDetection's settings of a CARAFE.

    Args:
        prefix: Their key there.
        path: Path of the settings here.
    """
    return (
        Setting(f"{prefix}.up_kernel", 5, odd(), f"{path}.kernel"),
        Setting(f"{prefix}.encoder_kernel", 3, odd(), f"{path}.encoder_kernel"),
        Setting(f"{prefix}.compressed_channels", 64, whole(1), f"{path}.channels"),
        fixed(f"{prefix}.up_group", 1, 1),
        fixed(f"{prefix}.encoder_dilation", 1, 1),
    )
