"""``python -m jaxmaskrcnn import``: converts annotations of other tools to a COCO json."""

import argparse
import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmaskrcnn.cli.import_report import print_notes, print_summary, reasons, stop_or_report
from jaxmaskrcnn.data.coco.reading import CROWD
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.files import complete_file, dump_json

if TYPE_CHECKING:
    from jaxmaskrcnn.data.importers.builder import Builder
from jaxmaskrcnn.data.importers.options import Options

# Each is a module with OPTIONS, images(source) and read(source, builder, options).
FORMATS = (
    "labelme", "via", "yolo-seg", "yolo", "voc", "masks",
    "label-studio", "cityscapes", "rle-csv", "cellpose", "isat", "sam", "panoptic",
    "coco", "cvat", "datumaro", "supervisely",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``import``."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="file or folder of the annotations")
    add("--format", required=True, choices=FORMATS, help="the tool's format")
    add("--images", help="the image folder, if it is not the format's usual one")
    add("--output", required=True, help="the COCO json that is written")
    add("--names", help="class names in the order of their ids: a,b,c or a file with one per line")
    add("--class_name", help="one class for all objects, where the format has this option")
    add("--class_attribute", help="via: the region attribute that holds the class")
    add(
        "--split",
        help="fractions such as 0.8,0.2 (train, val): one json each, divided by image; or a list (voc) or "
        "part (yolo, yolo-seg, cityscapes, coco, cvat, datumaro, supervisely) of the source, such as train",
    )
    add("--split_seed", type=int, default=0, help="another number divides the images in another way")
    add(
        "--ids",
        choices=("plain", "cityscapes", "kitti", "mapillary", "mots"),
        help="masks: how values hold the class and the number of an object",
    )
    add(
        "--crowd", choices=CROWD,
        help="coco, datumaro: what annotations marked as crowd are: regions that are not learned (ignore, as "
        "it is by default), objects, or nothing (drop)",
    )  # fmt: skip
    add(
        "--rename",
        help="coco: new names of classes: old:new,old:new or a file with one a line; two classes of one name "
        "become one",
    )
    add(
        "--boxes_only",
        action="store_true",
        help="coco, voc: for a model without a mask head: no masks needed",
    )
    add("--relative", action="store_true", help="coco: polygons are shares of the image, from 0 to 1")
    add(
        "--keypoints",
        help="labelme: names of the keypoints in their order: a,b,c or a file with one per line",
    )
    add(
        "--first_pixel", choices=("0", "1"),
        help="voc: the number of an image's first row and column: 1 as in Pascal VOC, or 0; by default 0 if "
        "a box begins there, else 1",
    )  # fmt: skip
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
    # Imported here, so that --help does not wait for JAX.
    from jaxmaskrcnn.data.importers.builder import Builder
    from jaxmaskrcnn.data.importers.image_folder import ImageFolder
    from jaxmaskrcnn.data.importers.split import by_part, divide, fractions_of

    fractions = fractions_of(arguments.split)
    if fractions is not None:
        arguments.split = None  # the importer reads all
    module = importlib.import_module(f"jaxmaskrcnn.data.importers.{arguments.format.replace('-', '_')}")
    options = _options(arguments, module.OPTIONS)
    folder = ImageFolder(Path(arguments.images) if arguments.images else module.images(source))
    builder = Builder(folder, options.names)
    module.read(source, builder, options)
    content = builder.content()
    stop_or_report(builder.problems.found, arguments.on_error, source)
    for key, noun in (("images", "images"), ("annotations", "objects")):
        if not content[key]:
            why = reasons(builder)
            if content["images"] and not why:
                why = [f"nothing is annotated in its {len(content['images'])} images"]
            because = f": {'; '.join(why)}" if why else ""
            raise UserError(f"{source} holds no {noun} that can be used{because}; correct the files.")
    if all(entry["iscrowd"] for entry in content["annotations"]):
        fix = "if they are objects, set --crowd=objects" if "crowd" in module.OPTIONS else "give objects"
        count = len(content["annotations"])
        raise UserError(
            f"{source} has no object to learn: all {count} annotations "
            + (f"but those with problems ({'; '.join(reasons(builder))}) " if builder.problems.found else "")
            + f"are crowd regions ('iscrowd': 1); {fix}."
        )

    if fractions is not None:
        own = sorted({builder.splits.get(image["file_name"], "") for image in content["images"]} - {""})
        if len(own) > 1:
            builder.notes.append(
                f"the images of the source's own parts ({', '.join(own)}) are mixed by the fractions of "
                "--split; without it each part becomes a json"
            )
        parts = divide(content, fractions, arguments.split_seed)
    else:
        parts = by_part(
            content, {i["file_name"]: builder.splits.get(i["file_name"], "") for i in content["images"]}
        )
    outputs = {output if len(parts) == 1 else _part_path(output, part): part for part in sorted(parts)}
    for path in outputs:
        _keep_source(path, source, arguments.format)
    summaries = _write({path: parts[part] for path, part in outputs.items()}, builder, source)
    for path, summary in summaries.items():
        print_summary(summary, path)
    print_notes(builder, next(iter(outputs)))
    return 0


def _keep_source(path: Path, source: Path, form: str) -> None:
    """Refuses an output that would replace a file of the source; an earlier import's may be replaced."""
    from jaxmaskrcnn.data.importers.files import read_json

    if not path.exists():
        return
    if path.is_dir():
        raise UserError(f"{path} would be written, and is a folder; give another --output.")
    if source.is_file() and path.samefile(source):
        raise UserError(f"--output is {source} itself; give another file.")
    if not source.is_dir() or not path.resolve().is_relative_to(source.resolve()):
        return
    content = None
    with contextlib.suppress(UserError):
        content = read_json(path)
    imported = isinstance(content, dict) and {"images", "annotations"} <= content.keys()
    if form == "coco" or not imported:
        raise UserError(
            f"{path} is a file of the source {source}, and would be replaced; give another --output."
        )


def _part_path(output: Path, part: str) -> Path:
    return output.with_name(f"{output.stem}_{part or 'rest'}{output.suffix or '.json'}")


def _write(contents: "dict[Path, dict[str, list]]", builder: "Builder", source: Path) -> dict[Path, dict]:
    """Checks and writes the jsons, and the pictures that the source holds; returns the figures of each."""
    from jaxmaskrcnn.data.coco.annotations import AllProblems, parse_annotations
    from jaxmaskrcnn.data.coco.crowd import no_pixels
    from jaxmaskrcnn.data.inspection.statistics import make_table, statistics

    written: list[Path] = []
    try:
        for path, data in builder.pictures.items():
            if not path.exists():
                with complete_file(path) as file:
                    file.write(data)
                written.append(path)
        summaries, images = {}, []
        for path, content in contents.items():
            checked = AllProblems()
            annotations = parse_annotations(
                content,
                path,
                builder.folder.root,
                checked,
                masks=builder.masks,
                keypoints=bool(builder.keypoints.names),
            )
            if checked.found:
                raise UserError(f"{checked.found[0].message}.")
            summaries[path] = statistics(annotations, make_table(annotations))
            images += annotations.images
        nothing = no_pixels(images, str(source)) if builder.masks else None
        if nothing:
            raise UserError(f"{nothing}.")
        with contextlib.ExitStack() as files:
            for path, content in contents.items():
                dump_json(files.enter_context(complete_file(path)), content)
    except BaseException as error:
        for path in written:
            with contextlib.suppress(OSError):  # of a disk that has become read-only
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(
                f"{error.filename} cannot be written ({error.strerror}); give another --images or --output."
            ) from error
        raise
    return summaries


def _options(arguments: argparse.Namespace, known: frozenset[str]) -> "Options":
    from jaxmaskrcnn.data.importers.options import Options

    given = {name: getattr(arguments, name) for name in Options._fields if getattr(arguments, name)}
    for name in given:
        if name not in known:
            if name == "split":
                raise UserError(
                    f"--split is {arguments.split}, and the format {arguments.format} has no lists or parts; "
                    "give fractions such as 0.8,0.2."
                )
            raise UserError(f"--{name} has no effect with the format {arguments.format}; leave it out.")
    for field in ("names", "keypoints"):
        if field in given:
            given[field] = _listed(given[field], f"--{field}")
    if "rename" in given:
        given["rename"] = _renamed(given["rename"])
    return Options(**given)


def _listed(text: str, argument: str) -> list[str]:
    """The names that an argument lists, or a file with one a line."""
    from jaxmaskrcnn.data.importers.builder import check_distinct
    from jaxmaskrcnn.data.importers.files import read_text

    path = Path(text)
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml", ".json", ".xml"):
        raise UserError(f"{argument} is {path}; give the names as a,b,c or a text file with one per line.")
    texts = read_text(path).splitlines() if path.is_file() else text.split(",")
    return check_distinct([text.strip() for text in texts if text.strip() or not path.is_file()], argument)


def _renamed(text: str) -> dict[str, str]:
    """The new names of classes by their old ones."""
    from jaxmaskrcnn.data.importers.files import read_text

    path = Path(text)
    lines = read_text(path).splitlines() if path.is_file() else text.split(",")
    pairs: dict[str, str] = {}
    for line in lines:
        if path.is_file() and not line.strip():
            continue
        # Class names can hold a colon; a file can use another separator.
        others = [mark for mark in ("\t", " -> ") if path.is_file() and line.count(mark) == 1]
        old, _, new = (word.strip() for word in line.partition(others[0] if others else ":"))
        if not old or not new or (not others and ":" in new):
            raise UserError(
                f"--rename has {line.strip()!r}; give the old and the new name as old:new (in a "
                "file also with a tab or ' -> ' between them)."
            )
        if old in pairs:
            raise UserError(f"--rename has {old!r} twice; give it one new name.")
        pairs[old] = new
    return pairs
