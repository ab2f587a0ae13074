"""Checksums of arrays and of json contents, so that a bit that changed on a disk is noticed.

XXH3 with 64 bits reads 5 GB/s on one core of an AMD EPYC, ten times as much as the CRC-32 of Python's zlib; a
changed bit always changes it, and other damage stays unnoticed once in 2^64 times. It protects against
failing disks and cut copies, not against somebody who changes a file and its checksum.
"""

import json
import os
from typing import Any

import jax
import numpy as np
import xxhash

from jaxmaskrcnn.errors import UserError

_CHECKSUM = "checksum"  # the key of a json's own checksum


def array_checksum(x: Any) -> str:
    """The checksum of an array's bytes in C order.

    Args:
        x: A NumPy or JAX array, or a number. Of a JAX array that every device holds whole, one copy is read.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> array_checksum(np.float32(1)), array_checksum(jax.numpy.ones(()))
        ('f87b05471331b3ae', 'f87b05471331b3ae')
    """
    if isinstance(x, jax.Array) and x.is_fully_replicated:
        # The array of one device is another object, so that no view of its buffer outlives this function. On
        # a CPU such a view would keep XLA from reusing the buffer when the array is donated.
        x = x.addressable_data(0)
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(np.asarray(x)).reshape(-1).view(np.uint8))


def file_checksum(path: str | os.PathLike) -> str:
    """The checksum of a file's bytes, 16 hexadecimal digits."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def content_checksum(content: Any) -> str:
    """The checksum of what a json file says, whatever its spaces and line ends.

    Args:
        content: Plain Python values.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> content_checksum({"a": 1, "b": [2.0]}) == content_checksum({"b": [2.0], "a": 1})
        True
    """
    return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """The same content with its checksum under the key "checksum".

    Args:
        content: Plain Python values by text.

    Example:
        >>> check_content(with_checksum({"a": 1}), "a.json")
        {'a': 1}
    """
    content = json.loads(json.dumps(content))  # the values that a reader will see: lists for tuples
    return {**content, _CHECKSUM: content_checksum(content)}


def check_content(content: dict[str, Any], source: str, *, required: bool = False) -> dict[str, Any]:
    """Check the content of a json against the checksum in it.

    Args:
        content: From a file that `with_checksum` has gone through, or from one without a checksum, such as
            those of version 0.1.0, which is taken as it is.
        source: The file, for the message.
        required: Whether the content must have a checksum.

    Returns:
        The content without its checksum.

    Raises:
        UserError: The checksum is another one.
    """
    if _CHECKSUM not in content and not required:
        return content
    content = dict(content)
    stored = content.pop(_CHECKSUM, None)
    if stored != content_checksum(content):
        raise UserError(
            f"{source} is damaged or was edited: its content does not have the checksum that it names; take "
            f'a copy that is intact, or remove its line "{_CHECKSUM}" to use it as it is.'
        )
    return content
