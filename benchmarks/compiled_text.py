"""What the text of a program that XLA compiled for a TPU says about its cost.

XLA:TPU writes beside nearly every operation the cycles that it expects it to take (``estimated_cycles``).
They are estimates of one operation by itself: waiting for other chips is not in them, sorts, gathers of
single rows and collectives have none, and none was compared with a measurement here. The functions below
read the text once, follow it from its entry through loops, branches and calls, and multiply what is in a
loop by its turns where the text fixes their number. Loops that end when the data say so are counted once.

    compiled = jax.jit(function).lower(...).compile()
    cost = read_cost(compiled.as_text())
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Operations of a fusion that only moves values to another place or layout.
_MOVES = {"parameter", "bitcast", "copy", "transpose", "reshape", "tuple", "get-tuple-element"}
# Bookkeeping without any work, which is not listed among the operations without an estimate.
_FREE = {
    "parameter", "constant", "bitcast", "tuple", "get-tuple-element", "while", "conditional", "call",
    "copy-done", "after-all", "partition-id", "opt-barrier",
}  # fmt: skip
_BITS = {"pred": 8, "token": 0}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r"%([\w.\-]+)")


class Operation(NamedTuple):
    """A line of the text.

    Attributes:
        name: Its name, unique in the text.
        opcode: Such as "fusion" or "copy".
        shape: The type and layout of its result, as text.
        operands: Names of operations; of a constant or a parameter what is in its brackets.
        rest: Everything after the brackets.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, name: str) -> str:
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found[1] if found else ""

    @property
    def cycles(self) -> int | None:
        found = _CYCLES.search(self.rest)
        return int(found[1]) if found else None

    @property
    def bytes(self) -> int:
        return shape_bytes(self.shape)


class Program(NamedTuple):
    """The computations of a text: operations by name, the last one the result; and its source lines."""

    computations: dict[str, dict[str, Operation]]
    roots: dict[str, str]
    entry: str
    sources: dict[int, str]


class Step(NamedTuple):
    """An operation that a program executes, and how often. ``known``: whether all its loops' turns are."""

    operation: Operation
    turns: int
    known: bool


class Cost(NamedTuple):
    """The cost of a program.

    Attributes:
        cycles: Sum of the estimates, in loops multiplied by their turns.
        once: The same with every loop counted once.
        unknown: Of ``cycles``, what is in loops whose turns are not known, which are counted once.
        by_kind: Cycles by kind of operation, see `kind_of`, most first.
        top: The most expensive lines of the text: cycles, turns, the operation's name and shape, what it was
            in JAX, and its line of source.
        without: Operations without an estimate: by opcode their number and the bytes of their results.
        collectives: By kind the number a step and the bytes of their results.
        overlapped: How many of the collectives are started before and awaited after other work.
    """

    cycles: int
    once: int
    unknown: int
    by_kind: dict[str, int]
    top: list[tuple[int, int, str, str, str, str]]
    without: dict[str, tuple[int, int]]
    collectives: dict[str, tuple[int, int]]
    overlapped: int


def read_cost(text: str, count: int = 20) -> Cost:
    """The cost of a compiled program.

    Args:
        text: ``compiled.as_text()``.
        count: Number of the most expensive operations to list.
    """
    program = parse(text)
    steps = list(executed(program))
    costly = [(step.turns * step.operation.cycles, step) for step in steps if step.operation.cycles]
    by_kind: dict[str, int] = {}
    for cycles, step in costly:
        kind = kind_of(step.operation, program)
        by_kind[kind] = by_kind.get(kind, 0) + cycles
    without: dict[str, tuple[int, int]] = {}
    collectives: dict[str, tuple[int, int]] = {}
    overlapped = 0
    for operation, turns, _ in steps:
        name = operation.opcode.removesuffix("-start")
        if name in COLLECTIVES:
            # What is started has its operand beside its result.
            size = operation.bytes // (2 if name != operation.opcode and name != "all-reduce" else 1)
            number, total = collectives.get(name, (0, 0))
            collectives[name] = number + turns, total + turns * size
            overlapped += turns * (name != operation.opcode)
        elif operation.cycles is None and operation.opcode not in _FREE and ".done" not in operation.opcode:
            key = kind_of(operation, program)
            number, total = without.get(key, (0, 0))
            without[key] = number + turns, total + turns * operation.bytes
    costly.sort(key=lambda pair: -pair[0])
    top = [
        (cycles, step.turns, step.operation.name, step.operation.shape.split("{")[0], *_origin(program, step))
        for cycles, step in costly[:count]
    ]
    return Cost(
        cycles=sum(cycles for cycles, _ in costly),
        once=sum(step.operation.cycles or 0 for _, step in costly),
        unknown=sum(cycles for cycles, step in costly if not step.known),
        by_kind=dict(sorted(by_kind.items(), key=lambda pair: -pair[1])),
        top=top,
        without=dict(sorted(without.items(), key=lambda pair: -pair[1][1])),
        collectives=collectives,
        overlapped=overlapped,
    )


