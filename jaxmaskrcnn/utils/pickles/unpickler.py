"""Read the pickle format without running anything in it.

A pickle is a program for a small stack machine: it pushes numbers, strings and containers, names
functions of Python modules and calls them with values from the stack. Python's unpickler does
whatever the file says. This machine knows the same instructions, with these rules:

* A name is looked up in the caller's table of stand-ins, never imported; a name that the table lacks
  raises `Refused`.
* Only stand-ins are called or given a state; only lists, dictionaries and sets take items.
* Every length is checked against the file before anything is made from it. Memory beyond the file's
  own bytes is taken from a `Budget`, and the number of instructions is limited, so a small file
  cannot use much.

Bytes and long strings are views of the file, which must stay in memory as long as they do.
(Format: Python's ``pickletools`` documents every instruction. Protocols 0 to 5 are read.)
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from typing import Any

from jaxmaskrcnn.utils.pickles.stand_ins import LongText, Name, Refused, StandIn, as_key, kind_of

# A checkpoint takes about 60 for each array; each can make an object of about 200 bytes.
_MOST_INSTRUCTIONS = 3_000_000
# Longer strings are array data in old files, which only the array has to decode.
_LONG_TEXT = 1 << 16


def unpickle(
    data: bytes,
    find: Callable[[str], Name],
    persistent: Callable[[Any], Any] | None = None,
    start: int = 0,
) -> tuple[Any, int]:
    """Read one pickle.

    Args:
        data: The file's bytes.
        find: Returns the stand-in of a name such as "collections.OrderedDict"; raises `Refused` for
            other names.
        persistent: Returns what a persistent id refers to; None if the format has none.
        start: Where the pickle begins in ``data``.

    Returns:
        The object, made of Python's containers, numbers, strings, bytes (memoryview), `LongText`,
        `Name` and the table's stand-ins; and where the pickle ends.

    Raises:
        Refused: It names or does something that no checkpoint does.
        Exception: The pickle is damaged; almost any exception.

    Example:
        >>> import pickle
        >>> unpickle(pickle.dumps({"a": [1, 2]}), find=None)[0]
        {'a': [1, 2]}
    """
    machine = _Machine(data, find, persistent, start)
    for _ in range(_MOST_INSTRUCTIONS):
        code = data[machine.position]
        machine.position += 1
        if code == pickle.STOP[0]:
            return machine.pop(), machine.position
        operation = _OPERATIONS.get(code)
        if operation is None:
            raise ValueError(f"unknown pickle instruction {bytes([code])!r}")
        operation(machine)
    raise Refused(f"its pickle has more than {_MOST_INSTRUCTIONS} instructions")


class _Machine:
    """The stack, the marks in it, and the memo."""

    def __init__(self, data: bytes, find: Callable, persistent: Callable | None, start: int):
        self.data, self.view, self.position = data, memoryview(data), start
        self.find, self.persistent = find, persistent
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def take(self, length: int) -> memoryview:
        begin, end = self.position, self.position + length
        if not begin <= end <= len(self.data):
            raise ValueError("its pickle ends early")
        self.position = end
        return self.view[begin:end]

    def number(self, form: str) -> int | float:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise ValueError("its pickle ends early")
        return str(self.take(end + 1 - self.position)[:-1], "latin1")

    def text(self, length: int, encoding: str) -> None:
        data = self.take(length)
        long = length > _LONG_TEXT
        self.stack.append(LongText(data, encoding) if long else str(data, encoding, "surrogatepass"))

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle pops from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list:
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def top(self, kind: type, action: str) -> Any:
        value = self.pop()
        if not isinstance(value, kind):
            raise Refused(f"{action} {kind_of(value)}")
        self.stack.append(value)
        return value

    # The instructions that do more than push a value.

    def append(self, items: list) -> None:
        self.top(list, "items are appended to").extend(items)

    def set_items(self, items: list) -> None:
        target = self.top(dict, "items are set in")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[as_key(key)] = value

    def add(self, items: list) -> None:
        self.top(set, "items are added to").update(map(as_key, items))

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def fixed_tuple(self, length: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(length)][::-1]))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name in its pickle is not a string")
        # Names from Python 2 and from before NumPy 2 moved a module occur as well as today's.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        self.stack.append(self.find(f"{module.replace('numpy._core.', 'numpy.core.')}.{name}"))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self, arguments: Any, name: Any) -> None:
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise Refused(f"{kind_of(name)} is called")
        if name.call is None:
            raise Refused(f"{name.name} is called, which a checkpoint only mentions")
        self.stack.append(name.call(*arguments))

    def call_with_keywords(self) -> None:
        if self.pop():
            raise Refused("an object is made with keyword arguments")
        self.call(self.pop(), self.pop())

    def instance_of_line(self) -> None:  # protocol 0
        self.name(self.line(), self.line())
        name = self.stack.pop()
        self.call(tuple(self.pop_to_mark()), name)

    def instance_of_stack(self) -> None:  # protocol 1
        name, *arguments = self.pop_to_mark()
        self.call(tuple(arguments), name)

    def build(self) -> None:
        state = self.pop()
        self.top((StandIn, Name), "a state is set on")
        if isinstance(self.stack[-1], Name):
            raise Refused(f"a state is set on {self.stack[-1].name}")
        self.stack[-1].set_state(state)

    def persistent_id(self, pid: Any) -> None:
        if self.persistent is None:
            raise Refused("its pickle refers to data outside of it")
        self.stack.append(self.persistent(pid))

    def integer_line(self) -> None:
        line = self.line()
        self.stack.append({"00": False, "01": True}[line] if line in ("00", "01") else int(line))

    def string_line(self) -> None:
        line = self.line().encode("latin1")
        if len(line) < 2 or line[0] != line[-1] or line[0] not in b"\"'":
            raise ValueError("a string in its pickle has no quotes")
        self.stack.append(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def memorise(self, index: int) -> None:
        if not self.stack:
            raise ValueError("its pickle memorises a value of an empty stack")
        self.memo[index] = self.stack[-1]

    def refuse_extension(self) -> None:
        raise Refused("its pickle uses names by number (the extension registry)")


def _operations() -> dict[int, Callable[[_Machine], None]]:
    """Return the machine's instructions by their byte."""
    push = {
        pickle.NONE: lambda m: None,
        pickle.NEWTRUE: lambda m: True,
        pickle.NEWFALSE: lambda m: False,
        pickle.EMPTY_TUPLE: lambda m: (),
        pickle.EMPTY_LIST: lambda m: [],
        pickle.EMPTY_DICT: lambda m: {},
        pickle.EMPTY_SET: lambda m: set(),
        pickle.TUPLE: lambda m: tuple(m.pop_to_mark()),
        pickle.LIST: lambda m: m.pop_to_mark(),
        pickle.FROZENSET: lambda m: frozenset(map(as_key, m.pop_to_mark())),
        pickle.BININT: lambda m: m.number("<i"),
        pickle.BININT1: lambda m: m.number("<B"),
        pickle.BININT2: lambda m: m.number("<H"),
        pickle.BINFLOAT: lambda m: m.number(">d"),
        pickle.FLOAT: lambda m: float(m.line()),
        pickle.LONG: lambda m: int(m.line().rstrip("L")),
        pickle.UNICODE: lambda m: m.line().encode("latin1").decode("raw-unicode-escape"),
        pickle.SHORT_BINBYTES: lambda m: m.take(m.number("<B")),
        pickle.BINBYTES: lambda m: m.take(m.number("<I")),
        pickle.BINBYTES8: lambda m: m.take(m.number("<Q")),
        pickle.BYTEARRAY8: lambda m: m.take(m.number("<Q")),
        pickle.DUP: lambda m: m.stack[-1],
        pickle.GET: lambda m: m.memo[int(m.line())],
        pickle.BINGET: lambda m: m.memo[m.number("<B")],
        pickle.LONG_BINGET: lambda m: m.memo[m.number("<I")],
    }
    act = {
        pickle.PROTO: lambda m: m.take(1),
        pickle.FRAME: lambda m: m.take(8),
        pickle.MARK: lambda m: m.marks.append(len(m.stack)),
        pickle.POP: lambda m: m.pop() if len(m.stack) > (m.marks or [0])[-1] else m.marks.pop(),
        pickle.POP_MARK: lambda m: m.pop_to_mark(),
        pickle.INT: _Machine.integer_line,
        pickle.STRING: _Machine.string_line,
        pickle.LONG1: _Machine.long,
        # Python 2 wrote bytes as a str, which only latin1 decodes to the same bytes.
        pickle.SHORT_BINSTRING: lambda m: m.text(m.number("<B"), "latin1"),
        pickle.BINSTRING: lambda m: m.text(m.number("<i"), "latin1"),
        pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("<B"), "utf-8"),
        pickle.BINUNICODE: lambda m: m.text(m.number("<I"), "utf-8"),
        pickle.BINUNICODE8: lambda m: m.text(m.number("<Q"), "utf-8"),
        pickle.TUPLE1: lambda m: m.fixed_tuple(1),
        pickle.TUPLE2: lambda m: m.fixed_tuple(2),
        pickle.TUPLE3: lambda m: m.fixed_tuple(3),
        pickle.DICT: lambda m: (items := m.pop_to_mark(), m.stack.append({}), m.set_items(items)),
        pickle.APPEND: lambda m: m.append([m.pop()]),
        pickle.APPENDS: lambda m: m.append(m.pop_to_mark()),
        pickle.SETITEM: _Machine.set_item,
        pickle.SETITEMS: lambda m: m.set_items(m.pop_to_mark()),
        pickle.ADDITEMS: lambda m: m.add(m.pop_to_mark()),
        pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
        pickle.STACK_GLOBAL: _Machine.stack_name,
        pickle.REDUCE: lambda m: m.call(m.pop(), m.pop()),
        pickle.NEWOBJ: lambda m: m.call(m.pop(), m.pop()),
        pickle.NEWOBJ_EX: _Machine.call_with_keywords,
        pickle.INST: _Machine.instance_of_line,
        pickle.OBJ: _Machine.instance_of_stack,
        pickle.BUILD: _Machine.build,
        pickle.PERSID: lambda m: m.persistent_id(m.line()),
        pickle.BINPERSID: lambda m: m.persistent_id(m.pop()),
        pickle.PUT: lambda m: m.memorise(int(m.line())),
        pickle.BINPUT: lambda m: m.memorise(m.number("<B")),
        pickle.LONG_BINPUT: lambda m: m.memorise(m.number("<I")),
        pickle.MEMOIZE: lambda m: m.memorise(len(m.memo)),
        pickle.EXT1: _Machine.refuse_extension,
        pickle.EXT2: _Machine.refuse_extension,
        pickle.EXT4: _Machine.refuse_extension,
    }
    pushing = {code: _pushing(value) for code, value in push.items()}
    return {code[0]: operation for code, operation in {**pushing, **act}.items()}


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value(machine))


_OPERATIONS = _operations()
