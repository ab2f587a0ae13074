"""Writes files so that a reader never sees an incomplete one."""

import contextlib
import errno
import io
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import local_path


def check_image_folder(folder: Path, advice: str = "check the path") -> None:
    """Checks that an image folder exists and is a folder.

    Args:
        folder: The image folder.
        advice: Advice for the message if it does not exist.

    Raises:
        UserError: It does not exist, or is a file.

    Example:
        >>> check_image_folder(Path("."))
    """
    if not folder.is_dir():
        problem = (
            "is a file; give the folder of the images" if folder.exists() else f"does not exist; {advice}"
        )
        raise UserError(f"the image folder {folder} {problem}.")


def check_storable(path: str | os.PathLike) -> None:
    """Checks that arrays can be stored in a folder; the library that writes them takes only UTF-8.

    Args:
        path: The folder, which need not exist.

    Raises:
        UserError: Its path has bytes that are not UTF-8, or a folder's name that is taken for a bucket.

    Example:
        >>> check_storable("runs/shapes")
    """
    absolute = os.path.abspath(path)
    try:
        absolute.encode()
    except UnicodeEncodeError:
        shown = absolute.encode(errors="backslashreplace").decode()
        raise UserError(
            f"the path {shown} is not UTF-8, and arrays cannot be stored there; give another one."
        ) from None
    if "gs:/" in f"{absolute}/":
        raise UserError(
            f"the path {absolute} has a folder whose name ends with gs:, which the library for arrays "
            "takes for a bucket; give another one, or gs://BUCKET/PATH for one in a bucket."
        )


@contextlib.contextmanager
def complete_path(path: str | os.PathLike, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path for a file, which is renamed to its final name if the block succeeds.

    Args:
        path: Final path of the file; its folder is created when missing.
        durable: Whether to wait until the disk holds the content before the rename, so that a machine that
            loses power leaves the old file or the new one, and not an empty file. It costs milliseconds.

    Yields:
        The path of an empty file with the same suffix, for programs that write files by name.

    Example:
        >>> with complete_path("results/scores.txt") as temporary:
        ...     _ = temporary.write_text("1")
    """
    path = local_path(path, "the file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile is not used, so that the umask determines who can read the result.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")
    with about(path):
        open(temporary, "xb").close()
    try:
        yield temporary
        with about(path):
            if durable:
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(
            OSError
        ):  # of a disk that has become read-only; what failed first is reported
            temporary.unlink(missing_ok=True)
        # A write that fails names no file, and an open names the temporary one.
        if isinstance(error, OSError) and error.filename in (None, os.fspath(temporary)) and error.errno:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise


def write_problem(error: BaseException) -> str | None:
    """What the system said of a write that failed in a library, which raises exceptions of its own.

    Args:
        error: The exception, with those that caused it.

    Returns:
        The system's words, such as "No space left on device"; None if the exception is about something else.

    Example:
        >>> write_problem(RuntimeError("write() failed: No space left on device; writing a.rec"))
        'No space left on device'
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES):
            text = os.strerror(number)
            if isinstance(cause, OSError) and cause.errno == number or text in str(cause):
                return text
        cause = cause.__cause__ or cause.__context__
    return None


@contextlib.contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Makes system errors name a path: a failed write names none, and others may name a temporary one.

    Args:
        path: The path that a user knows.

    Raises:
        OSError: As within the block, about the path.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


@contextlib.contextmanager
def complete_file(path: str | os.PathLike, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A file that is written under a temporary name and renamed to its final one if the block succeeds.

    Args:
        path: Final path of the file; its folder is created when missing.
        durable: As in `complete_path`.

    Yields:
        The open file, binary.

    Example:
        >>> with complete_file("results/scores.bin") as file:
        ...     _ = file.write(b"1")
    """
    with complete_path(path, durable=durable) as temporary, open(temporary, "wb") as file:
        yield file


def write_json(
    path: str | os.PathLike, content: Any, *, indent: int | None = None, durable: bool = False
) -> None:
    """Writes a json file, completely or not at all.

    Args:
        path: Path of the file; its folder is created when missing.
        content: Plain Python values without NaN.
        indent: As in ``json.dump``.
        durable: As in `complete_path`.

    Example:
        >>> write_json("results/metrics.json", {"box_AP": 0.5}, indent=1)
    """
    with complete_file(path, durable=durable) as file:
        dump_json(file, content, indent=indent)


def dump_json(file: BinaryIO, content: Any, *, indent: int | None = None) -> None:
    """Writes a json to an open file, such as one of several `complete_file` that are kept or lost together.

    Args:
        file: An open binary file.
        content: Plain Python values without NaN.
        indent: As in ``json.dump``.

    Example:
        >>> dump_json(file := io.BytesIO(), [0.5])
        >>> file.getvalue()
        b'[0.5]\\n'
    """
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    json.dump(content, text, indent=indent, allow_nan=False)
    text.write("\n")
    text.detach()
