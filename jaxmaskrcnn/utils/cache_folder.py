"""The folder under which the library keeps what it fetches."""

import os
from pathlib import Path

import platformdirs

from jaxmaskrcnn.utils.addresses import local_path

HOME = "JAXMASKRCNN_HOME"


def home() -> Path:
    """The folder under which the library keeps what it fetches.

    Raises:
        UserError: ``JAXMASKRCNN_HOME`` is an address, such as one in a store.
    """
    given = os.environ.get(HOME)
    folder = local_path(given, HOME) if given else platformdirs.user_cache_path("jaxmaskrcnn")
    return folder.expanduser().absolute()
