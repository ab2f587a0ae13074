"""Writing files so that a reader never sees half of one."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: str | os.PathLike, content: Any, *, indent: int | None = None) -> None:
    """Writes a json under a temporary name and renames it when it is complete.

    Args:
        path: Where; its folder is created when missing.
        content: Plain Python values, no NaN.
        indent: As in ``json.dump``.

    Example:
        >>> write_json("results/metrics.json", {"box_AP": 0.5}, indent=1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=indent, allow_nan=False)
            file.write("\n")
        # Temporary files are private; results are readable like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
