"""A detector's prediction as one function of fixed shapes, compiled ahead, saved, and loaded elsewhere.

Shapes: B images, H and W of the canvas, D detection slots, M the side of a mask.
"""

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jax.experimental.compilation_cache import compilation_cache

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.transforms import round_up
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.quantise import Quantised, quantise_all
from jaxmaskrcnn.inference.resizing import check_resizable, resized_batch, to_original
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.models.new_models import check_is_detector, with_dtype
from jaxmaskrcnn.ops.masks import paste_masks
from jaxmaskrcnn.structures import Array, Batch, Detections
from jaxmaskrcnn.utils.compiler_options import compiler_options
from jaxmaskrcnn.utils.files import complete_file

MASKS = ("probs", "bits", "none")
WEIGHT_TYPES = ("float32", "int8")
# Files of a saved function.
PROGRAM, WEIGHTS, COMPILED = "program.stablehlo", "weights.npz", "compiled"
OPTIONS = "compiler_options.json"  # for readers without this package


class ServingFunction:
    """The prediction of a model for B images of one canvas; made by `serving_function`.

    Attributes:
        inputs: Shape and dtype of each argument, by name: ``images`` and ``image_sizes``.
        outputs: Shape and dtype of each entry of the returned dictionary.
    """

    def __init__(self, function: Callable, weights: Sequence[Any], inputs: dict[str, jax.ShapeDtypeStruct]):
        self.inputs, self._weights, self._function = inputs, list(weights), jax.jit(function)
        self.outputs: dict[str, jax.ShapeDtypeStruct] = jax.eval_shape(
            self._function, self._weights, *inputs.values()
        )
        self._compiled: Callable | None = None

    def __call__(self, images: Any, image_sizes: Any) -> dict[str, Array]:
        """Detects objects.

        Args:
            images: uint8 [B, H, W, 3], RGB, each image in the upper left corner of its canvas; the pixels
                outside of it are ignored.
            image_sizes: int32 [B, 2], the images' heights and widths.

        Returns:
            A dictionary, see `serving_function`.

        Raises:
            UserError: An array has another shape or dtype, or a size is not of an image on the canvas.
        """
        given = {"images": np.asarray(images), "image_sizes": np.asarray(image_sizes)}
        for name, wanted in self.inputs.items():
            array = given[name]
            if array.shape != wanted.shape or array.dtype != wanted.dtype:
                raise UserError(
                    f"{name} is {array.dtype} {list(array.shape)}; give {wanted.dtype} {list(wanted.shape)}."
                )
        largest = self.inputs["images"].shape[1:3]
        for index, size in enumerate(given["image_sizes"]):
            if (size < 1).any() or (size > largest).any():
                raise UserError(
                    f"image_sizes[{index}] is {size.tolist()}; give a height and a width from 1 to "
                    f"{list(largest)}."
                )
        return self.compile()(self._weights, *given.values())

    def compile(self) -> Callable:
        """Compiles the function, if that has not happened, so that no call waits for it.

        Returns:
            The compiled function of weights, images and sizes.
        """
        if self._compiled is None:
            lowered = self._function.lower(self._weights, *self.inputs.values())
            self._compiled = lowered.compile(compiler_options=compiler_options())
        return self._compiled

    def export(self, platforms: Sequence[str] | None = None) -> export.Exported:
        """The function of ``images`` and ``image_sizes`` as StableHLO, with the weights as constants.

        Args:
            platforms: Some of "cpu", "cuda", "rocm" and "tpu"; None takes the present one.
        """

        def predict(images: Array, image_sizes: Array) -> dict[str, Array]:
            # Without the barrier, compilers would evaluate everything that depends only on the weights at
            # compile time, slowly.
            return self._function(jax.lax.optimization_barrier(self._weights), images, image_sizes)

        return export.export(jax.jit(predict), platforms=platforms)(*self.inputs.values())

    def save(self, directory: str | os.PathLike) -> None:
        """Writes a folder from which another process has the function without compiling it.

        It holds the program of ``jax.export``, the weights, and the program compiled for the present machine,
        in JAX's compilation cache, with the options that XLA was given. On another kind of machine or with
        another version of JAX the program is compiled when it is loaded.

        Args:
            directory: The folder, which must not exist.

        Raises:
            UserError: It exists or cannot be written, or flatbuffers is not installed.
        """
        require_flatbuffers()
        directory = Path(directory)
        program = export.export(self._function)(self._weights, *self.inputs.values())
        try:
            directory.mkdir(parents=True)
            with complete_file(directory / WEIGHTS) as file:
                np.savez(file, *map(np.asarray, self._weights))
            with complete_file(directory / PROGRAM) as file:
                file.write(program.serialize())
            with complete_file(directory / OPTIONS) as file:
                file.write(json.dumps(compiler_options() or {}).encode())
        except FileExistsError:
            raise UserError(f"{directory} exists; give another folder, or remove it.") from None
        except OSError as error:
            raise UserError(f"{directory} cannot be written: {error.strerror or error}.") from None
        _compile(directory)


