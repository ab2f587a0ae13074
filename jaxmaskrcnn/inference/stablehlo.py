"""A detector's prediction as one file, which runs where this package is not installed.

The file is what ``jax.export`` serializes: the program in StableHLO with the weights inside. JAX and
the package flatbuffers, which JAX needs for it, load and call it; docs/exporting.md has the contract.

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
    """What `export_function` did.

    Attributes:
        path: The file.
        size: Its bytes.
        platforms: What it runs on.
        inputs: Name, dtype and shape of every argument, in their order.
        outputs: The same of every entry of the dictionary that it returns.
    """

    path: str
    size: int
    platforms: tuple[str, ...]
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: dict[str, tuple[str, tuple[int, ...]]]


def prediction_function(model: MaskRCNN):
    """The function that is exported, with the model's weights as constants.

    Args:
        model: The detector; later changes of it do not show.

    Returns:
        A function of ``images`` uint8 [B, H, W, 3] (RGB, resized, in the canvas's upper left corner;
        what lies beside them is not looked at) and ``image_sizes`` int32 [B, 2] (their heights and
        widths), which returns a dictionary: ``boxes`` float32 [B, D, 4] XYXY in pixels of the canvas,
        ``scores`` float32 [B, D], ``labels`` int32 [B, D] from 0, ``valid`` bool [B, D] and, with a
        mask head, ``masks`` float32 [B, D, M, M], probabilities inside of the box.
    """
    graphdef, state = nnx.split(model)
    divisor = max(model.config.input.pad_divisor, 1)

    def predict(images: Array, image_sizes: Array) -> dict[str, Array]:
        # Compilers would compute all that follows from weights alone while they compile, slowly.
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
        return {name: value for name, value in found._asdict().items() if value is not None}

    return predict


def export_function(
    model: MaskRCNN,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    canvas: tuple[int, int] | None = None,
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
) -> FunctionReport:
    """Write a detector's prediction, weights included, as one file of ``jax.export``.

    Args:
        model: The detector.
        path: The file; one that is there is replaced in one step.
        batch_size: B of the inputs.
        canvas: H and W of the inputs, multiples of ``config.input.pad_divisor``. None: the smallest square
            that holds every image of the config's test size.
        platforms: What it has to run on, out of ``PLATFORMS``; none of them has to be at hand.

    Returns:
        A report.

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
            f"the canvas is {canvas[0]}x{canvas[1]}, and its sides have to be multiples of {divisor}; "
            f"give {near}."
        )
    return canvas


def _types(arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (np.dtype(x.dtype).name, tuple(x.shape)) for name, x in arrays.items()}
