"""The two containers of ``torch.save``.

**Zip** (since torch 1.6). One folder of any name holds

    data.pkl           the object; tensors name their storages by a persistent id
                       ("storage", storage class, key, location, number of elements)
    data/<key>         a storage's bytes, not compressed
    byteorder          "little" or "big" (little if absent)
    version, .data/... not needed here

A TorchScript archive also has ``constants.pkl`` and its program in ``code/``.

**Stream** (before 1.6, and with ``_use_new_zipfile_serialization=False``): the pickles of a magic
number, of the protocol version 1001 and of properties of the machine; the object, whose persistent
ids have a sixth part, None or (key, offset, length) of a view of the storage; the list of the
storages' keys; then the length (int64) and the numbers of each storage, all little-endian.

A tensor's device (such as a GPU) is ignored. (Source: torch/serialization.py.)
"""

import struct
from collections.abc import Callable
from typing import Any

from jaxmaskrcnn.convert.files.allowed_names import allowed_names
from jaxmaskrcnn.convert.files.archive import Archive
from jaxmaskrcnn.convert.files.described_arrays import Storage, item_size, storage_dtype
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Name, Refused, as_key, plain
from jaxmaskrcnn.utils.pickles.unpickler import unpickle

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
# The magic number as every pickle protocol since 2 writes it: a long of 10 bytes.
STREAM_MAGIC = b"\x8a\x0a" + _MAGIC_NUMBER.to_bytes(10, "little")

_SCRIPT_REMEDY = (
    'import torch; torch.save(torch.jit.load("{path}", map_location="cpu").state_dict(), "weights.pth")'
)


def torch_folder(archive: Archive) -> str | None:
    """Return the folder in a zip archive that ``torch.save`` wrote; None for other archives."""
    folders = [name.removesuffix("data.pkl") for name in archive.names if name.endswith("/data.pkl")]
    folders = [folder for folder in folders if folder.count("/") == 1]
    return folders[0] if len(folders) == 1 else None


def read_torch_zip(archive: Archive, folder: str, budget: Budget) -> Any:
    """Read the object in a zip container.

    Args:
        archive: The file.
        folder: The result of `torch_folder`.
        budget: The file's budget.

    Returns:
        Python's containers and values, NumPy arrays for tensors (views of the file's bytes), and
        `Inert` and `Unreadable` for the rest.

    Raises:
        Refused: It is not a plain checkpoint.
        Exception: It is damaged; almost any exception.
    """
    if f"{folder}constants.pkl" in archive.names:
        raise Refused("it is a TorchScript archive, a program with its parameters", _SCRIPT_REMEDY)
    byte_order = b"little"
    if f"{folder}byteorder" in archive.names:
        byte_order = bytes(archive.read(f"{folder}byteorder")).strip()
        if byte_order not in (b"little", b"big"):
            raise ValueError(f"its byte order is {byte_order!r}")
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        dtype, key, numbers = _storage_id(pid, (5,))[:3]
        if key not in storages:
            storages[key] = Storage(None, archive.read(f"{folder}data/{key}"))
        if numbers * item_size(dtype) > len(storages[key].data):
            raise ValueError(f"the storage {key} is shorter than {numbers} numbers")
        return Storage(dtype, root=storages[key])

    find = allowed_names(budget, big_endian=byte_order == b"big")
    value, _ = unpickle(bytes(archive.read(f"{folder}data.pkl")), find, persistent)
    return plain(value, budget)


def read_torch_stream(data: bytes, budget: Budget) -> Any:
    """Read the object in a stream container, like `read_torch_zip`."""
    return plain(_read_stream(data, allowed_names(budget)), budget)


def read_pickle(data: bytes, budget: Budget) -> Any:
    """Read the object in a pickle of NumPy arrays (or tensors, each a stream), like `read_torch_zip`."""
    find_plain = allowed_names(budget)

    def load_from_bytes(stream: bytes | memoryview) -> Storage:
        budget.spend(memoryview(stream).nbytes)
        return _read_stream(bytes(stream), find_plain)

    def find(name: str) -> Name:
        if name == "torch.storage._load_from_bytes":
            return Name(name, load_from_bytes)
        return find_plain(name)

    return plain(unpickle(data, find)[0], budget)


def _read_stream(data: bytes, find: Callable[[str], Name]) -> Any:
    """Read the object, with stand-ins."""
    storages: dict[Any, Storage] = {}

    def persistent(pid: Any) -> Storage | Name:
        if isinstance(pid, tuple) and pid[:1] == ("module",) and len(pid) > 1 and isinstance(pid[1], Name):
            return pid[1]  # torch before 1.6 wrote a class of a whole model with its source text
        dtype, key, numbers, view = _storage_id(pid, (5, 6))
        storage = storages.setdefault(key, Storage(dtype))
        if view is None:
            return Storage(dtype, root=storage)
        _, offset, length = view
        if not 0 <= offset <= offset + length <= numbers:
            raise ValueError(f"a view reaches beyond the storage {key}")
        return Storage(dtype, root=storage, start=offset)

    position = 0
    for expected in (_MAGIC_NUMBER, _PROTOCOL_VERSION):
        found, position = unpickle(data, find, start=position)
        if found != expected:
            raise ValueError(f"the number {expected} is not where torch writes it")
    _, position = unpickle(data, find, start=position)
    value, position = unpickle(data, find, persistent, position)
    keys, position = unpickle(data, find, start=position)
    for key in map(as_key, keys):
        (numbers,) = struct.unpack_from("<q", data, position)
        begin, end = position + 8, position + 8 + numbers * item_size(storages[key].dtype)
        if not begin <= end <= len(data):
            raise ValueError(f"the storage {key} is cut off")
        storages[key].data = memoryview(data)[begin:end]
        position = end
    return value


def _storage_id(pid: Any, lengths: tuple[int, ...]) -> tuple[str | None, Any, int, Any]:
    """Return the torch dtype, key, length and view that a persistent id names."""
    if not isinstance(pid, tuple) or len(pid) not in lengths or pid[0] != "storage":
        raise Refused("its pickle refers to data outside of it")
    _, kind, key, _, numbers, view = (*pid, None)[:6]
    if type(numbers) is not int or numbers < 0 or not isinstance(key, str):
        raise ValueError("a storage has no length or no key")
    return storage_dtype(kind), key, numbers, view
