"""Writing files so that a reader never sees half of one."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def complete_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write under a temporary name, which gets its own when all went well.

    Args:
        path: Where; its folder is created when missing.

    Yields:
        The open file, binary.

    Example:
        >>> with complete_file("results/scores.bin") as file:
        ...     _ = file.write(b"1")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            yield file
        # Temporary files are private; results are readable like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike, content: Any, *, indent: int | None = None) -> None:
    """Writes a json, complete or not at all.

    Args:
        path: Where; its folder is created when missing.
        content: Plain Python values, no NaN.
        indent: As in ``json.dump``.

    Example:
        >>> write_json("results/metrics.json", {"box_AP": 0.5}, indent=1)
    """
    with complete_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
        json.dump(content, text, indent=indent, allow_nan=False)
        text.write("\n")
        text.detach()
