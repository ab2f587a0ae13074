"""The arguments of commands that say how annotations are read."""

import argparse

from jaxmaskrcnn.data.coco.reading import CROWD, Reading


def add_reading_arguments(parser: argparse.ArgumentParser, regions: str) -> None:
    """Adds them to a command.

    Args:
        parser: Of the command.
        regions: What crowd regions are unless ``--crowd`` says otherwise, for the help page.
    """
    add = parser.add_argument
    add(
        "--crowd",
        choices=CROWD,
        default="ignore",
        help=f"what annotations with 'iscrowd': 1 are: {regions}, objects, or nothing",
    )
    add("--class_name", help="the only class, which all objects get")
    add(
        "--allow_outside",
        action="store_true",
        help="follow file names that lead out of the image folder (../ and absolute paths)",
    )
    add(
        "--stuff",
        metavar="PATH",
        help="where the json has objects alone: a COCO json of stuff, or a folder of pictures with labels of "
        "stuff",
    )


def reading_of(arguments: argparse.Namespace, stuff_names: tuple[str, ...] = ()) -> Reading:
    """The choices that the arguments give.

    Args:
        arguments: As `add_reading_arguments` defines them.
        stuff_names: Names of the labels of stuff of a model, which pictures do not have.
    """
    names = stuff_names if arguments.stuff else ()
    return Reading(
        arguments.crowd, arguments.class_name or "", arguments.allow_outside, arguments.stuff or "", names
    )