def parse(text: str) -> Program:
    """Read the computations and source lines of a compiled text."""
    computations: dict[str, dict[str, Operation]] = {}
    roots, entry, current, name = {}, "", None, ""
    for line in text.splitlines():
        if current is None:
            if found := _COMPUTATION.match(line):
                name = found[2]
                current = computations[name] = {}
                entry = name if found[1] else entry
        elif line.startswith("}"):
            current = None
        elif found := _OPERATION.match(line):
            operation = _operation(found[2], found[3])
            current[operation.name] = operation
            if found[1]:
                roots[name] = operation.name
    return Program(computations, roots, entry, source_lines(text))


def shape_bytes(shape: str) -> int:
    """Bytes of a shape or of all parts of a tuple, without padding to tiles: ``f32[8,3]{1,0}`` has 96."""
    total = 0
    for kind, sides in _SHAPE.findall(re.sub(r"\{[^}]*\}", "", shape)):
        bits = _BITS.get(kind) if kind in _BITS else int((re.findall(r"\d+", kind) or ["0"])[0])
        total += (bits or 0) * math.prod(int(side) for side in sides.split(",") if side) // 8
    return total


def source_lines(text: str) -> dict[int, str]:
    """File and line of each stack frame, as "file:line": the innermost in the package, or the innermost."""
    tables: dict[str, dict[int, str]] = {}
    table = None
    for line in text.splitlines():
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            table = tables.setdefault(line, {})
        elif table is not None and (found := re.match(r"(\d+) (.*)", line)):
            table[int(found[1])] = found[2]
        elif line.startswith(("%", "ENTRY")):
            break

    def numbers(table, key):
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", tables.get(table, {}).get(key, ""))}

    def place(frame):
        location = numbers("FileLocations", numbers("StackFrames", frame)["file_location_id"])
        file = tables["FileNames"][location["file_name_id"]].strip('"')
        return f"{file}:{location['line']}"

    found = {}
    for frame in tables.get("StackFrames", {}):
        innermost, at = place(frame), frame
        while at and "jaxmaskrcnn/" not in place(at):
            above = numbers("StackFrames", at).get("parent_frame_id", 0)
            at = above if above != at else 0
        found[frame] = (place(at) if at else innermost).split("jaxmaskrcnn/")[-1]
    return found


def kind_of(operation: Operation, program: Program) -> str:
    """The opcode, the main one of a fusion, or "copy" for what only moves values."""
    if operation.opcode.startswith("copy"):
        return "copy"
    if operation.opcode != "fusion":
        return operation.opcode
    parts = {part.opcode for part in _inside(operation, program)}
    if parts <= _MOVES:
        return "copy"
    for kind in ("convolution", "dot", "scatter", "gather", "sort", "dynamic-update-slice", "reduce-window"):
        if kind in parts:
            return kind
    for kind in ("dynamic-slice", "slice", "concatenate", "pad"):
        if kind in parts and not parts & {"add", "multiply", "select", "maximum", "reduce", "exponential"}:
            return kind
    return "reduce" if "reduce" in parts else "elementwise"


def executed(program: Program) -> Iterator[Step]:
    """All operations that a run executes, in no particular order, with their number of turns.

    Of the branches of a condition only the one with the most cycles counts.
    """
    yield from _walk(program, program.entry, {}, 1, True)


