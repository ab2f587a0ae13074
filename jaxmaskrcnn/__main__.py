"""``python -m jaxmaskrcnn COMMAND``: the same as ``jaxmaskrcnn COMMAND``."""

import sys

from jaxmaskrcnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
