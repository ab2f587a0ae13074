"""Stand-ins for the objects that a pickle describes, and their conversion to plain values.

While a pickle is read, arrays and tensors are only described: their state comes after the call that
makes them, and in torch's older files the numbers come after the whole pickle. `plain` then builds
the arrays and returns only Python's own types, arrays, `Inert` and `Unreadable`.

A hostile pickle can nest many references to the same list, so that a few bytes describe more values
than memory holds. No value of a file is traversed, printed or hashed here before it was checked.
"""

import abc
from typing import Any, NamedTuple

import numpy as np

# More than any checkpoint has; results within these limits can be traversed by recursion.
_DEEPEST = 60
_MOST_VALUES = 3_000_000


class Refused(Exception):
    """The file does something that no checkpoint does; the message continues "was refused: ".

    Attributes:
        remedy: What the user can do instead; None for the format's general advice.
    """

    def __init__(self, message: str, remedy: str | None = None):
        super().__init__(message)
        self.remedy = remedy


class Budget:
    """The memory that may be used beyond the file's own bytes."""

    def __init__(self, file_size: int):
        # Weights hardly compress; a factor of 16 is far beyond any checkpoint and still harmless.
        self.left = self.limit = 16 * file_size + (64 << 20)

    def spend(self, size: int) -> None:
        """Take ``size`` bytes.

        Raises:
            Refused: Fewer bytes are left.
        """
        self.left -= size
        if self.left < 0:
            raise Refused(f"it would expand to more than {self.limit >> 20} MiB, over 16 times its size")


class Inert(NamedTuple):
    """An object stored beside the parameters, as its pickle describes it.

    Attributes:
        name: Its class, such as "mmengine.logging.history_buffer.HistoryBuffer".
        arguments: Its constructor's arguments.
        state: Its attributes.
    """

    name: str
    arguments: tuple
    state: Any


class Unreadable(NamedTuple):
    """An array that does not hold plain numbers.

    Attributes:
        reason: A clause such as "is a quantised tensor".
    """

    reason: str


class Name:
    """A name that a pickle may mention, and the function that a call runs (None: no calls allowed)."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call=None):
        self.name, self.call = name, call


class LongText:
    """A long string that is decoded only if it is needed as a string."""

    __slots__ = ("data", "encoding")

    def __init__(self, data: memoryview, encoding: str):
        self.data, self.encoding = data, encoding

    def __str__(self) -> str:
        return str(self.data, self.encoding)


class StandIn(abc.ABC):
    """Base class of stand-ins, which calls return in place of an object."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        """Take the state that the pickle gives an object after it was made.

        Raises:
            Refused: Such an object has no state in a checkpoint.
        """
        raise Refused("a state is set on an object that has none in a checkpoint")

    @abc.abstractmethod
    def resolve(self, budget: Budget) -> Any:
        """Return the final value, once everything is read; containers in it are not plain yet."""


def kind_of(value: Any) -> str:
    """Describe a value of the file for a message.

    Example:
        >>> kind_of([]), kind_of(Opaque("argparse.Namespace"))
        ('a list', 'an argparse.Namespace')
    """
    kind = value.name if isinstance(value, (Opaque, Name)) else type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def as_key(key: Any) -> Any:
    """Return a dictionary key that is cheap to hash, whatever it was made from."""
    if isinstance(key, tuple) and len(key) <= 64:
        return tuple(_as_simple_key(part) for part in key)
    return _as_simple_key(key)


def _as_simple_key(key: Any) -> Any:
    if isinstance(key, Name):
        return key.name
    if isinstance(key, memoryview):
        return bytes(key)
    # A stand-in, such as a NumPy number, is its own key.
    if key is None or isinstance(key, (str, bytes, int, float, StandIn)) and not isinstance(key, dict):
        return key
    raise Refused(f"a dictionary has {kind_of(key)} as a key")


class Dictionary(dict, StandIn):
    """A dictionary whose attributes (such as a torch state dict's metadata) are dropped."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        pass


class Opaque(StandIn):
    """An object whose description alone is kept."""

    __slots__ = ("arguments", "as_dict", "name", "state")

    def __init__(self, name: str, arguments: tuple = (), as_dict: bool = False):
        self.name, self.arguments, self.state, self.as_dict = name, arguments, None, as_dict

    def set_state(self, state: Any) -> None:
        self.state = state

    def resolve(self, budget: Budget) -> Any:
        if self.as_dict and isinstance(self.state, dict):
            return self.state
        return Inert(self.name, self.arguments, self.state)


class Missing(StandIn):
    """A tensor of an unsupported kind."""

    __slots__ = ("reason",)

    def __init__(self, reason: str):
        self.reason = reason

    def set_state(self, state: Any) -> None:
        pass

    def resolve(self, budget: Budget) -> Unreadable:
        return Unreadable(self.reason)


def plain(value: Any, budget: Budget) -> Any:
    """Replace all stand-ins, in containers of any depth.

    Raises:
        Refused: It is nested too deeply, or too large once repeated references are expanded.
        ValueError: An array's description does not fit its bytes.
    """
    return _Plain(budget).convert(value, 0)[0]


class _Plain:
    """One traversal of a value; repeated references are converted once."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.done: dict[int, tuple[Any, int]] = {}
        self.kept: list = []  # keeps the ids in ``done`` from being used again

    def convert(self, value: Any, depth: int) -> tuple[Any, int]:
        """Return the plain value, and its number of values when repeated references are expanded."""
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value, 1
        if id(value) in self.done:
            return self.done[id(value)]
        if depth > _DEEPEST:
            raise Refused(f"its contents are nested more than {_DEEPEST} levels deep")
        # This is what a value that contains itself will find.
        self.done[id(value)] = Inert("value that contains itself", (), None), 1
        self.kept.append(value)
        result, size = self.convert_new(value, depth + 1)
        if size > _MOST_VALUES:
            raise Refused(f"its contents expand to more than {_MOST_VALUES} values")
        self.done[id(value)] = result, size
        return result, size

    def convert_new(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, dict):
            keys = [self.convert_key(key, depth) for key in value]
            items, size = self.convert_all(value.values(), depth)
            return dict(zip(keys, items, strict=True)), size
        if isinstance(value, Inert):
            (arguments, state), size = self.convert_all((value.arguments, value.state), depth)
            return Inert(value.name, arguments, state), size
        if isinstance(value, (list, tuple)):
            items, size = self.convert_all(value, depth)
            return type(value)(items), size
        if isinstance(value, (set, frozenset)):
            return type(value)(self.convert_key(key, depth) for key in value), len(value) + 1
        if isinstance(value, StandIn):
            resolved = value.resolve(self.budget)
            # Only an object's description can still contain values to convert.
            if isinstance(resolved, (dict, Inert)):
                return self.convert(resolved, depth)
            return resolved, 1
        if isinstance(value, Name):
            return value.name, 1
        if isinstance(value, LongText):
            return str(value), 1
        return bytes(value), 1  # a memoryview

    def convert_all(self, values: Any, depth: int) -> tuple[list, int]:
        pairs = [self.convert(value, depth) for value in values]
        return [item for item, _ in pairs], 1 + sum(size for _, size in pairs)

    def convert_key(self, key: Any, depth: int) -> Any:
        if isinstance(key, tuple):
            return tuple(self.convert_key(part, depth) for part in key)
        key = self.convert(key, depth)[0]
        if isinstance(key, np.ndarray) and key.ndim == 0:
            return key.item()
        return f"a {key.name}" if isinstance(key, Inert) else key
