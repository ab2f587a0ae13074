"""Exports a detector's prediction as a SavedModel, which TensorFlow runs without JAX.

TensorFlow calls the StableHLO program of ``jax.export`` through its operation XlaCallModule. Writing it needs
the extra ``savedmodel``.

Shapes: B images, H and W of the canvas, D detection slots, M the side of a mask.
"""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
from jax import export
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import stablehlo

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference.serving import ServingFunction, serving_function
from jaxmaskrcnn.inference.stablehlo import FunctionReport, check_platforms, types_of
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN

# TensorFlow 2.21 reads programs of StableHLO up to 1.13.7. JAX 0.10.2 writes 1.15.0, in which
# `jax.lax.top_k` is a composite operation of a form that 1.13 does not have.
_STABLEHLO = "1.13.0"
_LARGEST = 2_000_000_000  # bytes; a SavedModel's graph is one protocol buffer, which ends at 2 GiB


def portable_program(exported: export.Exported) -> bytes:
    """Writes a program without composite operations, for readers of StableHLO 1.13.

    Each of them is replaced by a call of its definition, which the program contains.

    Args:
        exported: The program.

    Returns:
        A portable artifact of StableHLO.

    Example:
        >>> exported = jmr.serving_function(model, (64, 96)).export(["cpu"])
        >>> b"StableHLO_v1.13.0" in portable_program(exported)
        True
    """
    with ir.Context() as context, ir.Location.unknown():
        stablehlo.register_dialect(context)
        stablehlo.register_stablehlo_passes()
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        passes = "builtin.module(func.func(stablehlo-legalize-composite-to-call))"
        passmanager.PassManager.parse(passes).run(module.operation)
        return stablehlo.serialize_portable_artifact(module, _STABLEHLO)


def export_saved_model(
    model: MaskRCNN,
    directory: str | os.PathLike,
    *,
    batch_size: int = 1,
    canvas: tuple[int, int] | None = None,
    platforms: tuple[str, ...] = ("cpu",),
) -> FunctionReport:
    """Writes a detector's prediction, including its weights, as a SavedModel.

    Its signature ``serving_default`` takes ``images`` and ``image_sizes`` and returns what `serving_function`
    returns.

    Args:
        model: The detector.
        directory: The folder, which must not exist.
        batch_size: B of the inputs.
        canvas: H and W of the inputs, as in `export_function`.
        platforms: Platforms that it must run on, some of "cpu", "cuda", "rocm" and "tpu".

    Returns:
        A report; its size is that of the program.

    Raises:
        UserError: An argument is out of range, TensorFlow is not installed, the model is too large, or the
            folder exists or cannot be written.

    Example:
        >>> report = export_saved_model(model, "balloons", canvas=(832, 1344))  # doctest: +SKIP
        >>> report.outputs["boxes"]  # doctest: +SKIP
        ('float32', (1, 100, 4))
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "A SavedModel needs TensorFlow, which is not installed; run pip install "
            "'jaxmaskrcnn[savedmodel]'."
        )
    directory = Path(directory)
    if directory.exists():
        raise UserError(f"{directory} exists; give another folder, or remove it.")
    check_platforms(platforms)
    function = serving_function(model, canvas, batch_size)
    exported = function.export(platforms)
    program = portable_program(exported)
    if len(program) > _LARGEST:
        raise UserError(
            f"The program has {len(program) / 1e9:.1f} GB, and a SavedModel holds 2 GB; export it as "
            "stablehlo."
        )
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        # A folder that is being written is not there under its name.
        with tempfile.TemporaryDirectory(dir=directory.absolute().parent, prefix=".saving-") as folder:
            _save(exported, program, function, Path(folder) / "model")
            os.rename(Path(folder) / "model", directory)
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror or error}.") from None
    names = tuple(exported.platforms)
    return FunctionReport(
        os.fspath(directory), len(program), names, types_of(function.inputs), types_of(function.outputs)
    )


def _save(exported: export.Exported, program: bytes, function: ServingFunction, folder: Path) -> None:
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla

    def predict(images: Any, image_sizes: Any) -> dict[str, Any]:
        found = xla.call_module(
            [images, image_sizes],
            version=exported.calling_convention_version,
            module=program,
            Sout=[x.shape for x in exported.out_avals],
            Tout=[tf.as_dtype(x.dtype) for x in exported.out_avals],
            platforms=[name.upper() for name in exported.platforms],
            has_token_input_output=False,
            disabled_checks=[],
            function_list=[],
        )
        return jax.tree.unflatten(exported.out_tree, found)

    module = tf.Module()
    module.predict = tf.function(
        predict,
        autograph=False,
        input_signature=[tf.TensorSpec(x.shape, x.dtype, name) for name, x in function.inputs.items()],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
