"""``python -m jaxmaskrcnn import``: converts annotations of other tools to a COCO json."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import write_json

if TYPE_CHECKING:
    from jaxmaskrcnn.data.coco.annotations import Problem
    from jaxmaskrcnn.data.importers.builder import Builder, Options

# Each is a module with OPTIONS, images(source) and read(source, builder, options).
FORMATS = ("labelme", "via", "yolo-seg", "voc", "masks")
_MOST_NAMES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``import``."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="file or folder of the annotations")
    add("--format", required=True, choices=FORMATS, help="the tool's format")
    add("--images", help="the image folder, if it is not the format's usual one")
    add("--output", required=True, help="the COCO json that is written")
    add("--names", help="class names in the order of their ids: a,b,c or a file with one per line")
    add("--class_name", help="via, masks: the class of all objects")
    add("--class_attribute", help="via: the region attribute that holds the class")
    add("--split", help="voc: a list of ImageSets/Segmentation, such as train")
    add(
        "--on_error", choices=("stop", "skip"), default="stop",
        help="if there are problems: write nothing, or leave out what cannot be used",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Imports; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: Something cannot be read, and nothing was written.
    """
    source, output = Path(arguments.source), Path(arguments.output)
    if not source.exists():
        raise UserError(f"{source} does not exist; check the path.")
    if output.exists() and output.is_dir():
        raise UserError(f"--output is the folder {output}; give the name of the json.")
    if output.exists() and source.is_file() and output.samefile(source):
        raise UserError(f"--output is {source} itself; give another file.")
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.data.coco.annotations import AllProblems, parse_annotations
    from jaxmaskrcnn.data.importers.builder import Builder
    from jaxmaskrcnn.data.importers.image_folder import ImageFolder
    from jaxmaskrcnn.data.inspection.statistics import make_table, statistics

    module = importlib.import_module(f"jaxmaskrcnn.data.importers.{arguments.format.replace('-', '_')}")
    options = _options(arguments, module.OPTIONS)
    folder = ImageFolder(Path(arguments.images) if arguments.images else module.images(source))
    builder = Builder(folder, options.names)
    module.read(source, builder, options)
    content = builder.content()
    _stop_or_report(builder.problems.found, arguments.on_error, source)
    for key, noun in (("images", "images"), ("categories", "objects")):
        if not content[key]:
            raise UserError(f"{source} holds no {noun} that can be used; correct the files.")

    checked = AllProblems()
    annotations = parse_annotations(content, output, folder.root, checked)
    if checked.found:
        raise UserError(f"{checked.found[0].message}.")
    write_json(output, content)
    _print_summary(statistics(annotations, make_table(annotations)), builder, output)
    return 0


def _options(arguments: argparse.Namespace, known: frozenset[str]) -> "Options":
    from jaxmaskrcnn.data.importers.builder import Options, check_distinct
    from jaxmaskrcnn.data.importers.files import read_text

    given = {name: getattr(arguments, name) for name in Options._fields if getattr(arguments, name)}
    for name in given:
        if name not in known:
            raise UserError(f"--{name} has no effect with the format {arguments.format}; leave it out.")
    if "names" in given:
        path = Path(given["names"])
        texts = read_text(path).splitlines() if path.is_file() else given["names"].split(",")
        names = [text.strip() for text in texts if text.strip() or not path.is_file()]
        given["names"] = check_distinct(names, "--names")
    return Options(**given)


def _stop_or_report(found: "list[Problem]", on_error: str, source: Path) -> None:
    if found and on_error == "stop":
        if len(found) == 1:
            raise UserError(f"{found[0].message} (or set --on_error=skip to leave it out).")
        for problem in found:
            print(f"  {problem.message}.", file=sys.stderr)
        raise UserError(
            f"{source} has these {len(found)} problems, and nothing was written; correct them, or set "
            "--on_error=skip to leave them out."
        )
    for problem in found:
        print(f"left out: {problem.message}.", file=sys.stderr)


def _print_summary(summary: dict, builder: "Builder", output: Path) -> None:
    classes = [f"{entry['name']} {entry['objects']}" for entry in summary["classes"] if entry["objects"]]
    empty = len(summary["classes"]) - len(classes)
    more = f", and {len(classes) - _MOST_NAMES} more" if len(classes) > _MOST_NAMES else ""
    more += f"; {empty} without objects" if empty else ""
    print(f"{output}: {summary['images']} images with {summary['objects']} objects")
    print(f"  classes         {', '.join(classes[:_MOST_NAMES])}{more}")
    if summary["images_without_objects"]:
        print(f"  without objects {summary['images_without_objects']} images")
    unused = builder.unused()
    if unused:
        print(f"  not annotated   {len(unused)} images of {builder.folder.root}, left out")
    for shape_type, (count, first) in builder.left_out.items():
        print(f"  left out        {count} of {shape_type}, which has no area (first: {first})")
    for note in builder.notes:
        print(f"  note            {note}")
    print(f"Look at them with: python -m jaxmaskrcnn inspect {output} --images={builder.folder.root}")
