"""Evaluate a checkpoint on annotated images.

    python evaluate.py --checkpoint=PATH --annotations=instances.json --images=DIR [--output=DIR]

Prints COCO's box and mask tables and the AP of every class.
"""

import sys

from jaxmaskrcnn.evaluation.main import main

if __name__ == "__main__":
    sys.exit(main())
