"""``python -m jaxmaskrcnn convert``: makes a model directory from another library's checkpoint."""

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmaskrcnn.errors import UserError

if TYPE_CHECKING:
    from jaxmaskrcnn.convert.detector import ConversionReport

_FEW = 5  # up to this many names are listed; more are counted by their last part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``convert``."""
    parser.add_argument("source", metavar="SOURCE", help=".pth, .pt, .pkl, .safetensors, .npz or .h5 file")
    parser.add_argument("directory", metavar="DIRECTORY", help="where the model directory is written")
    parser.add_argument(
        "--model",
        help="preset, model directory, or config file of Detectron2, MMDetection or matterport's, if the "
        "file does not determine the model",
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        help="number of classes that the file has to have, or gets with --allow_new_heads",
    )
    parser.add_argument(
        "--categories", metavar="JSON",
        help="COCO json with the classes' names and ids, for a file that names none",
    )  # fmt: skip
    parser.add_argument(
        "--allow_new_heads", action="store_true",
        help="give layers for another number of classes their initial values",
    )  # fmt: skip
    parser.add_argument("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    parser.add_argument(
        "--weights",
        choices=("auto", "model", "ema"),
        default="auto",
        help="which weights to take from a file that also has averaged (EMA) weights",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="name every array that is ignored")


def run(arguments: argparse.Namespace) -> int:
    """Converts; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: The file cannot be converted, or the directory cannot be written.
    """
    start = time.perf_counter()
    if arguments.num_classes is not None and arguments.num_classes < 1:
        raise UserError(f"--num_classes is {arguments.num_classes}; give 1 or more, without the background.")
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.checkpoints.directory import check_free, save_model
    from jaxmaskrcnn.convert.detector import load_detector
    from jaxmaskrcnn.data.coco.annotations import read_categories
    from jaxmaskrcnn.inference.categories import name_classes
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    check_free(arguments.directory)
    listed = read_categories(Path(arguments.categories), listed=True) if arguments.categories else ()
    model, report = load_detector(
        arguments.source,
        arguments.model,
        num_classes=arguments.num_classes,
        allow_new_heads=arguments.allow_new_heads,
        bn_eps=arguments.bn_eps,
        weights=arguments.weights,
    )
    if listed:
        name_classes(model, tuple(sorted(listed)), arguments.categories, listed=listed)
        report = report._replace(config=model.config)
    print(describe(report, arguments.verbose))
    save_model(model, arguments.directory)
    print(f"The model is in {arguments.directory} ({time.perf_counter() - start:.1f} s).")
    return 0


def describe(report: "ConversionReport", verbose: bool = False) -> str:
    """A conversion's report as text.

    Args:
        report: As returned by `load_detector`.
        verbose: Whether to name every array that was ignored.
    """
    from jaxmaskrcnn.convert.choice import count_classes

    config = report.config
    classes = count_classes(config.num_classes)
    more = ", ..." if len(config.categories) > 3 else ""
    categories = f" ({', '.join(c.name for c in config.categories[:3])}{more})" if config.categories else ""
    lines = [
        f"{report.path}: {report.library} ({report.container})",
        f"  model     {report.model}, {classes}{categories or ' without names'}",
        f"  assigned  {len(report.assigned)} arrays",
        f"  ignored   {_names(report.ignored, verbose)}",
    ]
    if report.left:
        lines.append(f"  new       {len(report.left)} arrays with initial values: {', '.join(report.left)}")
    lines += [f"  note      {note}" for note in report.notes]
    lines += [f"  warning   {warning}" for warning in report.warnings]
    return "\n".join(lines)


def _names(names: tuple[str, ...], verbose: bool) -> str:
    if not names:
        return "nothing"
    if verbose or len(names) <= _FEW:
        return f"{len(names)} arrays: {', '.join(names)}"
    endings = Counter(re.sub(r"\.\d+$", "", name).rsplit(".", 1)[-1] for name in names)
    return f"{len(names)} arrays: {', '.join(f'{count} {ending}' for ending, count in endings.items())}"
