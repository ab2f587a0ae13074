"""Reading another library's config file by a table of its settings.

A table says for each setting what the library's default is, which values can be reproduced here and
which field of ModelConfig they go to. Whatever cannot be reproduced is collected, so that one error
tells all of it.
"""

import difflib
import logging
import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxmaskrcnn.errors import UserError

log = logging.getLogger(__name__)

MISSING = object()  # the default of a setting that has none

_short = reprlib.Repr()
_short.maxstring, _short.maxother = 80, 160
_short.maxlist = _short.maxtuple = _short.maxdict = 8


class Kind(NamedTuple):
    """The values of a setting that can be reproduced.

    Attributes:
        text: Describes them in an error.
        convert: From the file's value to ModelConfig's; raises ValueError for any other.
    """

    text: str
    convert: Callable[[Any], Any]


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        key: Its place in the config, e.g. "MODEL.RPN.NMS_THRESH".
        default: The library's, where a config does not set it; MISSING if it must be set.
        kind: What can be reproduced.
        field: Of ModelConfig; None where the value is only checked, or used together with others.
        training: Whether it makes no difference to a trained model's detections.
    """

    key: str
    default: Any
    kind: Kind
    field: str | None = None
    training: bool = False


class Settings:
    """The settings of one config file, and what is wrong with them.

    Args:
        values: By dotted key, as `flatten` makes them.
        library: For messages.
        path: Of the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], library: str, path: str):
        self.values, self.library, self.path = values, library, path
        self._problems: list[tuple[str, str, bool]] = []  # key, text, whether of training only

    def get(self, setting: Setting) -> Any:
        """The converted value of a setting; None, with a note of the problem, where it has none."""
        value = self.values.get(setting.key, setting.default)
        if value is MISSING:
            self.problem(setting.key, f"{setting.key} is not set; give {setting.kind.text}", setting.training)
            return None
        try:
            return setting.kind.convert(value)
        except (ValueError, OverflowError):
            self.refuse(setting.key, value, setting.kind.text, setting.training)
            return None

    def fields(self, table: Iterable[Setting]) -> dict[str, Any]:
        """The fields of ModelConfig that a table's settings give; those without a field are checked."""
        values = [(setting.field, self.get(setting)) for setting in table]
        return {field: value for field, value in values if field is not None}

    def common(self, table: Iterable[Setting]) -> Any:
        """The one value of several settings that have to agree here."""
        first, *others = table
        wanted = self.get(first)
        for setting in others:
            value = self.get(setting)
            if value != wanted and None not in (value, wanted):
                given = self.values.get(setting.key, setting.default)
                same = f"the same as {first.key}, {_short.repr(self.values.get(first.key, first.default))}"
                self.refuse(setting.key, given, same, setting.training)
        return wanted

    def refuse(self, key: str, value: Any, supported: str, training: bool = False) -> None:
        """Note a value that cannot be reproduced."""
        self.problem(key, f"{key} is {_short.repr(value)}; supported: {supported}", training)

    def problem(self, key: str, text: str, training: bool = False) -> None:
        """Note anything else that is wrong with a setting."""
        self._problems.append((key, text, training))

    def unknown(self, known: Iterable[str], keys: Iterable[str]) -> None:
        """Note keys that the library does not have."""
        known = sorted(known)
        for key in keys:
            # A part that has to be None here, but is one.
            part = next((part for part in known if key.startswith(f"{part}.")), None)
            if part is not None:
                self.refuse(key, self.values[key], f"no {part}")
                continue
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.problem(key, f"{key} is no setting of {self.library}'s that is known{hint}")

    def finish(self, training: bool, hint: str = "") -> None:
        """Raise what was noted.

        Args:
            training: Whether settings that change training only count; a warning in the log otherwise.
            hint: The end of the error's first sentence.

        Raises:
            UserError: A setting cannot be reproduced; lists all of them.
        """
        # Of a part whose type is unknown here the other settings mean nothing.
        parts = [key.removesuffix("type") for key, _, _ in self._problems if key.endswith(".type")]
        problems = {
            text: of_training
            for key, text, of_training in self._problems
            if not any(key.startswith(part) and key != f"{part}type" for part in parts)
        }
        passed = [text for text, of_training in problems.items() if of_training and not training]
        if passed:
            log.warning("%s: training here would differ: %s.", self.path, "; ".join(passed))
        wrong = [text for text in problems if text not in passed]
        if wrong:
            what = "a setting" if len(wrong) == 1 else f"{len(wrong)} settings"
            raise UserError(
                f"{self.path} has {what} that cannot be reproduced here{hint}:\n  " + "\n  ".join(wrong)
            )


def flatten(values: Mapping[str, Any], path: str, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys; an empty one stays as it is.

    Args:
        values: Of the file.
        path: Of the file, for the error.
        prefix: In front of every key.
        depth: Of the recursion.

    Raises:
        UserError: The nesting has no end (an alias of YAML can point to what it is in).
    """
    if depth > 20:
        raise UserError(f"{path} nests its settings too deeply at {prefix[:80]}; give a config file.")
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, path, f"{prefix}{key}.", depth + 1)
        else:
            flat[f"{prefix}{key}"] = value
        if len(flat) > 20_000:
            raise UserError(f"{path} has more than 20,000 settings at {prefix[:80]}; give a config file.")
    return flat


def only(*values: Any) -> Kind:
    """One of these values, as it is; lists and tuples are alike."""
    return choice({_hashable(value): value for value in values}, [_short.repr(value) for value in values])


def choice(values: Mapping[Any, Any], texts: Iterable[str] | None = None) -> Kind:
    """A key of ``values``, which gives what it stands for here."""

    def convert(value):
        key = _hashable(value)
        # True == 1, but a flag is no number.
        for known, result in values.items():
            if known == key and (type(known) is type(key) or _is_number(known) and _is_number(key)):
                return result
        raise ValueError

    return Kind(" or ".join(texts or map(repr, values)), convert)


def number(minimum: float = 0.0, maximum: float | None = None) -> Kind:
    """A finite number."""

    def convert(value):
        if not _is_number(value) or not minimum <= value < float("inf"):
            raise ValueError
        if maximum is not None and value > maximum:
            raise ValueError
        return float(value)

    return Kind(f"numbers from {minimum:g}" + (f" to {maximum:g}" if maximum is not None else " on"), convert)


def whole(minimum: int, maximum: int | None = None) -> Kind:
    """A whole number."""
    kind = number(minimum, maximum)

    def convert(value):
        if not kind.convert(value).is_integer():
            raise ValueError
        return int(value)

    return Kind(f"whole {kind.text}", convert)


def several(kind: Kind, count: int | None = None, text: str = "") -> Kind:
    """A list of values of a kind, as a tuple; of ``count`` unless that is None."""

    def convert(value):
        if not isinstance(value, (list, tuple)) or not value or count not in (None, len(value)):
            raise ValueError
        return tuple(kind.convert(item) for item in value)

    return Kind(text or f"a list of {'' if count is None else f'{count} '}{kind.text}", convert)


def fixed(key: str, default: Any, *supported: Any, training: bool = False) -> Setting:
    """A setting of which other values than these cannot be reproduced."""
    return Setting(key, default, only(*supported), training=training)


FLAG = choice({True: True, False: False})
FRACTION = number(0, 1)


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, (list, tuple)) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value
