"""The folder under which the library keeps what it fetches."""

import os
from pathlib import Path

import platformdirs

HOME = "JAXMASKRCNN_HOME"


def home() -> Path:
    """The folder under which the library keeps what it fetches."""
    return Path(os.environ.get(HOME) or platformdirs.user_cache_path("jaxmaskrcnn")).expanduser().absolute()
