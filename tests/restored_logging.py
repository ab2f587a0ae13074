"""Commands set up logging for their process; tests share one."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    """After the block, logging is what it was before."""
    root, ours = logging.getLogger(), logging.getLogger("jaxmaskrcnn")
    handlers, level = list(root.handlers), ours.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        ours.setLevel(level)
