"""Exports a detector's prediction as one file that runs where this package is not installed.

The file is serialized by ``jax.export``: the program in StableHLO, including the weights. It is loaded and
called with JAX and the package flatbuffers, which JAX needs for this; docs/exporting.md has the contract.

Shapes: B images, H and W of the canvas, D detection slots, M the side of a mask.
"""

import importlib.util
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Array, Batch
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


def prediction_function(model: MaskRCNN):
    """Makes the function to export, with the model's weights as constants.

    Args:
        model: The detector; later changes to it have no effect.

    Returns:
        A function of ``images`` uint8 [B, H, W, 3] (RGB, resized, in the canvas's upper left corner;
        the pixels outside of them are ignored) and ``image_sizes`` int32 [B, 2] (their heights and
        widths), which returns a dictionary: ``boxes`` float32 [B, D, 4] XYXY in pixels of the canvas,
        ``scores`` float32 [B, D], ``labels`` int32 [B, D] from 0, ``valid`` bool [B, D] and, with a
        mask head, ``masks`` float32 [B, D, M, M], probabilities within the box; what further region heads
        predict has their own names.
    """
    graphdef, state = nnx.split(model)
    divisor = max(model.config.input.pad_divisor, 1)

    def predict(images: Array, image_sizes: Array) -> dict[str, Array]:
        # Without the barrier, compilers would evaluate everything that depends only on the weights at compile
        # time, slowly.
        weights = jax.lax.optimization_barrier(state)
        count = images.shape[0]
        batch = Batch(
            images=images,
            image_sizes=image_sizes,
            extents=round_up(image_sizes, divisor),
            original_sizes=image_sizes,
            index=jnp.full(count, -1),
            valid=jnp.ones(count, bool),
        )
        found = nnx.merge(graphdef, weights).detect(batch)
        fields = {name: value for name, value in found._asdict().items() if value is not None}
        return fields | fields.pop("extra", {})

    return predict


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
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "jax.export needs the package flatbuffers, which is not installed; run pip install flatbuffers."
        )
    if batch_size < 1:
        raise UserError(f"the batch is {batch_size}; give 1 or more.")
    canvas = _checked_canvas(model.config, canvas)
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise UserError(f"the platforms are {','.join(platforms)!r}; give some of {', '.join(PLATFORMS)}.")
    inputs = {
        "images": jax.ShapeDtypeStruct((batch_size, *canvas, 3), np.uint8),
        "image_sizes": jax.ShapeDtypeStruct((batch_size, 2), np.int32),
    }
    exported = export.export(jax.jit(prediction_function(model)), platforms=platforms)(*inputs.values())
    content = exported.serialize()
    try:
        with complete_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return FunctionReport(os.fspath(path), len(content), exported.platforms, _types(inputs), _types(outputs))


def _checked_canvas(config: ModelConfig, canvas: tuple[int, int] | None) -> tuple[int, int]:
    divisor = max(config.input.pad_divisor, 1)
    longest = round_up(max(config.input.test_min_size, config.input.test_max_size), divisor)
    if canvas is None:
        return longest, longest
    if min(canvas) < 1 or any(side % divisor for side in canvas):
        near = "x".join(str(max(divisor, round_up(side, divisor))) for side in canvas)
        raise UserError(
            f"the canvas is {canvas[0]}x{canvas[1]}, and its sides must be multiples of {divisor}; "
            f"give {near}."
        )
    return canvas


def _types(arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (np.dtype(x.dtype).name, tuple(x.shape)) for name, x in arrays.items()}
