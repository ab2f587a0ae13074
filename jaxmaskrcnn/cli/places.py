"""What the arguments of commands name: where addresses of stores are read from, and what is sent there.

A command gets local paths. What it reads from a store is copied before it runs, and what it writes there is
sent when it has succeeded. An argument of another kind is resolved by what it is given to, such as
`load_model` for ``--checkpoint``, which takes more than paths.
"""

import argparse
import contextlib
import enum
from collections.abc import Iterator

from jaxmaskrcnn.stores.copies import local_copy
from jaxmaskrcnn.stores.sending import sent_path
from jaxmaskrcnn.utils.addresses import address_text, local_path, split_scheme


class Kind(enum.Enum):
    """What an argument names."""

    READ = enum.auto()  # a file that is read
    DATA = enum.auto()  # a COCO json, or its image folder, of which the files that the json names are read
    WRITTEN_FILE = enum.auto()
    WRITTEN_FOLDER = enum.auto()
    DISK = enum.auto()  # on a disk of this machine, as it is not copied as a whole
    RESOLVED_LATER = enum.auto()


_MODEL = {"checkpoint": Kind.RESOLVED_LATER, "model": Kind.READ}

# Arguments that are not here hold no paths.
PLACES: dict[str, dict[str, Kind]] = {
    "train": {"config": Kind.RESOLVED_LATER, "workdir": Kind.RESOLVED_LATER},
    "evaluate": {
        **_MODEL,
        "predictions": Kind.READ,
        "annotations": Kind.DATA,
        "images": Kind.DATA,
        "output": Kind.WRITTEN_FOLDER,
        "cache_dir": Kind.DISK,
        "stuff": Kind.DISK,
    },
    "predict": {
        **_MODEL,
        "inputs": Kind.RESOLVED_LATER,
        "annotations": Kind.READ,
        "font": Kind.READ,
        "output": Kind.WRITTEN_FOLDER,
    },
    "inspect": {
        "annotations": Kind.DATA,
        "images": Kind.DATA,
        "output": Kind.WRITTEN_FILE,
        "stuff": Kind.DISK,
    },
    "import": {
        "source": Kind.DISK,
        "images": Kind.DISK,
        "output": Kind.WRITTEN_FILE,
        "names": Kind.READ,
        "rename": Kind.READ,
        "keypoints": Kind.READ,
    },
    "report": {
        "detections": Kind.READ,
        "annotations": Kind.DATA,
        "images": Kind.DATA,
        "output": Kind.WRITTEN_FOLDER,
        "stuff": Kind.DISK,
        "segments": Kind.DISK,
    },
    "plot": {"workdirs": Kind.RESOLVED_LATER, "output": Kind.WRITTEN_FILE},
    "config": {"recipe": Kind.RESOLVED_LATER},
    "models": {},
    "download": {"names": Kind.RESOLVED_LATER},
    "convert": {
        "source": Kind.RESOLVED_LATER,
        "directory": Kind.RESOLVED_LATER,
        "model": Kind.READ,
        "categories": Kind.READ,
    },
    "export": {"source": Kind.RESOLVED_LATER, "file": Kind.WRITTEN_FILE, "model": Kind.READ},
}


@contextlib.contextmanager
def local_places(
    command: str, parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> Iterator[None]:
    """Replaces the addresses among a command's arguments by local paths, within the block.

    Args:
        command: A key of ``PLACES``.
        parser: The command's arguments, for messages.
        arguments: What was given; changed in place.

    Raises:
        UserError: An address is of no known kind, or what is there cannot be read or written.
    """
    titles = {
        action.dest: action.option_strings[-1] if action.option_strings else action.metavar or action.dest
        for action in parser._actions
    }
    kinds = PLACES[command]
    given = {
        name: value
        for name in kinds
        if isinstance(value := getattr(arguments, name), str) and split_scheme(address_text(value))
    }
    with contextlib.ExitStack() as sent:
        # What is written first, so that a wrong address is reported before files are copied.
        for name, value in given.items():
            if kinds[name] in (Kind.WRITTEN_FILE, Kind.WRITTEN_FOLDER):
                folder = kinds[name] is Kind.WRITTEN_FOLDER
                path = sent.enter_context(sent_path(value, titles[name], folder=folder))
                setattr(arguments, name, str(path))
            elif kinds[name] is Kind.DISK:
                setattr(arguments, name, str(local_path(value, titles[name])))
        for name, value in given.items():
            if kinds[name] is Kind.READ:
                setattr(arguments, name, str(local_copy(value, titles[name])))
        if any(kinds[name] is Kind.DATA for name in given):
            from jaxmaskrcnn.data.stored import local_data  # which takes a moment to import

            title = titles["annotations"], titles["images"]
            if arguments.images is None:
                arguments.annotations = str(local_copy(arguments.annotations, title[0]))
            else:
                paths = local_data(arguments.annotations, arguments.images, title)
                arguments.annotations, arguments.images = map(str, paths)
        yield
