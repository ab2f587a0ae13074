"""Evaluate Python expressions that are data, without running them.

Supported are dictionaries, lists, tuples, strings, numbers, variables, arithmetic and look-ups. Anything
else (a function call, a comprehension) makes the value that contains it an `Unreadable`, which is an
error only if that value is needed.
"""

import ast
import dataclasses
import operator
import os
import re
from typing import Any

BASE = "_base_"
_LIMIT = 10_000  # most items or characters in the result of an expression
_TOTAL = 1_000_000  # and in the results of all expressions of a file
_LARGEST = 2**63  # of a whole number

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip

_CONSTRUCTS = {
    ast.Call: "a function call", ast.ListComp: "a comprehension", ast.DictComp: "a comprehension",
    ast.SetComp: "a comprehension", ast.GeneratorExp: "a comprehension", ast.Lambda: "a lambda",
    ast.Attribute: "an attribute", ast.IfExp: "a condition", ast.Set: "a set", ast.If: "an if statement",
    ast.For: "a loop", ast.While: "a loop", ast.Try: "a try statement", ast.With: "a with statement",
    ast.Expr: "an expression whose value is discarded",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class Unreadable:
    """A value that cannot be determined without running code.

    Attributes:
        why: The line and the construct.
    """

    why: str

    def __repr__(self):
        return f"unreadable ({self.why})"


class NoValue(Exception):
    """An expression cannot be evaluated; the message gives the reason."""


def describe(node: ast.AST) -> str:
    """Describe a construct in words."""
    return _CONSTRUCTS.get(type(node), f"Python's {type(node).__name__}")


class Values:
    """Evaluates the expressions of one file.

    Args:
        file: The file's name, for messages.
        predefined: Replacements for ``{{ name }}`` in strings.

    Attributes:
        names: The variables so far.
        base: The variables of the file's bases, which ``_base_`` refers to.
    """

    def __init__(self, file: str, predefined: dict[str, str]):
        self.file, self.predefined = os.path.basename(file), predefined
        self.names: dict[str, Any] = {}
        self.base: dict[str, Any] = {}
        self._made = 0

    def why(self, node: ast.AST, what: str | None = None) -> str:
        """Describe where a construct is, for a message."""
        return f"line {node.lineno} of {self.file} has {what or describe(node)}"

    def of(self, node: ast.expr) -> Any:
        """Evaluate an expression; return an `Unreadable` if that is not possible."""
        try:
            return self._value(node)
        except NoValue as error:
            return Unreadable(str(error))

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str(text)):
                return self._text(node, text)
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.List(elts=items):
                return self._limited(node, self._items(items))
            case ast.Tuple(elts=items):
                return self._limited(node, tuple(self._items(items)))
            case ast.Dict(keys=keys, values=values):
                return self._dict(zip(keys, values, strict=True))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                pairs = ((None if k.arg is None else ast.Constant(k.arg), k.value) for k in keywords)
                return self._dict(pairs)
            case ast.Call(func=ast.Name(id=("dict" | "list" | "tuple") as kind), args=[arg], keywords=[]):
                return self._limited(node, self._convert(node, kind, self._value(arg)))
            case ast.Set(elts=[ast.Set(elts=[reference])]):  # {{_base_.name}}
                return self._value(reference)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                value = self._value(operand)
                if type(value) in (int, float):
                    return -value if isinstance(op, ast.USub) else value
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self._operate(node, self._value(left), op, self._value(right))
            case ast.JoinedStr(values=parts):
                return self._limited(node, "".join(self._part(part) for part in parts))
            case ast.Attribute() | ast.Subscript():
                return self._inside(node)
        raise NoValue(self.why(node))

    def _limited(self, node: ast.AST, result: Any) -> Any:
        """The result of an expression, if it is not too large."""
        if isinstance(result, (str, list, tuple, dict)):
            self._made += len(result)
            if len(result) > _LIMIT or self._made > _TOTAL:
                raise NoValue(self.why(node, "an operation with too large a result"))
        elif isinstance(result, complex) or isinstance(result, int) and abs(result) >= _LARGEST:
            raise NoValue(self.why(node, "an operation with too large a result"))
        return result

    def _name(self, node: ast.AST, name: str) -> Any:
        if name == BASE:
            return self.base
        if name not in self.names:
            raise NoValue(self.why(node, f"the undefined name {name}"))
        value = self.names[name]
        if isinstance(value, Unreadable):
            raise NoValue(value.why)
        return value

    def _text(self, node: ast.AST, text: str) -> Any:
        if reference := re.fullmatch(r"\{\{\s*_base_\.([\w.]+)\s*\}\}", text):
            keys = [int(key) if key.isdigit() else key for key in reference[1].split(".")]
            return self._follow(node, self.base, keys)
        pattern = r"\{\{\s*(\w+)\s*\}\}"
        return re.sub(pattern, lambda match: self.predefined.get(match[1], match[0]), text)

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        items = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += self._limited(node, self._convert(node, "list", self._value(node.value)))
            else:
                items.append(self.of(node))
        return items

    def _dict(self, pairs) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        for key, node in pairs:
            if key is None:
                values |= self._limited(node, self._convert(node, "dict", self._value(node)))
                continue
            name = self._value(key)
            if not isinstance(name, (str, int, float, bool, type(None))):
                raise NoValue(self.why(node, "a dictionary key that is not a plain value"))
            values[name] = self.of(node)
        return values

    def _convert(self, node: ast.AST, kind: str, value: Any) -> Any:
        if kind == "dict" and isinstance(value, dict):
            return dict(value)
        if kind != "dict" and isinstance(value, (list, tuple)):
            return list(value) if kind == "list" else tuple(value)
        raise NoValue(self.why(node))

    def _part(self, node: ast.expr) -> str:
        """A piece of an f-string."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None:
            value = self._value(node.value)
            if isinstance(value, (str, int, float)):
                return str(value)
        raise NoValue(self.why(node, "formatted text"))

    def _operate(self, node: ast.AST, left: Any, op: ast.operator, right: Any) -> Any:
        kinds = type(left), type(right)
        plain = all(kind in (int, float) for kind in kinds)
        sequences = (str, list, tuple)
        if isinstance(op, ast.Pow):
            fits = plain and abs(left) <= 1e6 and abs(right) <= 16
        elif isinstance(op, ast.Add):
            fits = plain or kinds[0] is kinds[1] and kinds[0] in sequences
        elif isinstance(op, ast.Mult) and not plain:
            length, count = (left, right) if kinds[1] is int else (right, left)
            fits = type(length) in sequences and type(count) is int and len(length) * count <= _LIMIT
        elif isinstance(op, ast.Mod) and kinds[0] is str:
            # What text a list has depends on all that it holds.
            parts = right if isinstance(right, tuple) else (right,)
            fits = all(isinstance(part, (str, int, float)) for part in parts)
            fits = fits and re.fullmatch(r"([^%]|%[sd%])*", left) is not None
        else:
            fits = plain
        if not fits or type(op) not in _OPERATORS:
            raise NoValue(self.why(node, "an unsupported operation"))
        try:
            result = _OPERATORS[type(op)](left, right)
        except (ArithmeticError, TypeError, ValueError):
            raise NoValue(self.why(node, "an operation that fails")) from None
        return self._limited(node, result)

    def _inside(self, node: ast.Attribute | ast.Subscript) -> Any:
        """``_base_.a.b`` and ``a["b"][0]``."""
        path = look_up_path(node)
        if path is None:
            raise NoValue(self.why(node))
        root, *keys = path
        return self._follow(node, self._name(node, root), keys)

    def _follow(self, node: ast.AST, value: Any, keys: list[Any]) -> Any:
        for key in keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                raise NoValue(self.why(node, f"a look-up of {key!r}, which does not exist")) from None
            if isinstance(value, Unreadable):
                raise NoValue(value.why)
        return value


def look_up_path(node: ast.expr) -> list[Any] | None:
    """Return the root's name and the keys after it; attributes count as keys of ``_base_`` only."""
    keys: list[Any] = []
    attributes = False
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            keys.insert(0, node.attr)
            attributes = True
        elif isinstance(node.slice, ast.Constant):
            keys.insert(0, node.slice.value)
        elif isinstance(node.slice, ast.UnaryOp) and isinstance(node.slice.operand, ast.Constant):
            keys.insert(0, -node.slice.operand.value if isinstance(node.slice.op, ast.USub) else None)
        else:
            return None
        node = node.value
    if not isinstance(node, ast.Name) or attributes and node.id != BASE:
        return None
    return [node.id, *keys]
