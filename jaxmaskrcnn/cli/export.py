"""``jaxmaskrcnn export``: a model's weights for another library, or its prediction as one file."""

import argparse
import os
import re
from typing import TYPE_CHECKING

from jaxmaskrcnn.errors import UserError

if TYPE_CHECKING:
    from jaxmaskrcnn.models.mask_rcnn import MaskRCNN

FUNCTIONS = ("stablehlo", "savedmodel")
FORMATS = ("torchvision", "detectron2", "mmdet", "matterport", *FUNCTIONS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``export``."""
    parser.add_argument(
        "source", metavar="DIRECTORY", help="model directory, training workdir or checkpoint file"
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="weights: a .safetensors, .npz or .pkl file, or .pth where torch is; stablehlo: any name; "
        "savedmodel: a new folder",
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="the library that will read the weights, or for the whole prediction stablehlo, which JAX "
        "runs, or savedmodel, which TensorFlow runs",
    )
    parser.add_argument(
        "--model", help="preset, directory or config file, if a checkpoint file does not determine its model"
    )
    parser.add_argument("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    only = parser.add_argument_group("stablehlo and savedmodel only")
    only.add_argument("--batch", type=int, help="images of a call (1)")
    only.add_argument(
        "--canvas", metavar="HxW", help="height and width of the input (a square for the largest image)"
    )
    only.add_argument(
        "--platforms", help="some of cpu,cuda,rocm,tpu (stablehlo: cpu,cuda,tpu; savedmodel: cpu)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exports; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: There is no model, the format cannot hold it, or the file cannot be written.
    """
    if os.path.exists(arguments.file) and os.path.exists(arguments.source):
        if os.path.samefile(arguments.source, arguments.file):
            raise UserError(f"{arguments.file} is the model itself; give another file.")
    options = _function_options(arguments)
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.checkpoints.directory import load_model
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    model = load_model(arguments.source, arguments.model, bn_eps=arguments.bn_eps)
    if arguments.format in FUNCTIONS:
        _export_function(model, arguments.file, arguments.format, options)
    else:
        _export_weights(model, arguments.file, arguments.format)
    return 0


def _function_options(arguments: argparse.Namespace) -> dict:
    """The arguments of `export_function` and `export_saved_model` that the user gave."""
    given = [name for name in ("batch", "canvas", "platforms") if getattr(arguments, name) is not None]
    if given and arguments.format not in FUNCTIONS:
        raise UserError(f"--{given[0]} is only for stablehlo and savedmodel; leave it out.")
    options = {}
    if arguments.batch is not None:
        options["batch_size"] = arguments.batch
    if arguments.canvas is not None:
        sides = re.fullmatch(r"(\d+)x(\d+)", arguments.canvas)
        if sides is None:
            raise UserError(f"--canvas is {arguments.canvas!r}; give a height and a width such as 832x1344.")
        options["canvas"] = (int(sides[1]), int(sides[2]))
    if arguments.platforms is not None:
        options["platforms"] = tuple(arguments.platforms.split(","))
    return options


def _export_weights(model: "MaskRCNN", file: str, library: str) -> None:
    from jaxmaskrcnn.convert.export import export_detector

    report = export_detector(model, file, library)
    print(f"{report.path}: {report.arrays} arrays by {report.library}'s names.")
    if report.counters:
        print(
            f"{len(report.counters)} of them are num_batches_tracked, which is not stored here and set to 0."
        )
    if report.differences:
        print(f"{report.library} differs from the model in what its settings cannot express:")
        print("".join(f"  {difference}\n" for difference in report.differences), end="")
    print(f"\nSettings for {report.library}:\n\n{report.settings}", end="")


def _export_function(model: "MaskRCNN", file: str, form: str, options: dict) -> None:
    from jaxmaskrcnn.inference.saved_model import export_saved_model
    from jaxmaskrcnn.inference.stablehlo import export_function

    report = {"stablehlo": export_function, "savedmodel": export_saved_model}[form](model, file, **options)
    print(f"{report.path}: {report.size / 1e6:.1f} MB, for {', '.join(report.platforms)}.")
    for title, arrays in (("Arguments", report.inputs), ("Returns a dictionary", report.outputs)):
        print(f"{title}:")
        for name, (dtype, shape) in arrays.items():
            print(f"  {name:<12} {dtype:<8} {list(shape)}")
    config = model.config
    print(
        f"Images: resized to a short side of {config.input.test_min_size}, a long side up to "
        f"{config.input.test_max_size}"
    )
    names = ", ".join(f"{i} {category.name}" for i, category in enumerate(model.categories))
    print(f"Labels: {names}")
