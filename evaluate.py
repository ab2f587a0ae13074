"""Evaluate a checkpoint on annotated images.

    python evaluate.py --checkpoint=PATH --annotations=instances.json --images=DIR [--output=DIR]

Prints COCO's box and mask tables and the AP of every class. ``jaxmaskrcnn evaluate`` is the same.
"""

import sys

from jaxmaskrcnn.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate", sys.argv[1:], "evaluate.py"))
