"""The ids of annotations: those that they have, or new ones where these cannot be used."""

from collections.abc import Mapping, Sequence

from jaxmaskrcnn.data.coco.entries import ids_of
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import AnnotatedImage, Object
from jaxmaskrcnn.data.coco.values import whole_number

_SMALL = 2**62  # ids below are whole numbers of 64 bits for certain


class Identities:
    """Whole-numbered ids for annotations; nothing else refers to them, so new ones do no harm.

    Args:
        entries: The json's 'annotations'.
        notes: Counts the ids that are written in another way, and those that are new.

    Example:
        >>> identities = Identities([{"id": 3}, {"id": "a"}], Notes())
        >>> identities.of({"id": 3}), identities.of({"id": "a"})
        (3, 4)
    """

    def __init__(self, entries: Sequence[dict], notes: Notes):
        self._notes = notes
        self._seen: set[int] = set()
        found = map(whole_number, ids_of(entries))
        self._next = max((i for i in found if i is not None), default=0) + 1

    def of(self, entry: Mapping) -> int:
        """The id of an annotation, or a new one where that has none that is a number."""
        value = entry.get("id")
        if type(value) is int and 0 <= value < _SMALL:  # nearly all
            return value
        found = whole_number(value)
        if type(value) is not int:
            kind = (
                "annotation ids written as text or floats"
                if found is not None
                else ("annotations without an id that is a number, which got new ones")
            )
            self._notes.add(kind, repr(value))
        if found is None:
            found = self._new()
        return found

    def checked(self, item: Object, image: AnnotatedImage) -> Object | None:
        """The object with an id of its own; None if it is a copy of another one with the same id."""
        if item.id in self._seen:
            if any(other == item for other in image.objects):
                self._notes.add(
                    "annotations listed twice with the same id and content, taken once", f"id {item.id}"
                )
                return None
            self._notes.add("annotations with the id of another one, which got new ids", f"id {item.id}")
            item = item._replace(id=self._new())
        self._seen.add(item.id)
        return item

    def _new(self) -> int:
        self._next += 1
        return self._next - 1
