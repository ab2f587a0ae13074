"""Fetches images and videos that are given by their addresses."""

import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.addresses import split_scheme
from jaxmaskrcnn.weights.opener import Redirects, TransferError, ascii_address

MOST = 2**30  # bytes of a file
_PATIENCE = 60  # seconds without an answer


def is_web(text: str) -> bool:
    """Whether a text is an address of the web.

    Example:
        >>> is_web("https://example.org/a.jpg"), is_web("gs://bucket/a.jpg"), is_web("a.jpg")
        (True, False, False)
    """
    parts = split_scheme(text)
    return parts is not None and parts[0] in ("http", "https")


def fetch(inputs: Sequence[str], folder: Path) -> tuple[list[str], dict[Path, str]]:
    """Fetches those of the inputs that are addresses of the web, each once.

    Args:
        inputs: Paths, patterns and addresses.
        folder: Where the files are put.

    Returns:
        The inputs with paths of files in the place of addresses, and the addresses by these paths.

    Raises:
        UserError: A file cannot be fetched, or is too large.
    """
    found: dict[str, Path] = {}
    for address in dict.fromkeys(text for text in inputs if is_web(text)):
        name = (
            re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path).rsplit("/", 1)[-1]).strip(".") or "image"
        )
        path = folder / str(len(found)) / name[-100:]
        path.parent.mkdir(parents=True)
        _fetch(address, path)
        found[address] = path
    paths = [str(found.get(text, text)) for text in inputs]
    return paths, {path: address for address, path in found.items()}


def _fetch(address: str, path: Path) -> None:
    opener = urllib.request.build_opener(Redirects)
    try:
        with opener.open(ascii_address(address), timeout=_PATIENCE) as answer, path.open("wb") as file:
            shutil.copyfileobj(_Limited(answer, address), file, 2**20)
    except (OSError, TransferError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            reason = f"{error.code} {error.reason}"
        raise UserError(f"{address} cannot be fetched ({reason}); check the address.") from None


class _Limited:
    """Reads an answer up to a number of bytes."""

    def __init__(self, answer, address: str):
        self._answer, self._address, self._left = answer, address, MOST

    def read(self, size: int) -> bytes:
        data = self._answer.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._address} has more than {MOST:,} bytes; fetch it yourself, and give its path."
            )
        return data
