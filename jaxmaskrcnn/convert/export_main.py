"""``python -m jaxmaskrcnn export``: a model's weights as another library's state dict."""

import argparse
import os

from jaxmaskrcnn import compilation_cache
from jaxmaskrcnn.convert.export import export_detector
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.model_io import load_model

HELP = "write a model's weights for torchvision, Detectron2 or MMDetection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``export``."""
    parser.add_argument(
        "source", metavar="DIRECTORY", help="model directory, training workdir or checkpoint file"
    )
    parser.add_argument(
        "file", metavar="FILE", help=".safetensors, .npz or .pkl file, or .pth where torch is"
    )
    parser.add_argument(
        "--format", required=True, choices=tuple(LIBRARIES), help="the library that will read it"
    )
    parser.add_argument(
        "--model", help="preset or config file, where a checkpoint file does not tell its model"
    )
    parser.add_argument("--bn_eps", type=float, help="epsilon of the backbone's norm layers")


def run(arguments: argparse.Namespace) -> int:
    """Exports; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: There is no model, the library has no such model, or the file cannot be written.
    """
    if os.path.exists(arguments.file) and os.path.exists(arguments.source):
        if os.path.samefile(arguments.source, arguments.file):
            raise UserError(f"{arguments.file} is the model itself; give another file.")
    compilation_cache.enable()
    model = load_model(arguments.source, arguments.model, bn_eps=arguments.bn_eps)
    report = export_detector(model, arguments.file, arguments.format)
    print(f"{report.path}: {report.arrays} arrays by {report.library}'s names.")
    if report.counters:
        print(f"{len(report.counters)} of them are num_batches_tracked, which is not kept here and set to 0.")
    if report.differences:
        print(f"{report.library} differs from the model in what cannot be set, and so will the detections:")
        print("".join(f"  {difference}\n" for difference in report.differences), end="")
    print(f"\nWhat to set in {report.library}:\n\n{report.settings}", end="")
    return 0
