"""What was read although it is not written as COCO writes it, counted by kind."""

from collections.abc import Iterator


class Notes:
    """Counts what was read in another spelling, and remembers the first place of each kind.

    Example:
        >>> notes = Notes()
        >>> notes.add("ids are text", "image 'a'")
        >>> notes.add("ids are text", "image 'b'")
        >>> list(notes.sentences("set.json"))
        ["set.json: ids are text: 2 (the first: image 'a')"]
    """

    def __init__(self):
        self._found: dict[str, list] = {}

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Counts something.

        Args:
            kind: What was found and how it was read, without a full stop.
            place: Where; kept if it is the first of its kind.
            count: How often.
        """
        self._found.setdefault(kind, [0, place])[0] += count

    def sentences(self, path: object) -> Iterator[str]:
        """A sentence for each kind, without its full stop.

        Args:
            path: The file, with which each sentence begins.
        """
        for kind, (count, place) in self._found.items():
            yield f"{path}: {kind}: {count} (the first: {place})"