def _walk(program, computation, state, turns, known) -> Iterator[Step]:
    for operation in program.computations[computation].values():
        yield Step(operation, turns, known)
        if operation.opcode == "while":
            number, inside = loop(program, computation, state, operation)
            body, condition = operation.attribute("body"), operation.attribute("condition")
            for part in (body, condition):
                times = turns if number is None else turns * number
                yield from _walk(program, part, inside, times, known and number is not None)
        elif operation.opcode in ("call", "async-start"):
            called = operation.attribute("to_apply") or operation.attribute("calls")
            if called in program.computations:
                yield from _walk(program, called, {}, turns, known)
        elif operation.opcode == "conditional":
            listed = re.search(r"branch_computations=\{([^}]*)\}", operation.rest)
            names = _NAME.findall(listed[1]) if listed else []
            names = names or [operation.attribute(f"{branch}_computation") for branch in ("true", "false")]
            yield from max((list(_walk(program, name, {}, turns, known)) for name in names), key=_cycles)


def _cycles(steps: list[Step]) -> int:
    return sum(step.turns * (step.operation.cycles or 0) for step in steps)


def loop(program: Program, computation: str, state: dict, operation: Operation):
    """The number of turns of a ``while``, None if the text does not fix it.

    Args:
        program: The program.
        computation: Name of the computation that the loop is in.
        state: What is known of that computation's own loop state: numbers by their position.
        operation: The loop.

    Returns:
        The number, and what is known of the loop's state: numbers that it does not change.
    """
    first = _value(program, computation, operation.operands[0], state)
    body, condition = operation.attribute("body"), operation.attribute("condition")
    last = _value(program, body, program.roots[body], {})
    if not isinstance(first, list) or not isinstance(last, list):
        return None, {}
    same = {
        i: number for i, number in enumerate(first) if isinstance(number, int) and last[i] == ("state", i)
    }
    test = _value(program, condition, program.roots[condition], same)
    match test:
        case ("compare", ("state", i), int(limit), "LT"):
            pass
        case ("compare", int(limit), ("state", i), "GT"):
            pass
        case _:
            return None, same
    last = _value(program, body, program.roots[body], same)
    match last[i]:
        case ("add", ("state", j), int(step)) | ("add", int(step), ("state", j)) if i == j and step > 0:
            start = first[i]
            return (max(0, -(-(limit - start) // step)) if isinstance(start, int) else None), same
    return None, same


def _value(program, computation, name, state, given=None):
    """What a scalar or a tuple is: a number, a list, an expression of the state, or None if unclear."""
    operation = program.computations[computation].get(name)
    if operation is None:
        return None
    code, operands = operation.opcode, operation.operands

    def of(operand):
        return _value(program, computation, operand, state, given)

    if code == "tuple":
        return [of(operand) for operand in operands]
    if code == "parameter":
        return given[int(operands[0])] if given is not None else "state"
    if code == "get-tuple-element":
        whole, index = of(operands[0]), int(re.findall(r"index=(\d+)", operation.rest)[0])
        if whole == "state":
            return state.get(index, ("state", index))
        return whole[index] if isinstance(whole, list) else None
    if not re.match(r"[su]\d+\[\]|pred\[\]", operation.shape) and code not in ("copy-start", "copy-done"):
        return None
    if code == "constant":
        return int(operands[0]) if re.fullmatch(r"-?\d+", operands[0]) else None
    if code in ("copy", "bitcast", "copy-start", "copy-done", "reshape"):
        return of(operands[0])
    if code == "fusion":
        called = operation.attribute("calls")
        return _value(program, called, program.roots[called], {}, [of(operand) for operand in operands])
    if code == "add":
        return ("add", *map(of, operands))
    if code == "compare":
        return ("compare", *map(of, operands), operation.attribute("direction"))
    return None


def _operation(name, text) -> Operation:
    """Split ``shape opcode(operands), rest``."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape = text[: end + 1] if text.startswith("(") else text[:end]
    text = text[len(shape) :].lstrip()
    opening = text.index("(")
    closing = _closing(text, opening)
    inside = text[opening + 1 : closing]
    return Operation(
        name, text[:opening], shape, tuple(_NAME.findall(inside)) or (inside,), text[closing + 1 :]
    )


def _closing(text, opening) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"a bracket is not closed: {text[:80]}")


def _inside(operation, program) -> Iterator[Operation]:
    for part in program.computations.get(operation.attribute("calls"), {}).values():
        if part.opcode == "fusion":
            yield from _inside(part, program)
        else:
            yield part


def _origin(program, step) -> tuple[str, str]:
    rest = step.operation.rest
    name, frame = re.search(r'op_name="([^"]*)"', rest), re.search(r"stack_frame_id=(\d+)", rest)
    short = "/".join(name[1].split("/")[-2:]) if name else ""
    return short, program.sources.get(int(frame[1]), "") if frame else ""
