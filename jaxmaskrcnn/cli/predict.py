"""``python -m jaxmaskrcnn predict``: what a model finds in images and videos, as pictures and files."""

import argparse

# As text: the modules that have them wait for JAX, and --help does not.
FORMATS = "png, json, labelme, geojson, masks"
SCALES = "0.75,1,1.25"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, folders or quoted patterns")
    add("--checkpoint", required=True, help="model directory, training workdir or checkpoint file")
    add("--model", help="preset, Detectron2 yaml or MMDetection config that the checkpoint is read with")
    add("--bn_eps", type=float, help="epsilon of the backbone's norm layers")
    add("--output", default="predictions", help="folder for everything that is written")
    add(
        "--format", default="png,json",
        help=f"some of {FORMATS}, with commas between them",
    )  # fmt: skip
    add(
        "--polygon_tolerance", type=float, default=0.0, metavar="PIXELS",
        help="labelme, geojson: leave out vertices of outlines; 0 keeps them exact",
    )  # fmt: skip
    add("--score_threshold", type=float, default=0.5, help="draw and write what scores higher")
    add("--classes", help="names or ids of the classes that are wanted, with commas between them")
    add("--colour_by", choices=("object", "class"), default="object", help="what pictures' colours tell")
    add("--annotations", help="COCO json; pictures show its objects beside what was found")
    add("--tile", type=int, metavar="SIZE", help="cut larger images into tiles of this side in pixels")
    add("--tile_overlap", type=int, metavar="PIXELS", help="that tiles share; a quarter of them if not given")
    add("--tta", action="store_true", help="look at mirrored, smaller and larger versions as well")
    add("--tta_scales", help=f"their sizes, with commas between them ({SCALES})")
    add("--video", action="store_true", help="the inputs are videos, and so are the pictures (mp4)")
    add("--batch_size", type=int, default=1, help="images computed at a time")


def run(arguments: argparse.Namespace) -> int:
    """Predicts; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code: 0, or 2 where an input could not be read.

    Raises:
        UserError: A path, the checkpoint or a setting is wrong, or nothing can be written.
    """
    # Late, so that --help does not wait for JAX.
    from jaxmaskrcnn.inference.predict import predict

    return predict(arguments)
