"""The categories of a json: their ids and names as they come."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxmaskrcnn.data.coco.ids import Ids
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.utils.texts import is_text


class Classes:
    """The categories of a json, and which one an annotation's ``category_id`` means.

    Args:
        content: The json.
        path: Its path, for messages.
        problems: Collects ids that are used twice.
        notes: Counts what is read although it is not written as COCO writes it.
        reading: Its ``class_name`` replaces the json's categories by one.

    Attributes:
        one: Whether one category replaces those of the json.
        categories: In ascending order of id.
        listed: The same categories in the order of the json's list.

    Raises:
        UserError: There is no category, and the annotations do not name any either.
    """

    def __init__(self, content: dict, path: Path, problems: Problems, notes: Notes, reading: Reading):
        self.one = bool(reading.class_name)
        entries, annotations = content["categories"], content["annotations"]
        self._ids = Ids(entry.get("id") for entry in entries)
        self._by_name: dict[str, int] = {}
        if self.one:
            self.listed = (Category(1, reading.class_name),)
        else:
            names = self._names(entries, annotations, path, problems, notes)
            self.listed = tuple(Category(identity, name) for identity, name in names.items())
        self.categories = tuple(sorted(self.listed))
        self._labels = {category.id: label for label, category in enumerate(self.categories)}

    def get(self, category_id: Any) -> int | None:
        """The label of an annotation's ``category_id``, which may be a category's name; None if unknown."""
        if self.one:
            return 0
        label = self._labels.get(category_id) if type(category_id) is int else None
        if label is None and not isinstance(category_id, bool):
            identity = self._ids.of(category_id)
            label = None if identity is None else self._labels.get(identity)
            if label is None and isinstance(category_id, str) and category_id in self._by_name:
                label = self._labels.get(self._by_name[category_id])
        return label

    def category_id(self, written: Any) -> int | None:
        """The number of a category's id or name as it is written; None if unknown."""
        if self.one:
            return 1 if whole_number(written) == 1 or written == self.categories[0].name else None
        label = None if isinstance(written, (list, dict)) else self.get(written)
        return None if label is None else self.categories[label].id

    def _names(self, entries, annotations, path, problems, notes) -> dict[int, str]:
        if not entries:
            return self._of_annotations(annotations, path, problems, notes)
        names: dict[int, str] = {}
        for entry in entries:
            identity = self._ids.of(entry.get("id"))
            if identity is None:
                problems.refuse(
                    "bad category",
                    f"{path} has a category with the id {entry.get('id')!r}; give every category a whole "
                    "number",
                )
                continue
            name = _name(entry.get("name"))
            if name is None:
                name = f"category {identity}"
                notes.add("categories without a name, called by their ids", f"'{name}'")
            elif not is_text(name):
                problems.refuse(
                    "bad category",
                    f"{path}: category {identity} has the name {name!r}, which is no text; give it another "
                    "name",
                )
                continue
            if identity in names:
                if name != names[identity]:
                    problems.add(
                        "duplicate category id",
                        f"{path}: category id {identity} is used for {names[identity]!r} and for {name!r}; "
                        "make category ids unique",
                    )
                continue
            names[identity] = name
            self._by_name.setdefault(name, identity)
        if self._ids.rewritten:
            notes.add(
                "category ids written as text or floats", f"{entries[0].get('id')!r}", self._ids.rewritten
            )
        for text, identity in self._ids.numbered.items():
            notes.add("category ids that are no numbers, numbered in their order", f"{text!r} is {identity}")
        for text, identity in self._ids.apart.items():
            kind = "category ids that are another one's number in another spelling"
            notes.add(kind, f"{text!r} is {identity}")
        placeholder = _placeholder(entries, self._ids, (entry.get("category_id") for entry in annotations))
        if placeholder is not None and placeholder in names:
            notes.add(
                "placeholder categories of Roboflow that no annotation has, left out",
                repr(names[placeholder]),
            )
            del names[placeholder]
        return names

    def _of_annotations(self, annotations, path, problems, notes) -> dict[int, str]:
        """Categories named after the ids that annotations have, where the json lists none."""
        self._ids = Ids(
            dict.fromkeys(e.get("category_id") for e in annotations if _is_plain(e.get("category_id")))
        )
        written = (self._ids.of(e.get("category_id")) for e in annotations)
        found = sorted({identity for identity in written if identity is not None})
        texts = {n: text for text, n in {**self._ids.numbered, **self._ids.apart}.items()}
        names = {identity: texts.get(identity, f"category {identity}") for identity in found}
        if not names:
            problems.refuse(
                "no categories",
                f"{path} lists no categories and its annotations name none; list at least one in "
                "'categories', or give all objects one name (--config.data.class_name=NAME in training, "
                "--class_name=NAME elsewhere)",
            )
        for name in names.values():
            notes.add("categories taken from the annotations, because 'categories' lists none", repr(name))
        return names


def _is_plain(value) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _name(value: Any) -> str | None:
    """A category's name: a text or a number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _placeholder(entries: list[dict], ids: Ids, used: Iterable[Any]) -> int | None:
    """The id of the category with which Roboflow's exports begin, and which no annotation has.

    It is the first, has the supercategory "none", and is itself the supercategory of the others.
    """
    first, others = entries[0], entries[1:]
    if ids.of(first.get("id")) != 0 or first.get("supercategory") != "none" or not others:
        return None
    if any(entry.get("supercategory") not in (None, first.get("name")) for entry in others):
        return None
    return None if any(ids.of(value) == 0 or value == first.get("name") for value in used) else 0
