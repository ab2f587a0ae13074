"""``python -m jaxmaskrcnn COMMAND``: what can be done with data and with models besides training."""

import argparse
import os
import sys
from collections.abc import Sequence

from jaxmaskrcnn.convert import convert_main as convert
from jaxmaskrcnn.convert import export_main as export
from jaxmaskrcnn.convert import models_main as models
from jaxmaskrcnn.data.importers import main as import_
from jaxmaskrcnn.data.inspection import main as inspect
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.inference import main as predict
from jaxmaskrcnn.report import main as report
from jaxmaskrcnn.report import plot_main as plot

# Each command is a module with HELP, add_arguments(parser) and run(arguments) -> exit code.
COMMANDS = {
    "import": import_,
    "inspect": inspect,
    "predict": predict,
    "convert": convert,
    "export": export,
    "models": models,
    "report": report,
    "plot": plot,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments after the program's name; None takes those of the process.

    Returns:
        The exit code: 0, or 2 for a mistake, which is told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m jaxmaskrcnn", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(command)
    arguments = parser.parse_args(argv)
    try:
        code = COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"jaxmaskrcnn {arguments.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has what they wanted, as "head" does; flushing it would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
