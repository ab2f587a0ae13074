"""``python -m jaxmaskrcnn predict``: detects objects in images and videos, and writes pictures and files."""

import argparse
import functools

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config
from jaxmaskrcnn.cli.versions import CLASS_AGNOSTIC_NMS, add_version_arguments

# Repeated here as text, because the modules that define them import JAX, and --help should not wait for it.
FORMATS = "png, json, csv, labelme, geojson, masks, panoptic"

_CAMERAS = 10  # that can be named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, addresses of such (https://), folders or quoted patterns",
    )
    add("--checkpoint", required=True, help="model directory, training workdir or checkpoint file")
    add(
        "--model",
        help="preset, directory, Detectron2 yaml or MMDetection config that the checkpoint is read with",
    )
    add("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    add("--output", default="predictions", help="folder of all output files")
    add(
        "--format", default="png,json",
        help=f"some of {FORMATS}, with commas between them",
    )  # fmt: skip
    add(
        "--polygon_tolerance", type=float, default=0.0, metavar="PIXELS",
        help="labelme, geojson: leave out vertices of outlines; 0 keeps them exact",
    )  # fmt: skip
    add(
        "--score_threshold",
        default="0.5",
        help="detections must score higher; 'saved': than the threshold of their class, which evaluate "
        "--save_thresholds has saved with the model",
    )
    add("--classes", help="names or ids of the classes to keep, with commas between them")
    add(
        "--colour_by",
        choices=("object", "class"),
        default="object",
        help="what colours in pictures distinguish",
    )
    add("--no_labels", action="store_true", help="pictures without names and scores")
    add("--no_boxes", action="store_true", help="pictures without boxes, which objects without a mask have")
    add(
        "--line_width",
        type=float,
        metavar="PIXELS",
        help="width of outlines; by default by the picture's size",
    )
    add("--text_scale", type=float, default=1.0, metavar="FACTOR", help="size of text in pictures (1)")
    add(
        "--font", metavar="FILE",
        help="font file of labels; names in other scripts take fonts of the system, or else show the id",
    )  # fmt: skip
    add(
        "--pixel_size", metavar="SIDE",
        help="csv: the side of a pixel with its unit, such as 0.25um, in which sizes are given too",
    )  # fmt: skip
    add(
        "--resume", action="store_true", help="go on with a run that was interrupted, with the same arguments"
    )
    add("--annotations", help="COCO json; pictures show its objects beside the detections")
    add_version_arguments(parser)
    add(
        "--video",
        action="store_true",
        help="the inputs are videos, and so are the pictures (mp4); --video=0: the computer's first camera, "
        "until Ctrl-C",
    )
    # argparse has no values that are optional but only taken after "=", and so each camera is a flag.
    for number in range(_CAMERAS):
        add(f"--video={number}", dest="camera", action="store_const", const=number, help=argparse.SUPPRESS)
    add(
        "--track",
        action="store_true",
        help="with --video: follow objects, which get a number for the whole video",
    )
    add("--track_memory", type=int, metavar="FRAMES", help="frames that an object may be hidden (30)")
    add(
        "--track_birth", type=int, metavar="FRAMES",
        help="frames in which an object has to be seen before it gets a number (1)",
    )  # fmt: skip
    add("--trail", type=int, metavar="FRAMES", help="frames of an object's way that are drawn (30; 0: none)")
    add(
        "--count_line", action="append", default=[], metavar="X0,Y0,X1,Y1",
        help="count objects that cross a line; may be given several times",
    )  # fmt: skip
    add(
        "--count_region", action="append", default=[], metavar="X,Y,...",
        help="count objects in a polygon; may be given several times",
    )  # fmt: skip
    add("--batch_size", type=int, default=1, help="images computed at a time")
    add("--class_agnostic_nms", action="store_true", help=CLASS_AGNOSTIC_NMS)
    add_pixel_arguments(parser, "as the model was trained")


def run(arguments: argparse.Namespace) -> int:
    """Predicts; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code: 0, or 2 if an input could not be read.

    Raises:
        UserError: A path, the checkpoint or a setting is wrong, or nothing can be written.
    """
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.inference.predict import predict

    return predict(arguments, functools.partial(pixel_config, arguments))
