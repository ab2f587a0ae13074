"""Damaged checkpoints of a run: how they are recognised, and where they are put."""

import contextlib
import gc
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxmaskrcnn.checkpoints.arrays import changed_arrays
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.checksums import array_checksum
from jaxmaskrcnn.utils.files import write_problem


def checksums(parts: dict[str, Any]) -> dict[str, str]:
    """The checksum of every array and number of a checkpoint.

    Args:
        parts: By the part's name, an ``nnx.State`` or another tree.

    Returns:
        The checksums, by names such as "model.backbone.stem.conv.kernel".
    """
    return {name: array_checksum(x) for name, x in _named(parts).items()}


def checked(parts: dict[str, Any], metadata: Any, checkpoint: Path) -> dict[str, Any]:
    """Check what was read against the checksums that were written with it.

    Args:
        parts: All parts of a checkpoint or some of them.
        metadata: The checkpoint's own metadata, which hold the checksums; those of version 0.1.0 have none,
            and are not checked.
        checkpoint: Folder of the checkpoint, for the message.

    Returns:
        The parts.

    Raises:
        UserError: An array or number has another checksum.
    """
    stored = metadata.get("checksums") if isinstance(metadata, dict) else None
    if problem := changed_arrays(_named(parts), stored if isinstance(stored, dict) else {}):
        raise UserError(f"The checkpoint {checkpoint} is damaged: {problem}.")
    return parts


def _named(parts: dict[str, Any]) -> dict[str, Any]:
    """All arrays and numbers of a checkpoint, by the names of their part and their place in it."""
    named = {}
    for part, tree in parts.items():
        if isinstance(tree, nnx.State):
            for path, variable in nnx.to_flat_state(tree):
                named[".".join((part, *map(str, path)))] = variable[...]
        else:
            for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
                named[f"{part}{jax.tree_util.keystr(path)}"] = x
    return named


def move_aside(checkpoint: Path) -> str:
    """Rename a damaged checkpoint, so that it is not read again and what it holds is not lost.

    Args:
        checkpoint: Its folder, ``checkpoints/<step>``.

    Returns:
        The new path, ``checkpoints/damaged-<step>``, with a number if there is one already.
    """
    new, count = checkpoint.with_name(f"damaged-{checkpoint.name}"), 1
    while new.exists():
        count += 1
        new = checkpoint.with_name(f"damaged-{checkpoint.name}-{count}")
    os.rename(checkpoint, new)
    return str(new)


@contextlib.contextmanager
def damage_reported(checkpoint: Path) -> Iterator[None]:
    """Reports damaged files, such as files truncated by a full disk or a stopped copy, in one sentence.

    Args:
        checkpoint: Folder of the checkpoint, for the message.

    Raises:
        UserError: Reading within the block raised an exception.
    """
    try:
        yield
    except Exception as error:  # Orbax raises a different exception for each file that is damaged
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:150]
        raise UserError(f"The checkpoint {checkpoint} cannot be read ({reason}).") from error


def drop_unfinished() -> None:
    """Free what a failed read or write has left, without the log of it.

    The other reads and writes that Orbax 0.12 had begun end with exceptions that nobody retrieves, and
    asyncio logs each with its traceback, thousands of characters long, whenever it happens to be freed.
    """
    logger = logging.getLogger("asyncio")
    disabled, logger.disabled = logger.disabled, True
    try:
        gc.collect(1)  # what failed is young; a whole collection takes seconds in a large process
    finally:
        logger.disabled = disabled


def quiet_writers() -> None:
    """Keep Orbax 0.12 from printing tracebacks of a failed write, one for each of its threads.

    The exception itself is raised in the main thread, when the checkpoint is waited for. Writes that end
    later print that Orbax' event loop is closed.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_about_a_closed_loop
    logger = logging.getLogger("absl")
    if _is_no_failed_write not in logger.filters:
        logger.addFilter(_is_no_failed_write)


def _unless_about_a_closed_loop(unraisable) -> None:
    if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
        sys.__unraisablehook__(unraisable)


def _is_no_failed_write(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    # Of several threads the others fail too, for want of what the first has not written.
    return error is None or not (write_problem(error) or "_SignalingThread" in record.getMessage())


def remove_folder(folder: Path) -> None:
    """Delete what a failed write has left, in which its threads may go on to write for a moment.

    Args:
        folder: The folder, which need not exist.
    """
    _wait_for_writers()
    absent = 0
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        absent = 0 if folder.exists() else absent + 1
        if absent == 3:  # storage threads of C++, which nothing waits for, make folders again
            return
        time.sleep(0.1)


def _wait_for_writers(seconds: float = 3.0) -> None:
    """Wait for Orbax's threads, the others of which go on when one of them has failed."""
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if type(thread).__name__ == "_SignalingThread":
            # Its own ``join`` raises what it has failed with.
            threading.Thread.join(thread, max(end - time.monotonic(), 0))
