"""Write values as Python source: config files and constructor calls."""

from collections.abc import Mapping
from typing import Any


class Code(str):
    """Python source that is written without quotes, such as a class name."""

    __repr__ = str.__str__


def python_text(values: Mapping[str, Any], calls: bool = False) -> str:
    """Write variables, each on one or more lines.

    Args:
        values: Dictionaries, lists, tuples, plain values and `Code`, by name.
        calls: Whether a dictionary with a "type" is written as a call of that type.

    Example:
        >>> python_text({"model": {"type": "FPN", "norm": None}})
        "model = dict(type='FPN', norm=None)\\n"
        >>> python_text({"model": {"type": "FPN", "norm": Code("BatchNorm2d")}}, calls=True)
        'model = FPN(norm=BatchNorm2d)\\n'
    """
    return "".join(f"{name} = {_text(value, 0, calls)}\n" for name, value in values.items())


def _text(value: Any, indent: int, calls: bool) -> str:
    space = "\n" + " " * (indent + 4)
    if isinstance(value, list) and any(isinstance(x, Mapping) for x in value):
        items = [_text(x, indent + 4, calls) for x in value]
        return f"[{space}{f',{space}'.join(items)},\n{' ' * indent}]"
    if not isinstance(value, Mapping):
        return repr(value)
    call = calls and "type" in value
    # The type comes first, for readability.
    names = sorted(value, key=lambda name: name != "type")
    items = [f"{name}={_text(value[name], indent + 4, calls)}" for name in names[call:]]
    function = value["type"] if call else "dict"
    line = f"{function}({', '.join(items)})"
    if len(line) <= 80 and "\n" not in line:
        return line
    return f"{function}({space}{f',{space}'.join(items)},\n{' ' * indent})"
