"""``python -m jaxmaskrcnn models``: lists the presets and ImageNet backbones, with published AP.

With ``--files`` it lists the weights files instead: what is published of their sizes and hashes, whether they
are on this machine, and their addresses.
"""

import argparse
from collections.abc import Sequence

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.weights.cache import place
from jaxmaskrcnn.zoo.lookup import (
    ModelInfo,
    PublishedFile,
    backbone_info,
    list_backbones,
    list_models,
    model_info,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``models``."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="list only entries with each of these words in name or file"
    )
    parser.add_argument(
        "--files", action="store_true", help="list the weights files: size, hash, whether it is here, address"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: No entry has all the words.
    """
    models = [
        info for info in map(model_info, list_models()) if _has(arguments.words, info.name, _file(info))
    ]
    backbones = [
        info for info in map(backbone_info, list_backbones()) if _has(arguments.words, info.name, *info.files)
    ]
    if not models and not backbones:
        raise UserError(
            f"no preset and no backbone has {' and '.join(map(repr, arguments.words))} in its name or file; "
            "leave the words out to see all of them."
        )
    if arguments.files:
        files = [(info.name, info.weights) for info in models if info.weights]
        for info in backbones:
            files += [
                (f"{info.name}/{file.name}" if i else info.name, file) for i, file in enumerate(info.weights)
            ]
        rows = [(name, *_published(file)) for name, file in files]
        _print_table(("name", "MiB", "hash begins with", "here", "address"), rows, right=(1,))
        return 0
    if models:
        rows = [
            (
                info.name,
                *map(_percent, (info.box_ap, info.mask_ap, info.keypoint_ap, info.pq)),
                _file(info),
                info.licence or "-",
            )
            for info in models
        ]
        head = ("model", "box AP", "mask AP", "keypoint AP", "PQ", "weights", "licence")
        _print_table(head, rows, right=(1, 2, 3, 4))
    if models and backbones:
        print()
    if backbones:
        # A line for each file, so that a name from a download folder can be found.
        rows = [(info.name, file, info.licence) for info in backbones for file in (info.files or ("-",))]
        _print_table(("ImageNet backbone", "weights", "licence"), rows)
    return 0


def _has(words: Sequence[str], *texts: str) -> bool:
    return all(word.lower() in " ".join(texts).lower() for word in words)


def _file(info: ModelInfo) -> str:
    """The weights file. Detectron2's file names are not unique, so the model id stands in front."""
    return "/".join(part for part in (info.model_id, info.file) if part) or "-"


def _published(file: PublishedFile) -> tuple[str, ...]:
    """What is known of a file, in the order of the table's columns."""
    size = "-" if file.mebibytes is None else f"{file.mebibytes:.1f}"
    checksum = f"{file.checksum.title} {file.checksum.start}" if file.checksum else "-"
    return size, checksum, "yes" if place(file.address).is_file() else "-", file.address


def _percent(ap: float | None) -> str:
    return "-" if ap is None else f"{ap:.1f}"


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
