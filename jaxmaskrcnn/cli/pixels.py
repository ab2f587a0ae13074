"""The arguments of commands that say how files of 16 bits, floats or several pages are read."""

import argparse
import math
from typing import TYPE_CHECKING

from jaxmaskrcnn.errors import UserError

if TYPE_CHECKING:
    from jaxmaskrcnn.config import PixelConfig


def add_pixel_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds them to a command.

    Args:
        parser: Of the command.
        default: What holds where they are not given, for the help page.
    """
    add = parser.add_argument
    add(
        "--intensity",
        choices=("dtype", "percentile", "range"),
        help=f"which values of 16-bit and float pictures become black and white ({default})",
    )
    add("--intensity_range", metavar="LOW,HIGH", help="these values, with --intensity=range")
    add("--page", type=int, default=-1, metavar="N", help="page of files with several, from 0")
    add("--max_pixels", type=int, metavar="N", help="open files of up to this size (178,956,970 pixels)")


def pixel_config(arguments: argparse.Namespace, default: "PixelConfig") -> "PixelConfig":
    """The settings that the arguments give.

    Args:
        arguments: As `add_pixel_arguments` defines them.
        default: What holds where they are not given, such as ``model.config.input.pixels``.

    Returns:
        The settings.

    Raises:
        UserError: The values do not fit each other.
    """
    try:
        limits = (
            tuple(float(x) for x in arguments.intensity_range.split(",")) if arguments.intensity_range else ()
        )
    except ValueError:
        raise UserError(
            f"--intensity_range is {arguments.intensity_range!r}; give two numbers separated by a comma, "
            "such as 0,4095."
        ) from None
    intensity = arguments.intensity or default.intensity
    given = arguments.intensity_range or "not given"
    if limits and intensity != "range":
        raise UserError(
            f"--intensity_range is {given}, which has no effect with --intensity={intensity}; give "
            "--intensity=range too."
        )
    needed = limits or (arguments.intensity == "range" and default.intensity != "range")
    if needed and not (len(limits) == 2 and limits[0] < limits[1] and all(map(math.isfinite, limits))):
        raise UserError(
            f"--intensity_range is {given}; with --intensity=range give the two values that become black and "
            "white, the smaller one first, such as --intensity_range=0,4095 for 12 bits."
        )
    if arguments.page < -1:
        raise UserError(f"--page is {arguments.page}; pages are counted from 0.")
    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise UserError(f"--max_pixels is {arguments.max_pixels}; give 1 or more.")
    return default.changed(arguments.intensity, limits, arguments.page, arguments.max_pixels)
