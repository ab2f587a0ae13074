"""``jaxmaskrcnn COMMAND``, or ``python -m jaxmaskrcnn COMMAND``: the command line of jaxmaskrcnn."""

import argparse
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxmaskrcnn import __version__
from jaxmaskrcnn.cli.familiar_flags import familiar
from jaxmaskrcnn.cli.places import local_places
from jaxmaskrcnn.cli.terminal import harmless_output
from jaxmaskrcnn.config.recipe_files import import_file
from jaxmaskrcnn.errors import UserError


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        module: A module with ``add_arguments(parser)`` and ``run(arguments) -> exit code``. It is
            imported when the command is used, because most imports take a second or more.
        help: Its line on the help page.
        settings: Whether further arguments are accepted, as ``arguments.settings``.
    """

    module: str
    help: str
    settings: bool = False


COMMANDS = {
    "train": Command(
        "jaxmaskrcnn.cli.train",
        "train a model and evaluate it; without arguments, on generated shapes",
        settings=True,
    ),
    "evaluate": Command("jaxmaskrcnn.cli.evaluate", "score a model on annotated images with COCO's metrics"),
    "predict": Command("jaxmaskrcnn.cli.predict", "draw and write a model's detections in images and videos"),
    "inspect": Command(
        "jaxmaskrcnn.cli.inspect",
        "check annotations and their images, count objects, draw a sample",
    ),
    "import": Command(
        "jaxmaskrcnn.cli.import_",
        "turn annotations of labelme, VIA, YOLO, Pascal VOC or mask images into COCO json",
    ),
    "report": Command(
        "jaxmaskrcnn.cli.report",
        "write a page about detections: AP, curves, error types, confusion, the worst images",
    ),
    "plot": Command(
        "jaxmaskrcnn.cli.plot", "draw losses, learning rate and AP over the steps of training runs"
    ),
    "config": Command(
        "jaxmaskrcnn.cli.config",
        "list every setting of a run with its value, or with those of a recipe",
        settings=True,
    ),
    "models": Command(
        "jaxmaskrcnn.cli.models",
        "list the presets and ImageNet backbones, with published AP, weights files and licences",
    ),
    "download": Command(
        "jaxmaskrcnn.cli.download", "fetch published weights by name, for this machine or for another one"
    ),
    "convert": Command(
        "jaxmaskrcnn.cli.convert",
        "make a model directory from a torchvision, Detectron2 or MMDetection checkpoint",
    ),
    "export": Command(
        "jaxmaskrcnn.cli.export",
        "write a model's weights for another library, or its prediction as one StableHLO file",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments after the program's name; None takes those of the process.

    Returns:
        The exit code: 0, or 2 for a mistake, which is reported in one sentence on stderr.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    called = (
        "python -m jaxmaskrcnn"
        if sys.argv[0] == str(Path(__file__).parents[1] / "__main__.py")
        else "jaxmaskrcnn"
    )
    if not argv or argv[0] not in COMMANDS:
        parser = _help_page(called)
        if argv and not argv[0].startswith("-"):
            near = difflib.get_close_matches(argv[0], COMMANDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}."
            parser.error(f"{argv[0]!r} is not a command; {hint}")
        parser.parse_args(argv)  # prints, and ends the process
    return run_command(argv[0], argv[1:], f"{called} {argv[0]}")


def run_command(name: str, argv: Sequence[str], program: str) -> int:
    """Runs the command ``name``, whose output is safe for a terminal.

    Args:
        name: A key of ``COMMANDS``.
        argv: Arguments after the command's name.
        program: Program and command as the user typed them, for messages.

    Returns:
        The exit code, as from `main`.
    """
    with harmless_output():
        return _run_command(name, argv, program)


def _run_command(name: str, argv: Sequence[str], program: str) -> int:
    module = importlib.import_module(COMMANDS[name].module)
    parser = argparse.ArgumentParser(prog=program, description=_plain(module.__doc__), allow_abbrev=False)
    module.add_arguments(parser)
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="a module to import first, with parts of your own that a model has; or the path of its file",
    )  # fmt: skip
    # Flags of settings contain dots, as in --config.train.steps=5, and are checked by the command.
    dotted = COMMANDS[name].settings
    flags = [word for word in argv if not (dotted and "." in word.partition("=")[0])]
    _refuse_unknown_flags(parser, flags, has_settings=dotted)
    arguments, rest = parser.parse_known_args(argv)
    if COMMANDS[name].settings:
        arguments.settings = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        _refuse_empty_values(parser, arguments)
        for imported in arguments.imports:
            _import(imported)
        with local_places(name, parser, arguments):
            code = module.run(arguments)
            sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{program.removeprefix('python -m ')}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program.removeprefix('python -m ')}: interrupted.", file=sys.stderr)
        return 130  # as shells report it
    except BrokenPipeError:
        # The reader of the output has closed it, as "head" does; flushing it would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # An error about a path or a full disk is reported; anything else is a bug and keeps its traceback.
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        path = error.filename
        place = f"{path} cannot be read or written" if path is not None else "the output cannot be written"
        message = f"{place} ({error.strerror}); give another path, or repair this one."
        print(f"{program.removeprefix('python -m ')}: {message}", file=sys.stderr)
        return 2


def _refuse_unknown_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str], *, has_settings: bool
) -> None:
    """Reports misspelt flags before argparse does, which would first report a missing argument."""
    known = [flag for action in parser._actions for flag in action.option_strings]
    words = argv[: argv.index("--")] if "--" in argv else argv
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, 1)
        hint = f"; did you mean {near[0]}?" if near else "; see --help"
        if has_settings and (name := familiar(unknown[0])):
            hint = f"; it is called {name} here"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _refuse_empty_values(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuses arguments without a value, which a script makes of a variable that is not set."""
    for action in parser._actions:
        value = getattr(arguments, action.dest, None)
        values = value if isinstance(value, list) else [value]
        if "" in values and value != action.default:
            name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
            leave = ", or leave it out" if action.option_strings and not action.required else ""
            raise UserError(f"{name} is empty; give it a value{leave}.")


def _import(name: str) -> None:
    """Imports a module of the user's, from the working directory too, as ``python -m`` does, or a file.

    Raises:
        UserError: There is no such module.
    """
    if name.endswith(".py") and Path(name).is_file():
        import_file(Path(name))
        return
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise UserError(
            f"--import={name}: there is no module {error.name}; give its name with dots, such as "
            "package.module, and run the command where it can be imported."
        ) from None
    except (ValueError, TypeError):
        raise UserError(
            f"--import={name} is not the name of a module; give one such as package.module."
        ) from None


def _plain(docstring: str) -> str:
    return docstring.replace("``", "")


def _help_page(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=_plain(__doc__), allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jaxmaskrcnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser
