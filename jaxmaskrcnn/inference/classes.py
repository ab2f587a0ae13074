"""Selects classes of a model by name or id."""

import difflib
from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

_MOST_LISTED = 100


def choose_classes(categories: Sequence[Category], names_or_ids: Sequence[int | str]) -> np.ndarray:
    """Selects classes of a model.

    Args:
        categories: The model's K classes, in the order of its labels.
        names_or_ids: Classes to select. The case of names does not matter. A name that consists of
            digits is an id if the model has that id.

    Returns:
        bool [K].

    Raises:
        UserError: A class is unknown (the message lists the known ones), none is given, or one text is given
            in the place of a list.

    Example:
        >>> choose_classes([Category(1, "cat"), Category(7, "dog")], ["Dog"])
        array([False,  True])
    """
    if isinstance(names_or_ids, str):  # a sequence too, of letters: "12" would be the classes 1 and 2
        raise UserError(
            f"The classes are {names_or_ids!r}, one text; give a list, such as [{names_or_ids!r}]."
        )
    if not len(names_or_ids):
        raise UserError("No class is given; name at least one, or leave the classes out for all.")
    ids = [category.id for category in categories]
    names = [category.name.lower() for category in categories]
    chosen = np.zeros(len(categories), bool)
    for one in names_or_ids:
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
    return f" (did you mean {close[0]!r}?)" if close else ""


def _list(categories) -> str:
    listed = ", ".join(f"{c.name} ({c.id})" for c in categories[:_MOST_LISTED])
    more = len(categories) - _MOST_LISTED
    return f"{listed} and {more} more" if more > 0 else listed
