"""The classes that a person wants to see, by name or id."""

import difflib
from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

_SHOWN = 100


def choose_classes(categories: Sequence[Category], wanted: Sequence[int | str]) -> np.ndarray:
    """Which of a model's classes are meant.

    Args:
        categories: The model's K classes, in the order of its labels.
        wanted: Ids, or names, whose case does not matter. A name of digits is taken for an id
            where there is such an id.

    Returns:
        bool [K].

    Raises:
        UserError: A class is unknown, or none is given; the sentence has those that there are.

    Example:
        >>> choose_classes([Category(1, "cat"), Category(7, "dog")], ["Dog"])
        array([False,  True])
    """
    if not len(wanted):
        raise UserError("No class is given; name at least one, or leave the classes out for all.")
    ids = [category.id for category in categories]
    names = [category.name.lower() for category in categories]
    chosen = np.zeros(len(categories), bool)
    for one in wanted:
        text = str(one).strip().lower()
        by_id = [text == str(number) for number in ids]
        found = by_id if any(by_id) else [text == name for name in names]
        if not any(found):
            raise UserError(
                f"The model has no class {one!r}{_similar(text, names)}; it has {_list(categories)}."
            )
        chosen |= found
    return chosen


def _similar(text: str, names: list[str]) -> str:
    close = difflib.get_close_matches(text, names, 1)
    return f" (is {close[0]!r} meant?)" if close else ""


def _list(categories) -> str:
    listed = ", ".join(f"{c.name} ({c.id})" for c in categories[:_SHOWN])
    more = len(categories) - _SHOWN
    return f"{listed} and {more} more" if more > 0 else listed
