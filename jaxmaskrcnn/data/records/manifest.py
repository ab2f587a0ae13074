"""The files of a directory of records, with what shows that they are as they were written.

``manifest.json`` has the size of every file that is read, and the checksum of the small ones. Those with the
records are too large to be read at every start; their format has a checksum of every record, which is
compared when the record is read.
"""

import json
import os
from pathlib import Path

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.checksums import check_content, file_checksum, with_checksum
from jaxmaskrcnn.utils.files import write_json

FILE = "manifest.json"
_DAMAGED = "damaged"  # an empty file, which says that a record could not be read


class DamagedRecords(UserError):
    """Prepared records differ from what was written; they can be deleted and made again."""


def write_manifest(directory: Path, checked: list[Path], sized: list[Path]) -> None:
    """Write the manifest of complete files.

    Args:
        directory: Folder of the records.
        checked: Files in it whose content is checked at every start.
        sized: Files of which only the size is.
    """
    files = {path.name: [path.stat().st_size, file_checksum(path)] for path in checked}
    files |= {path.name: [path.stat().st_size, None] for path in sized}
    write_json(directory / FILE, with_checksum({"files": files}), indent=1, durable=True)


def read_manifest(directory: Path) -> list[Path]:
    """Check the files of a directory.

    Args:
        directory: Folder of the records.

    Returns:
        The files with the records, in their order.

    Raises:
        DamagedRecords: A file is missing or differs, or a record could not be read before.
    """
    path = directory / FILE
    try:
        files = check_content(json.loads(path.read_bytes()), FILE, required=True)["files"]
        listed = {name: (int(size), checksum) for name, (size, checksum) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedRecords(_sentence(directory, f"{path.name} is not as it was written")) from None
    if (directory / _DAMAGED).exists():
        raise DamagedRecords(_sentence(directory, "a record in them could not be read"))
    for name, (size, checksum) in listed.items():
        file = directory / name
        try:
            same = file.stat().st_size == size and checksum in (None, file_checksum(file))
        except OSError as error:
            raise DamagedRecords(_sentence(directory, f"{name}: {error.strerror}")) from None
        if not same:
            raise DamagedRecords(_sentence(directory, f"{name} is not as it was written"))
    return sorted(directory / name for name, (_, checksum) in listed.items() if checksum is None)


def damaged_record(directory: Path, index: int, reason: str) -> DamagedRecords:
    """Mark a directory, so that its records are made again at the next start.

    Args:
        directory: Folder of the records.
        index: Position of the record that cannot be read.
        reason: What is wrong with it.

    Returns:
        The error to raise.
    """
    try:
        (directory / _DAMAGED).touch()
        advice = "run the command again, which makes them anew"
    except OSError:  # a folder that this process may not write
        advice = "delete this folder and run the command again, which makes them anew"
    return DamagedRecords(
        f"The prepared records in {os.fspath(directory)} are damaged (record {index}: {reason}); {advice}."
    )


def _sentence(directory: Path, problem: str) -> str:
    return f"The prepared records in {os.fspath(directory)} are damaged ({problem})."
