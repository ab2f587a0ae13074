"""The arguments of commands that detect in tiles of an image, or in several versions of it."""

import argparse

# Repeated here as text, because the module that defines it imports JAX, and --help should not wait for it.
SCALES = "0.75,1,1.25"
CLASS_AGNOSTIC_NMS = "boxes of all classes suppress each other, so that no object is found as two classes"


def add_version_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds them to a command; `inference.versions.make_predictor` reads them.

    Args:
        parser: Of the command.
    """
    add = parser.add_argument
    add("--tile", type=int, metavar="SIZE", help="cut larger images into tiles of this side in pixels")
    add(
        "--tile_overlap",
        type=int,
        metavar="PIXELS",
        help="overlap of tiles; by default a quarter of their size",
    )
    add("--tta", action="store_true", help="test-time augmentation: mirrored, smaller and larger versions")
    add("--tta_scales", help=f"scales of these versions, with commas between them ({SCALES})")
