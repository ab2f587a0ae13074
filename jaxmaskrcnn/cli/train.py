"""``jaxmaskrcnn train`` and ``train.py``: trains a model and evaluates it.

Without arguments it learns generated shapes, which needs no downloads. Every setting of the run is a field
of its config: --config.data.batch_size=4. The same command, given again, continues a stopped run.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import tqdm
from absl import logging as absl_logging

from jaxmaskrcnn.config.overrides import override
from jaxmaskrcnn.config.recipe_files import find_config, list_recipes
from jaxmaskrcnn.utils.files import check_storable

QUICKSTART = "shapes"
LOG_FILE = "log.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``train``."""
    add = parser.add_argument
    add(
        "--config", default=QUICKSTART, metavar="NAME",
        help=f"a recipe ({', '.join(list_recipes())}) or a Python file with get_config(); "
        "NAME:ARGUMENT passes it an argument; default: %(default)s",
    )  # fmt: skip
    add(
        "--workdir", help="folder of the run: checkpoints, metrics, pictures; or gs://...; default: runs/NAME"
    )
    add(
        "--dry_run", action="store_true",
        help="check data and settings, print the schedule, compile one step, and end",
    )  # fmt: skip
    add("--coordinator_address", help="with several processes: host:port of process 0")
    add("--num_processes", type=int, help="number of processes")
    add("--process_id", type=int, help="number of this process, from 0")
    # Settings appear in the usage line although argparse does not parse them.
    parser.usage = "%(prog)s [-h] [--config NAME] [--config.SECTION.FIELD=VALUE ...] [--workdir WORKDIR] ..."
    parser.epilog = (
        "The settings, their defaults and meanings are in jaxmaskrcnn/config/: the sections are "
        "config.model, config.data, config.optimizer and config.train."
    )


def run(arguments: argparse.Namespace) -> int:
    """Trains; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them, and ``settings``, the others.

    Returns:
        The exit code 0.

    Raises:
        UserError: A setting, a file or the workdir's earlier run does not fit.
    """
    with contextlib.ExitStack() as handlers:
        return _run(arguments, handlers)


def _run(arguments: argparse.Namespace, handlers: contextlib.ExitStack) -> int:
    file = find_config(arguments.config)
    config = override(file.load(), arguments.settings)
    # Imported here, so that --help and mistakes in the command line do not wait for JAX, which takes seconds.
    from jaxmaskrcnn.models.precision import check_precision
    from jaxmaskrcnn.parallel.processes import initialize, is_first
    from jaxmaskrcnn.stores.filesystem import local_or_stored
    from jaxmaskrcnn.training.dry_run import dry_run
    from jaxmaskrcnn.training.loop import train_and_evaluate
    from jaxmaskrcnn.training.stored_workdir import local_folder, opened_workdir
    from jaxmaskrcnn.utils import compilation_cache
    from jaxmaskrcnn.weights.locate import locate

    log = logging.getLogger("jaxmaskrcnn")
    handlers.enter_context(_log_to(_AboveTheBar(), "%H:%M:%S"))
    log.setLevel(logging.INFO)
    log.propagate = False  # absl's own handler would print every line again
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax logs a lot at level INFO
    check_precision(config.model.architecture)  # before the workdir is made
    compilation_cache.enable()
    given = arguments.workdir or Path("runs") / file.path.stem
    place = local_or_stored(given, "--workdir")
    workdir = place if isinstance(place, Path) else local_folder(place)
    if config.model.weights and not (workdir / "checkpoints").is_dir():
        # Fetched before data are prepared, and before the processes join and wait for each other.
        locate(config.model.weights)
    initialize(arguments.coordinator_address, arguments.num_processes, arguments.process_id)
    if not is_first():
        log.setLevel(logging.WARNING)  # one process logs what all of them do
    if arguments.dry_run:
        print(dry_run(config, given))
        return 0
    with opened_workdir(given, "--workdir") as workdir:
        check_storable(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        if is_first():
            log_file = _LogFile(workdir / LOG_FILE, encoding="utf-8", delay=True)
            handlers.enter_context(_log_to(log_file, "%Y-%m-%d %H:%M:%S"))
        train_and_evaluate(config, workdir)
    return 0


class _AboveTheBar(logging.StreamHandler):
    """A handler for ``sys.stderr`` whose lines do not break the progress bar of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.tqdm.external_write_mode(self.stream):
            super().emit(record)


class _LogFile(logging.FileHandler):
    """A log file that a full disk ends, but not the run that writes it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it cannot be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        log = logging.getLogger("jaxmaskrcnn")
        log.removeHandler(self)
        reason = getattr(sys.exc_info()[1], "strerror", None) or "see above"
        log.warning("%s cannot be written (%s); the run goes on without it.", self.baseFilename, reason)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still to be written, of a disk that is full
            super().close()


@contextlib.contextmanager
def _log_to(handler: logging.Handler, clock: str) -> Iterator[None]:
    """Logs to a handler within the block, so that the next run in this process does not log there."""
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", clock))
    logging.getLogger("jaxmaskrcnn").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("jaxmaskrcnn").removeHandler(handler)
        handler.close()
