"""Exports a detector's prediction as one file that runs where this package is not installed.

The file is serialized by ``jax.export``: the program in StableHLO, including the weights. It is loaded and
called with JAX and the package flatbuffers, which JAX needs for this; docs/exporting.md has the contract.

Shapes: B images, H and W of the canvas, D detection slots, M the side of a mask.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.serving import require_flatbuffers, serving_function
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.utils.files import complete_file

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class FunctionReport(NamedTuple):
    """A report of `export_function`.

    Attributes:
        path: The file.
        size: Size of the file in bytes.
        platforms: Platforms that the function runs on.
        inputs: Name, dtype and shape of every argument, in their order.
        outputs: The same for every entry of the returned dictionary.
    """

    path: str
    size: int
    platforms: tuple[str, ...]
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: dict[str, tuple[str, tuple[int, ...]]]


def export_function(
    model: MaskRCNN,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    canvas: tuple[int, int] | None = None,
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
) -> FunctionReport:
    """Writes a detector's prediction, including its weights, as one file of ``jax.export``.

    Args:
        model: The detector.
        path: The file; an existing one is replaced in one step.
        batch_size: B of the inputs.
        canvas: H and W of the inputs, multiples of ``config.input.pad_divisor``. None takes the
            smallest square that can hold every image at the config's test size.
        platforms: Platforms that it must run on, out of ``PLATFORMS``; they need not be available here.

    Returns:
        A report of the written file.

    Raises:
        UserError: An argument is out of range, flatbuffers is not installed, or the file cannot be
            written.

    Example:
        >>> report = export_function(model, "balloons.stablehlo", canvas=(832, 1344))  # doctest: +SKIP
        >>> report.outputs["boxes"]  # doctest: +SKIP
        ('float32', (1, 100, 4))
    """
    require_flatbuffers()
    function = serving_function(model, canvas, batch_size)
    check_platforms(platforms)
    exported = function.export(platforms)
    content = exported.serialize()
    try:
        with complete_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None
    inputs, outputs = types_of(function.inputs), types_of(function.outputs)
    return FunctionReport(os.fspath(path), len(content), exported.platforms, inputs, outputs)


def check_platforms(platforms: Sequence[str]) -> None:
    """Checks names of platforms.

    Raises:
        UserError: There are none, or one of them is not in ``PLATFORMS``.
    """
    if not platforms or any(name not in PLATFORMS for name in platforms):
        raise UserError(f"the platforms are {','.join(platforms)!r}; give some of {', '.join(PLATFORMS)}.")


def types_of(arrays: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name of the dtype and shape of each array.

    Example:
        >>> types_of({"scores": jnp.zeros((2, 6))})
        {'scores': ('float32', (2, 6))}
    """
    return {name: (np.dtype(x.dtype).name, tuple(x.shape)) for name, x in arrays.items()}