def require_flatbuffers() -> None:
    """Refuses to go on where ``jax.export`` can neither write nor read programs.

    Raises:
        UserError: flatbuffers is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "jax.export needs the package flatbuffers, which is not installed; run pip install flatbuffers."
        )


def load_serving(directory: str | os.PathLike) -> ServingFunction:
    """Reads a function that `ServingFunction.save` has written.

    Args:
        directory: The folder.

    Returns:
        The function, compiled.

    Raises:
        UserError: A file is missing or damaged, or flatbuffers is not installed.

    Example:
        >>> detect = load_serving("served")  # doctest: +SKIP
        >>> load_serving("absent")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        jaxmaskrcnn.errors.UserError: absent/program.stablehlo cannot be read (No such file ...
    """
    require_flatbuffers()
    program, weights, compiled = _compile(Path(directory))
    names = ("images", "image_sizes")
    shapes = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in program.in_avals[-2:])
    function = ServingFunction(program.call, weights, dict(zip(names, shapes, strict=True)))
    function._compiled = compiled
    return function


def _compile(directory: Path) -> tuple[export.Exported, list[Array], Callable]:
    # The weights are read in a thread while the program is compiled or loaded, which XLA does without
    # Python's lock (of an R50-FPN 0.5 s beside 2.1 s with jaxlib 0.10.2).
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(_read_weights, directory / WEIGHTS)
        with _damage_in_words(directory):
            program = export.deserialize(bytearray((directory / PROGRAM).read_bytes()))
        *shapes, images, sizes = program.in_avals
        with _cache(directory / COMPILED):
            lowered = jax.jit(program.call).lower(shapes, images, sizes)
            compiled = lowered.compile(compiler_options=compiler_options())
        with _damage_in_words(directory):
            weights = reading.result()
    if [(x.shape, x.dtype) for x in weights] != [(x.shape, x.dtype) for x in shapes]:
        raise UserError(f"{directory / WEIGHTS} has other arrays than {PROGRAM}; save the function again.")
    return program, weights, compiled


def _read_weights(path: Path) -> list[Array]:
    with np.load(path) as file:
        return jax.device_put([file[name] for name in file.files])


@contextlib.contextmanager
def _damage_in_words(directory: Path) -> Iterator[None]:
    """Errors of reading a saved function in one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or directory} cannot be read ({error.strerror or error}); give a folder that "
            "ServingFunction.save has written."
        ) from None
    except Exception as error:  # of the many kinds that damaged files give rise to
        raise UserError(f"{directory} holds damaged files ({error}); save the function again.") from None


