"""Label Studio's brush masks: run lengths in a stream of bits, of an image's RGBA values.

    32 bits      number of values
    5 bits       bits of a value, less 1
    4 x 4 bits   bits of a run length, less 1, for each of four kinds of runs
    then runs:   1 bit (1: one value repeated, 0: different values), 2 bits (the kind), the run length
                 less 1, and the value or values

Format: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, by which
https://github.com/HumanSignal/label-studio-converter (``brush.py``) reads it. Alpha above 0 is the mask.
"""

from typing import Any

import numpy as np

from jaxmaskrcnn.errors import UserError

_HEADER = 32 + 5 + 16  # bits
_VALUE = 8  # bits
_CHANNELS = 4


def decode_brush(rle: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """Decodes a brush mask.

    Args:
        rle: The list of bytes.
        size: Height and width of the image.
        place: Where it is, for messages.

    Returns:
        bool [H, W].

    Raises:
        UserError: It is no such list, is damaged, or is not of the image's size.
    """
    try:
        data = bytes(rle) if isinstance(rle, list) else b""
    except (TypeError, ValueError):
        data = b""
    if 8 * len(data) <= _HEADER:
        raise UserError(f"{place} has an 'rle' that is not a list of bytes; export it again.")
    bits = _Bits(data)
    count, value_bits = bits.take(32), bits.take(5) + 1
    run_bits = [bits.take(4) + 1 for _ in range(4)]
    if value_bits != _VALUE:
        raise UserError(f"{place} has an 'rle' of {value_bits} bits a value and not of 8; export it again.")
    if count != size[0] * size[1] * _CHANNELS:
        raise UserError(
            f"{place} has an 'rle' of {count} values and not of {size[1]} x {size[0]} x 4; the mask was made "
            "for an image of another size, so draw it again."
        )
    values = np.zeros(count, np.uint8)
    start = 0
    try:
        while start < count:
            repeats = bits.take(1)
            end = start + 1 + bits.take(run_bits[bits.take(2)])
            if end > count:
                raise EOFError
            values[start:end] = bits.take(_VALUE) if repeats else bits.octets(end - start)
            start = end
    except EOFError:
        raise UserError(
            f"{place} has an 'rle' that is cut off or damaged at value {start}; export it again."
        ) from None
    return values.reshape(*size, _CHANNELS)[..., 3] > 0


class _Bits:
    """Reads bits from bytes, most significant first."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def take(self, count: int) -> int:
        begin, end = self.position, self.position + count
        if end > 8 * len(self.data):
            raise EOFError
        self.position = end
        last = (end + 7) // 8
        number = int.from_bytes(self.data[begin // 8 : last], "big")
        return number >> (8 * last - end) & ((1 << count) - 1)

    def octets(self, count: int) -> np.ndarray:
        """The next ``count`` numbers of eight bits, which need not begin at a byte."""
        begin, end = self.position, self.position + 8 * count
        if end > 8 * len(self.data):
            raise EOFError
        self.position = end
        shift = begin % 8
        found = np.frombuffer(self.data, np.uint8, count, begin // 8)
        if not shift:
            return found
        after = np.frombuffer(self.data, np.uint8, count, begin // 8 + 1)
        return (found << shift) | (after >> (8 - shift))
