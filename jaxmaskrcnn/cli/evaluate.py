"""``jaxmaskrcnn evaluate`` and ``evaluate.py``: box and mask AP of a model on annotated images."""

import argparse
import functools
import logging
from pathlib import Path

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config
from jaxmaskrcnn.cli.reading import add_reading_arguments, reading_of
from jaxmaskrcnn.cli.versions import CLASS_AGNOSTIC_NMS, add_version_arguments
from jaxmaskrcnn.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``evaluate``."""
    add = parser.add_argument
    add("--checkpoint", help="model directory, training workdir or checkpoint file")
    add(
        "--model",
        help="preset, directory, Detectron2 yaml or MMDetection config that the checkpoint is read with",
    )
    add("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    add(
        "--predictions", metavar="JSON",
        help="in the place of a checkpoint: detections.json, or predictions.json of predict",
    )  # fmt: skip
    add("--annotations", required=True, help="COCO-format json")
    add("--images", required=True, help="its image folder")
    add(
        "--protocol", choices=("auto", "coco", "lvis", "cityscapes"), default="auto",
        help="how detections are scored; auto: as LVIS for a json of LVIS, else as COCO",
    )  # fmt: skip
    add(
        "--classes",
        help="names or ids of the annotations' classes that are scored, with commas between them, or "
        "'shared' "
        "for all that the model has; it may have more classes",
    )
    add("--output", help="folder for metrics.json and detections.json")
    add("--batch_size", type=int, default=1, help="images computed at a time, over all devices")
    add_version_arguments(parser)
    add("--class_agnostic_nms", action="store_true", help=CLASS_AGNOSTIC_NMS)
    add(
        "--max_detections", type=int, metavar="N",
        help="for crowded pictures: also AP and AR with N detections of an image, beside COCO's with 100",
    )  # fmt: skip
    add(
        "--areas", metavar="LOW,HIGH",
        help="also AP and AR by size with these limits between small, medium and large objects, in square "
        "pixels",
    )  # fmt: skip
    add(
        "--at_score", type=float, metavar="SCORE",
        help="also AP, precision and recall of the detections that score higher",
    )  # fmt: skip
    add("--thresholds", action="store_true", help="also each class's score threshold with the highest F1")
    add(
        "--save_thresholds", action="store_true",
        help="the same, saved with the model for predict --score_threshold=saved",
    )  # fmt: skip
    add(
        "--benchmark", type=int, metavar="N",
        help="also measure the time of N images by stage, and images a second",
    )  # fmt: skip
    add("--on_error", choices=("stop", "skip"), default="stop", help="what to do with bad annotations")
    add_reading_arguments(parser, "regions that are not scored")
    add("--cache_dir", help="folder that keeps the prepared records for the next run")
    add_pixel_arguments(parser, "as the model was trained")
    add("--coordinator_address", help="with several processes: host:port of process 0")
    add("--num_processes", type=int, help="number of processes")
    add("--process_id", type=int, help="number of this process, from 0")


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the tables and writes the results; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: The checkpoint, the annotations or a setting is wrong.
    """
    _check(arguments)
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.evaluation.command import evaluate_model, evaluate_predictions

    # force=True, because imported libraries have already given the root logger a format of their own.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    log = logging.getLogger("jaxmaskrcnn")
    log.setLevel(logging.INFO)
    log.propagate = True  # a run of train in the same process has handlers of its own
    reading = functools.partial(reading_of, arguments)
    pixels = functools.partial(pixel_config, arguments)
    if arguments.predictions is not None:
        evaluate_predictions(arguments, reading, pixels)
    else:
        evaluate_model(arguments, reading, pixels)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuses numbers out of range, and flags that do not go together."""
    if (arguments.checkpoint is None) == (arguments.predictions is None):
        both = "both given" if arguments.checkpoint is not None else "both left out"
        raise UserError(
            f"--checkpoint and --predictions are {both}; give a model that detects, or detections that are "
            "there."
        )
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size is {arguments.batch_size}; give 1 or more.")
    if arguments.output and Path(arguments.output).is_file():
        raise UserError(f"--output is the file {arguments.output}; give a folder.")
    if arguments.max_detections is not None and arguments.max_detections <= 100:
        raise UserError(
            f"--max_detections is {arguments.max_detections}, and COCO's numbers have 100; give more than "
            "100."
        )
    if arguments.at_score is not None and not 0 <= arguments.at_score < 1:
        raise UserError(f"--at_score is {arguments.at_score}; give a score from 0 to 1.")
    if arguments.benchmark is not None and arguments.benchmark < 1:
        raise UserError(f"--benchmark is {arguments.benchmark}; give the number of images to measure.")
    if arguments.predictions is not None:
        no_effect = ("model", "bn_eps", "tile", "tta", "class_agnostic_nms", "save_thresholds", "benchmark")
        for name in no_effect:
            if getattr(arguments, name) not in (None, False):
                raise UserError(f"--{name} is of a model, and --predictions has none; leave it out.")
    elif (arguments.num_processes or 1) > 1:
        for name in (
            "tile",
            "tta",
            "benchmark",
            "save_thresholds",
            "thresholds",
            "at_score",
            "areas",
            "max_detections",
        ):
            if getattr(arguments, name) not in (None, False):
                raise UserError(f"--{name} is for one process; leave it out, or leave out --num_processes.")
