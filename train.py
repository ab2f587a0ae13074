"""Train a Mask R-CNN and evaluate it.

    python train.py
    python train.py --config=configs/finetune.py --workdir=runs/mine --config.data.batch_size=4 ...

Without arguments it learns generated shapes (configs/shapes.py) and needs no downloads. Running
the same command again continues where the last run stopped. With --dry_run it only checks the data
and the settings, prints the schedule, and compiles one step.
"""

import logging
import re
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from jaxmaskrcnn import compilation_cache
from jaxmaskrcnn.config import Config
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.training.distributed import initialize, is_first
from jaxmaskrcnn.training.dry_run import dry_run
from jaxmaskrcnn.training.loop import train_and_evaluate
from jaxmaskrcnn.training.run_config import check_overrides, quote_patterns

DEFAULT_CONFIG = Path(__file__).resolve().parent / "configs" / "shapes.py"

# No default here: it would be loaded, and overridden, before mistakes in the command line are told.
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file with get_config(); FILE:ARGUMENT passes it an argument. Default: shapes.py."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, metrics, pictures. Default: runs/<config's name>."
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check data and settings, print the schedule, compile one step, and end."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "With several processes: host:port of process 0."
)
PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def parse_flags(argv):
    """Parse the command line, with a sentence in place of a traceback for mistakes in it."""
    if not any(re.match(r"--?config(=|$)", argument) for argument in argv):
        argv = [argv[0], f"--config={DEFAULT_CONFIG}", *argv[1:]]
    try:
        check_overrides(argv[1:])
        rest = flags.FLAGS(quote_patterns(argv))
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not an argument of train.py; see --help.")
        if not config_file().exists():
            raise UserError(f"--config={config_file()} does not exist; see the folder configs.")
        if not isinstance(CONFIG.value, Config):
            raise UserError(f"{config_file()}: get_config() has to return a jaxmaskrcnn.config.Config.")
    except (flags.Error, UserError) as error:
        fail(error)
    return rest


def config_file() -> Path:
    """The config file, without the argument behind its colon."""
    return Path(flags.FLAGS["config"].config_filename.split(".py:")[0].removesuffix(".py") + ".py")


def fail(error):
    """Print the sentence of a mistake and end with exit code 2."""
    # A mistake that a config file raises arrives inside of the flag library's traceback.
    inner = re.search(r"^jaxmaskrcnn\.\S+Error: (.*)", str(error), re.MULTILINE | re.DOTALL)
    print(f"train.py: {inner[1].strip() if inner else error}", file=sys.stderr)
    sys.exit(2)


def main(_):
    """Set up logging and the compilation cache, and train as the parsed flags say."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    log = logging.getLogger("jaxmaskrcnn")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl's own handler would print every line again
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax tells much at the level of ours
    compilation_cache.enable()
    workdir = WORKDIR.value or Path("runs") / config_file().stem
    try:
        initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
        if not is_first():
            log.setLevel(logging.WARNING)  # one process tells what all of them do
        if DRY_RUN.value:
            print(dry_run(CONFIG.value, workdir))
        else:
            train_and_evaluate(CONFIG.value, workdir)
    except UserError as error:
        fail(error)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
