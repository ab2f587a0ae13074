"""``python -m jaxmaskrcnn predict``: detects objects in images and videos, and writes pictures and files."""

import argparse
import functools

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config

# Repeated here as text, because the modules that define them import JAX, and --help should not wait for it.
FORMATS = "png, json, labelme, geojson, masks, panoptic"
SCALES = "0.75,1,1.25"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, folders or quoted patterns")
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
    add("--score_threshold", type=float, default=0.5, help="detections must score higher")
    add("--classes", help="names or ids of the classes to keep, with commas between them")
    add(
        "--colour_by",
        choices=("object", "class"),
        default="object",
        help="what colours in pictures distinguish",
    )
    add("--annotations", help="COCO json; pictures show its objects beside the detections")
    add("--tile", type=int, metavar="SIZE", help="cut larger images into tiles of this side in pixels")
    add(
        "--tile_overlap",
        type=int,
        metavar="PIXELS",
        help="overlap of tiles; by default a quarter of their size",
    )
    add("--tta", action="store_true", help="test-time augmentation: mirrored, smaller and larger versions")
    add("--tta_scales", help=f"scales of these versions, with commas between them ({SCALES})")
    add("--video", action="store_true", help="the inputs are videos, and so are the pictures (mp4)")
    add("--batch_size", type=int, default=1, help="images computed at a time")
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
