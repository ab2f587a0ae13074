"""Names of a CARAFE's arrays in MMDetection, and its settings there; see `names/layers.py`.

It is a layer of a pyramid and of a mask head, whose names files call these functions.
"""

from typing import Any

from jaxmaskrcnn.config.carafe import CarafeConfig
from jaxmaskrcnn.names.config_table import Setting, fixed
from jaxmaskrcnn.names.conversions import odd, whole
from jaxmaskrcnn.names.layers import Shapes
from jaxmaskrcnn.names.tables import Row, weight_and_bias

LIBRARIES = ("mmdet",)
MMDET = "carafe"


def names(library: str, source: str, target: str) -> list[Row]:
    """Return the rows of a library; only MMDetection has it.

    Args:
        library: The library.
        source: Its name there.
        target: Path of the `Carafe`.
    """
    if library != "mmdet":
        return []
    return [
        *weight_and_bias(f"{source}.channel_compressor", f"{target}.compress"),
        *weight_and_bias(f"{source}.content_encoder", f"{target}.encode"),
    ]


def read_structure(shapes: Shapes, layer: str, path: str) -> dict[str, Any] | None:
    """Infer the settings of a CARAFE from its arrays; None if there are none.

    Args:
        shapes: Shapes of a part's arrays.
        layer: Path of the `Carafe`.
        path: Path of its settings.

    Example:
        >>> shapes = {"up.compress.kernel": (1, 1, 8, 4), "up.encode.kernel": (3, 3, 4, 36)}
        >>> read_structure(shapes, "up", "neck.upsample")
        {'neck.upsample.kernel': 3, 'neck.upsample.encoder_kernel': 3, 'neck.upsample.channels': 4}
    """
    if f"{layer}.encode.kernel" not in shapes:
        return None
    side, _, channels, logits = shapes[f"{layer}.encode.kernel"]
    found = {"kernel": round((logits / 4) ** 0.5), "encoder_kernel": side, "channels": channels}
    return {f"{path}.{name}": value for name, value in found.items()}


def structure(part: CarafeConfig, path: str) -> dict[str, Any]:
    """Return what `read_structure` infers for a CARAFE of these settings."""
    return {f"{path}.{name}": getattr(part, name) for name in ("kernel", "encoder_kernel", "channels")}


# -- MMDetection's settings


def mmdet_rows(prefix: str, path: str) -> tuple[Setting, ...]:
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
