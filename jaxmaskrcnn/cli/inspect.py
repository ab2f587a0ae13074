"""``python -m jaxmaskrcnn inspect``: checks annotations and their images, counts them, draws a sample."""

import argparse
import json
import sys
from pathlib import Path

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config
from jaxmaskrcnn.cli.reading import add_reading_arguments, reading_of
from jaxmaskrcnn.config import DataConfig, PixelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_file

_MOST = 2**31  # of any count or size
_LARGE = 2**25  # bytes of a json whose polygons take seconds to draw


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``inspect``."""
    data = DataConfig()
    add = parser.add_argument
    add("annotations", metavar="ANNOTATIONS", help="COCO-format json")
    add("--images", help="its image folder; without it only the json is checked")
    add("--output", default="contact_sheet.png", help="picture of a sample of the images")
    add("--count", type=int, default=12, help="number of images in that picture; 0 draws none")
    add("--seed", type=int, default=0, help="seed of the sample")
    add("--json", action="store_true", help="print everything as json")
    add_reading_arguments(parser, "regions that are not learned")
    add("--boxes_only", action="store_true", help="for a model without a mask head: no masks needed")
    add(
        "--skip_decoding", action="store_true",
        help="read only the images' sizes, which is much faster but misses truncated files",
    )  # fmt: skip
    add(
        "--processes", type=int, metavar="N",
        help="how many processes draw polygons and read sizes; the cores for a large json, else 1",
    )  # fmt: skip
    add_pixel_arguments(parser, "dtype: those of the type")
    add("--min_size", type=int, default=data.min_sizes[-1], help="short side of images in training")
    add("--max_size", type=int, default=data.max_size, help="limit of the long side in training")


def run(arguments: argparse.Namespace) -> int:
    """Inspects; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code: 0, or 2 if training would refuse something.

    Raises:
        UserError: A path or a setting is wrong.
    """
    for name, least in (("count", 0), ("min_size", 1), ("max_size", 1), ("processes", 1)):
        value = getattr(arguments, name)
        if value is not None and not least <= value < _MOST:
            limit = f"{least} or more" if value < least else f"less than {_MOST}"
            raise UserError(f"--{name} is {value}; give {limit}.")
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
    from jaxmaskrcnn.data.inspection.report import as_json, as_text
    from jaxmaskrcnn.visualize.contact_sheet import draw_sheet

    pixels = pixel_config(arguments, PixelConfig())
    folder = None if arguments.images is None else Path(arguments.images)
    inspection = inspect_annotations(
        Path(arguments.annotations),
        folder,
        masks=not arguments.boxes_only,
        decode=not arguments.skip_decoding,
        data=DataConfig(min_sizes=(arguments.min_size,), max_size=arguments.max_size),
        reading=reading_of(arguments),
        progress=sys.stderr.isatty(),
        pixels=pixels,
        processes=arguments.processes or _processes(Path(arguments.annotations)),
    )
    sheet = None
    if folder is not None and arguments.count:
        sheet = draw_sheet(inspection, folder, arguments.count, arguments.seed, pixels)
    if sheet is not None:
        with complete_file(arguments.output) as file:
            sheet.save(file, "PNG")
    if arguments.json:
        drawn = {"contact_sheet": arguments.output if sheet is not None else None}
        print(json.dumps({**as_json(inspection), **drawn}, indent=1, ensure_ascii=False))
    else:
        print(as_text(inspection))
        if sheet is not None:
            print(f"\nA sample of the images is in {arguments.output}")
    return 2 if inspection.problems else 0


def _processes(annotations: Path) -> int:
    """How many processes are worth their start, which takes half a second, for a json of this size."""
    from jaxmaskrcnn.utils.processes import core_count

    try:
        return core_count() if annotations.stat().st_size > _LARGE else 1
    except OSError:  # reported by what reads it
        return 1
