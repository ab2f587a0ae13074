"""Whole numbers for the ids of a json, whatever they are written as."""

from collections.abc import Iterable
from typing import Any

from jaxmaskrcnn.data.coco.values import whole_number


class Ids:
    """The ids of a list of entries as whole numbers.

    A number that is written as text or as a float is that number, unless the list has two texts for it: "1"
    and "0001" are two ids then, and "1" is the number. (Beside the number 1 itself both are 1, as it cannot
    be known which of them is meant.) Texts that are no numbers, such as UUIDs, and the others of those texts
    get the numbers after the largest, in their order, so that every reader of the json finds the same ones.

    Args:
        values: The ids of all entries.

    Attributes:
        numbered: The texts that are no numbers, and what they got.
        apart: The texts that are another text's number in another spelling, and what they got.
        rewritten: How many numbers are written as text or as floats.

    Example:
        >>> ids = Ids([4, "5", "a-b"])
        >>> ids.of(4), ids.of("5"), ids.of(5.0), ids.of("05"), ids.of("a-b"), ids.of("c")
        (4, 5, 5, 5, 6, None)
        >>> ids = Ids(["1", "0001"])
        >>> ids.of("1"), ids.of(1), ids.of("0001"), ids.of("01")
        (1, 1, 2, None)
    """

    def __init__(self, values: Iterable[Any]):
        self.numbered: dict[str, int] = {}
        self.apart: dict[str, int] = {}
        self.rewritten = 0
        largest, texts, numbers = 0, [], set()
        spellings: dict[int, dict[str, int]] = {}  # texts of each number, and how often they occur
        for value in values:
            found = whole_number(value)
            if found is not None:
                largest = max(largest, found)
                self.rewritten += type(value) is not int
                if isinstance(value, str):
                    counts = spellings.setdefault(found, {})
                    counts[value.strip()] = counts.get(value.strip(), 0) + 1
                else:
                    numbers.add(found)
            elif isinstance(value, str) and value:
                texts.append(value)
            elif type(value) is int:  # of more than 64 bits
                texts.append(str(value))
        self._several: dict[int, bool] = {}  # numbers of several ids, and whether one of them is the number
        apart = self._set_apart(spellings, numbers)
        for text in [*apart, *texts]:
            found = self.apart if text in apart else self.numbered
            if text not in found:
                found[text] = largest + 1 + len(self.apart) + len(self.numbered)

    def _set_apart(self, spellings: dict[int, dict[str, int]], numbers: set[int]) -> dict[str, None]:
        """The texts that are ids of their own although they are numbers."""
        apart: dict[str, None] = {}
        for found, counts in spellings.items():
            others = {text: count for text, count in counts.items() if text != str(found)}
            known = str(found) in counts
            if len(others) + known > 1 and found not in numbers:
                self._several[found] = known
                apart.update(dict.fromkeys(others))
                self.rewritten -= sum(others.values())
        return apart

    def of(self, value: Any) -> int | None:
        """The number of an id; None where it is neither a number nor one of the texts, or may be several."""
        found = whole_number(value)
        if found is None:
            text = isinstance(value, (str, int)) and not isinstance(value, bool)
            return self.numbered.get(str(value)) if text else None
        if found in self._several:
            if isinstance(value, str) and value.strip() != str(found):
                return self.apart.get(value.strip())
            return found if self._several[found] else None
        return found
