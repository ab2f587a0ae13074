"""Train a Mask R-CNN and evaluate it.

    python train.py
    python train.py --config=configs/finetune.py --workdir=runs/mine --config.data.batch_size=4 ...

Without arguments it learns generated shapes (configs/shapes.py) and needs no downloads. Running
the same command again continues where the last run stopped. With --dry_run it only checks the data
and the settings, prints the schedule, and compiles one step. ``jaxmaskrcnn train`` is the same.
"""

import sys

from jaxmaskrcnn.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:], "train.py"))
