"""Read zip archives (``.npz`` and torch's) from memory, without copying uncompressed entries.

Python's ``zipfile`` reads the directory at the end of the file. An entry's bytes follow its local
header: the signature "PK\\3\\4", 22 bytes that repeat the directory, the lengths of the name and of
an extra field, and these two fields (torch pads the extra field to align the bytes). (Format:
PKWARE's APPNOTE.TXT, section 4.3.7.)
"""

import io
import math
import struct
import zipfile
import zlib

import numpy as np

from jaxmaskrcnn.utils.pickles.numpy_arrays import native
from jaxmaskrcnn.utils.pickles.stand_ins import Budget, Unreadable

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1


class Archive:
    """A zip archive.

    Attributes:
        names: Names of its entries.
    """

    def __init__(self, data: bytes, budget: Budget):
        self._data, self._budget = memoryview(data), budget
        with zipfile.ZipFile(io.BytesIO(data)) as directory:
            infos = directory.infolist()
        self._infos = {info.filename: info for info in infos}
        self.names = tuple(self._infos)
        if len(self.names) != len(infos):
            raise ValueError("two entries of the archive have the same name")

    def read(self, name: str) -> memoryview:
        """The bytes of an entry.

        Raises:
            KeyError: There is no such entry.
            Refused: Compressed entries expand far beyond a checkpoint's size.
            ValueError: The entry is damaged.
        """
        info = self._infos[name]
        signature, *lengths = _LOCAL_HEADER.unpack_from(self._data, info.header_offset)
        begin = info.header_offset + _LOCAL_HEADER.size + sum(lengths)
        end = begin + info.compress_size
        if signature != b"PK\3\4" or end > len(self._data) or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"the entry {name} of the archive cannot be read")
        content = self._data[begin:end]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            self._budget.spend(info.file_size)
            # Reading one extra byte detects an entry that is longer than announced.
            content = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, info.file_size + 1))
        elif info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"the entry {name} of the archive has an unsupported compression")
        # torch writes 0 if checksums are switched off.
        if len(content) != info.file_size or info.CRC not in (0, zlib.crc32(content)):
            raise ValueError(f"the entry {name} of the archive has a wrong size or checksum")
        return content


def read_npz(archive: Archive, budget: Budget) -> dict[str, np.ndarray | Unreadable]:
    """Read the arrays of a ``.npz`` file, as views of the archive's bytes.

    Raises:
        ValueError: It is damaged, or an entry is not a ``.npy`` file.
    """
    return {name.removesuffix(".npy"): _read_npy(archive.read(name), budget) for name in archive.names}


def _read_npy(content: memoryview, budget: Budget) -> np.ndarray | Unreadable:
    file = io.BytesIO(content[: 1 << 16])  # headers are short
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in "biuf":
        return Unreadable(f"has the dtype {dtype}")
    count = math.prod(shape)
    if len(content) != file.tell() + count * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} has a wrong number of bytes")
    array = np.frombuffer(content, dtype, offset=file.tell()) if count else np.zeros(0, dtype)
    return native(array.reshape(shape, order="F" if fortran else "C"), budget)