@contextlib.contextmanager
def _cache(directory: Path) -> Iterator[None]:
    """JAX's compilation cache in a folder, for a while."""
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def serving_function(
    model: MaskRCNN,
    canvas: tuple[int, int] | None = None,
    batch: int = 1,
    dtype: str | None = None,
    *,
    masks: str = "probs",
    resize: tuple[int, int] | None = None,
    weights: str = "float32",
) -> ServingFunction:
    """Makes a detector's prediction a function of fixed shapes.

    Args:
        model: The detector; later changes to it have no effect.
        canvas: H and W of the network's input, multiples of ``config.input.pad_divisor``. None takes the
            smallest square that can hold every image at the config's test size.
        batch: B.
        dtype: "float32" or "bfloat16", in place of the model's ``compute.dtype``.
        masks: "probs" returns the probabilities within the boxes; "bits" the masks of the images, eight
            pixels of a row in a byte; "none" no masks.
        resize: None: the caller resizes images to the config's test size, and boxes are in pixels of the
            canvas. h and w: the function resizes images of up to this size, and boxes are in pixels of the
            given images. An image that is larger than the canvas then has no valid detections. Results differ
            a little from those of `Predictor`, whose resizing rounds as each library does.
        weights: "float32", or "int8": kernels are kept, and saved, in 8 bits with a scale for each output
            channel, and multiplied with it in each call. That takes a quarter of the space.

    Returns:
        A function of ``images`` uint8 [B, H, W, 3] (or h, w) and ``image_sizes`` int32 [B, 2], which returns
        ``boxes`` float32 [B, D, 4] XYXY, ``scores`` float32 [B, D], ``labels`` int32 [B, D] from 0, ``valid``
        bool [B, D] and, of a model with a mask head, ``masks``: float32 [B, D, M, M] or uint8
        [B, D, H, ceil(W / 8)] (or h, w).

    Raises:
        UserError: The model is no detector, an argument is out of range, or the model has a rule that
            ``resize`` does not have.

    Example:
        >>> detect = jmr.serving_function(model, (64, 96), batch=2)
        >>> detect.outputs["boxes"].shape  # two images, six slots
        (2, 6, 4)
    """
    check_is_detector(model, "a detector, such as load_model reads")
    if batch < 1:
        raise UserError(f"the batch is {batch}; give 1 or more.")
    if masks not in MASKS:
        raise UserError(f"masks is {masks!r}; choose one of {', '.join(map(repr, MASKS))}.")
    if weights not in WEIGHT_TYPES:
        raise UserError(f"weights is {weights!r}; choose one of {', '.join(map(repr, WEIGHT_TYPES))}.")
    if dtype is not None:
        model = with_dtype(model, dtype)
    size = canvas = checked_canvas(model.config, canvas)
    if resize is not None:
        check_resizable(model.config)
        size = (int(resize[0]), int(resize[1]))
        if min(size) < 1:
            raise UserError(f"resize is {resize}; give the height and the width of the largest images.")
    inputs = {
        "images": jax.ShapeDtypeStruct((batch, *size, model.config.input.pixels.channels), np.uint8),
        "image_sizes": jax.ShapeDtypeStruct((batch, 2), np.int32),
    }
    graphdef, state = nnx.split(model)
    leaves, tree = jax.tree.flatten(state)
    kept, packing = jax.tree.flatten(quantise_all(leaves) if weights == "int8" else leaves)
    config = model.config

    def predict(kept: Sequence[Array], images: Array, image_sizes: Array) -> dict[str, Array]:
        leaves = [x.kernel() if isinstance(x, Quantised) else x for x in jax.tree.unflatten(packing, kept)]
        detector = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))
        given = _batch(images, image_sizes, config)
        if resize is not None:
            given = resized_batch(images, image_sizes, canvas, config)
        found: Detections = detector.detect(given)
        if resize is not None:
            found = to_original(found, given, config)
        if masks == "none":
            found = found._replace(masks=None)
        elif masks == "bits" and found.masks is not None:
            found = found._replace(masks=_bits(found, size, config))
        fields = {name: value for name, value in found._asdict().items() if value is not None}
        return fields | fields.pop("extra", {})  # what further region heads predict has names of its own

    return ServingFunction(predict, kept, inputs)


def _batch(images: Array, image_sizes: Array, config: ModelConfig) -> Batch:
    count = images.shape[0]
    return Batch(
        images=images,
        image_sizes=image_sizes,
        extents=round_up(image_sizes, max(config.input.pad_divisor, 1)),
        original_sizes=image_sizes,
        index=jnp.full(count, -1),
        valid=jnp.ones(count, bool),
    )


def _bits(found: Detections, size: tuple[int, int], config: ModelConfig) -> Array:
    """Masks pasted at an image's size, one by one, because all would take hundreds of megabytes."""
    rule, threshold = config.detections.paste_rule, config.detections.mask_threshold

    def one(detection: tuple[Array, Array]) -> Array:
        mask, box = detection
        pasted = paste_masks(mask[None], box[None], size, convention=rule)[0]
        inside = pasted > threshold if rule.startswith("whole_pixels") else pasted >= threshold
        return jnp.packbits(inside, axis=-1)

    return jax.vmap(lambda masks, boxes: jax.lax.map(one, (masks, boxes)))(found.masks, found.boxes)


def checked_canvas(config: ModelConfig, canvas: tuple[int, int] | None) -> tuple[int, int]:
    """The canvas that is given, or the smallest square that holds every image.

    Args:
        config: Gives the test size, and the divisor of the sides.
        canvas: Height and width, or None.

    Raises:
        UserError: A side is none, or not a multiple of the divisor.
    """
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
