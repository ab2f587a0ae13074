"""Whole numbers for the ids of a json, whatever they are written as."""

from collections.abc import Iterable
from typing import Any

from jaxmaskrcnn.data.coco.values import whole_number


class Ids:
    """The ids of a list of entries as whole numbers.

    A number that is written as text or as a float is that number. Other texts, such as UUIDs, get the
    numbers after the largest of the others, in their order, so that every reader of the json finds the
    same ones.

    Args:
        values: The ids of all entries.

    Attributes:
        numbered: The texts that got a number.
        rewritten: How many numbers are written as text or as floats.

    Example:
        >>> ids = Ids([4, "5", "a-b"])
        >>> ids.of(4), ids.of("5"), ids.of(5.0), ids.of("a-b"), ids.of("c")
        (4, 5, 5, 6, None)
    """

    def __init__(self, values: Iterable[Any]):
        self.numbered: dict[str, int] = {}
        self.rewritten = 0
        largest, texts = 0, []
        for value in values:
            found = whole_number(value)
            if found is not None:
                largest = max(largest, found)
                self.rewritten += type(value) is not int
            elif isinstance(value, str) and value:
                texts.append(value)
            elif type(value) is int:  # of more than 64 bits
                texts.append(str(value))
        for text in texts:
            if text not in self.numbered:
                self.numbered[text] = largest + 1 + len(self.numbered)

    def of(self, value: Any) -> int | None:
        """The number of an id; None where it is neither a number nor one of the texts."""
        found = whole_number(value)
        if found is None and isinstance(value, (str, int)) and not isinstance(value, bool):
            return self.numbered.get(str(value))
        return found
