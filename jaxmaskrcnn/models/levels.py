"""Check that feature maps have the strides and channels that their levels say.

Anchors, masks of the padding and RoIAlign are computed from the levels alone. A map of another stride would
be computed with all the same, and every box would lie elsewhere. Shapes are static, so the checks cost no
time in a compiled program.

Shapes: B images, H and W of the canvas, h and w of a map, C channels.
"""

from collections.abc import Sequence
from typing import Any

from jaxmaskrcnn.config import ConfigError, Level
from jaxmaskrcnn.config.values import shown


def check_maps(what: str, maps: Any, levels: Sequence[Level], images: Any) -> None:
    """Check the maps of a batch.

    Args:
        what: The module that returned them, for the message.
        maps: What it returned, arrays [B, h, w, C].
        levels: What it says to return.
        images: [B, H, W, 3].

    Raises:
        ConfigError: They are not such arrays, or there are more or fewer of them, or one has another size or
            other channels. A map that is smaller by one cell is accepted, as of layers that leave out what
            does not fill a cell.

    Example:
        >>> try:
        ...     check_maps("Mine", [jnp.zeros((1, 4, 6, 8))], [Level(8, 8)], jnp.zeros((1, 64, 96, 3)))
        ... except jmr.ConfigError as error:
        ...     print(str(error)[:69])
        Mine returns a map of 4 x 6 cells for a canvas of 64 x 96 pixels, but
    """
    if not isinstance(maps, list | tuple) or any(len(getattr(x, "shape", ())) != 4 for x in maps):
        found = type(maps).__name__
        if isinstance(maps, list | tuple):
            shapes = ", ".join(str(list(getattr(x, "shape", ()))) for x in maps)
            found += f" with values of the shapes {shapes}"
        raise ConfigError(
            f"{what} returns a {found}; return a tuple with an array [B, h, w, C] for each level."
        )
    strides = ", ".join(str(level.stride) for level in levels)
    if len(maps) != len(levels):
        raise ConfigError(
            f"{what} returns {_maps(len(maps))}, but its levels are {len(levels)}, with the strides "
            f"{strides}; return a map for each, or correct levels."
        )
    canvas = images.shape[1:3]
    for x, (stride, channels) in zip(maps, levels, strict=True):
        size = x.shape[1:3]
        if x.shape[3] != channels:
            raise ConfigError(
                f"{what} returns a map with {x.shape[3]} channels for the level of stride {stride}, but its "
                f"levels say {channels}; return a map with as many, or correct levels."
            )
        if 0 in size:
            raise ConfigError(
                f"{what} returns an empty map for the level of stride {stride}, as the canvas has only "
                f"{canvas[0]} x {canvas[1]} pixels; give larger images, a multiple of the largest stride as "
                "input.pad_divisor, or no such level."
            )
        # Most layers round up, as the padding's masks do; some leave out what does not fill a cell.
        least, most = [length // stride for length in canvas], [-(-length // stride) for length in canvas]
        if not all(low <= cells <= high for low, cells, high in zip(least, size, most, strict=True)):
            raise ConfigError(
                f"{what} returns a map of {size[0]} x {size[1]} cells for a canvas of {canvas[0]} x "
                f"{canvas[1]} pixels, but its levels say stride {stride}, which is {most[0]} x {most[1]} "
                "cells; correct levels or the strides of its layers."
            )


def check_stated(what: str, stated: Any, levels: Sequence[Level]) -> None:
    """Check that a module says to return the levels that its configuration says.

    Args:
        what: The module, for the message.
        stated: Its ``levels``.
        levels: Those of its configuration.

    Raises:
        ConfigError: They differ.
    """
    if not isinstance(stated, list | tuple) or tuple(stated) != tuple(levels):
        raise ConfigError(
            f"{what}.levels is {shown(stated)}, but its configuration says {shown(levels)}; make both the "
            "same."
        )


def _maps(count: int) -> str:
    return "1 map" if count == 1 else f"{count} maps"
