"""Another library's settings as a table that is used in both directions.

A row has a setting's default in the library, the dotted path of its counterpart in ModelConfig, and the
conversion of values in both directions. Reading a config file collects all unsupported settings, so that one
error lists them. Writing one leaves out settings for which the library has no value; reading the result back
with `Library.read_settings` reveals the differences.
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxmaskrcnn.config import ConfigError, Level, ModelConfig
from jaxmaskrcnn.config.paths import part_classes, replace, type_of
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.conversions import Conversion, only, short

log = logging.getLogger(__name__)

_OPTIONAL = ("neck", "extractor", "trunk", "mask", "keypoints", "semantic")  # parts that a model may lack
MISSING = object()  # the default of a setting that has none


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        key: Its key in the config, e.g. "MODEL.RPN.NMS_THRESH".
        default: The library's default; MISSING if it must be set.
        conversion: The supported values, and their values here.
        field: Dotted path of the setting in ModelConfig, such as "rpn.nms_threshold"; a tuple if the value
            holds several settings, None if it is only checked, or used together with others. Rows with the
            same path must agree. The path of a part holds whether that part exists.
        training: Whether it only affects training, not a trained model's detections.
        written: For a row without a path, the value in an exported config; MISSING if it is left out.
    """

    key: str
    default: Any
    conversion: Conversion
    field: str | tuple[str, ...] | None = None
    training: bool = False
    written: Any = MISSING


class Settings:
    """The settings of one config file, and the problems found in them.

    Args:
        values: Values by dotted key, as returned by `flatten`.
        library: The library's name, for messages.
        path: The file, for messages.
        usual: The library's default configuration.
    """

    def __init__(
        self,
        values: dict[str, Any],
        library: str,
        path: str,
        usual: ModelConfig = ModelConfig(),  # noqa: B008
    ):
        self.usual = usual
        self.values, self.library, self.path = values, library, path
        self._problems: list[tuple[str, str, bool]] = []  # key, text, whether it only affects training
        self._first: dict[str, tuple[Setting, Any]] = {}  # first setting and value of each path

    def has(self, section: str) -> bool:
        """Whether the file has a section with a setting in it."""
        return any(key.startswith(f"{section}.") for key in self.values)

    def get(self, setting: Setting) -> Any:
        """Return the converted value of a setting; None, with the problem recorded, if it has none."""
        value, conversion = self.given(setting), setting.conversion
        if value is MISSING:
            text = f"{setting.key} is not set; give {conversion.text}"
            self.problem(setting.key, text, setting.training)
            return None
        try:
            return conversion.read(value)
        except (ValueError, OverflowError):
            self.refuse(setting.key, value, conversion.text, setting.training)
            return None

    def given(self, setting: Setting) -> Any:
        """Return the value in the file, or the library's default."""
        return self.values.get(setting.key, setting.default)

    def fields(self, table: Iterable[Setting]) -> dict[str, Any]:
        """Return the values of a table's rows by dotted path; rows without a path are checked.

        Unsupported values are None.
        """
        found: dict[str, Any] = {}
        for setting in table:
            value = self.get(setting)
            if isinstance(setting.field, tuple):
                values = [None] * len(setting.field) if value is None else value
                found |= dict(zip(setting.field, values, strict=True))
            elif setting.field is not None:
                found[setting.field] = self._agreed(setting, value)
        return found

    def _agreed(self, setting: Setting, value: Any) -> Any:
        """Return a path's first value; a later row with another value is recorded as a problem."""
        first, expected = self._first.setdefault(setting.field, (setting, value))
        if value != expected and None not in (value, expected):
            as_first = f"the same as {first.key}, {short(self.given(first))}"
            self.refuse(setting.key, self.given(setting), as_first, setting.training)
        return expected

    def refuse(self, key: str, value: Any, supported: str, training: bool = False) -> None:
        """Record an unsupported value."""
        self.problem(key, f"{key} is {short(value)}; supported: {supported}", training)

    def problem(self, key: str, text: str, training: bool = False) -> None:
        """Record any other problem with a setting."""
        self._problems.append((key, text, training))

    def unknown(self, known: Iterable[str], keys: Iterable[str]) -> None:
        """Record unknown keys."""
        known = sorted(known)
        for key in keys:
            # A part that must be None here, but is set.
            part = next((part for part in known if key.startswith(f"{part}.")), None)
            if part is not None:
                self.refuse(key, self.values[key], f"no {part}")
                continue
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.problem(key, f"{key} is not a known setting of {self.library}{hint}")

    def finish(self, training: bool, hint: str = "") -> None:
        """Raise an error with all recorded problems.

        Args:
            training: Whether settings that only affect training count; if not, they are logged as a warning.
            hint: The end of the error's first sentence.

        Raises:
            UserError: Settings are unsupported; lists all of them.
        """
        # The other settings of a part with an unsupported type are irrelevant.
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


def configuration(usual: ModelConfig, found: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration with the settings that were read.

    Args:
        usual: The library's default configuration, for settings that are not in ``found``.
        found: Values by dotted path, or None. "neck", "extractor", "trunk", "mask", "keypoints" and
            "semantic" are False if the model lacks the part.
    """
    absent = tuple(f"{part}." for part in _OPTIONAL if found.get(part) is False)
    changes = {path: value for path, value in found.items() if not path.startswith(absent or "/")}
    return usual.replace({path: value for path, value in changes.items() if value is not None})


def levels(usual: ModelConfig, found: Mapping[str, Any]) -> tuple[Level, ...]:
    """Return the levels of the backbone and neck that were read; arguments as in `configuration`."""

    def part(name: str) -> Any:
        own = {path: value for path, value in found.items() if path.startswith(f"{name}.")}
        changes = {path.removeprefix(f"{name}."): x for path, x in own.items() if x is not None}
        kind = found.get(name)
        part = part_classes(type_of(usual, name))[kind]() if isinstance(kind, str) else getattr(usual, name)
        return replace(part, changes)

    backbone = part("backbone").levels
    return backbone if found.get("neck") is False else part("neck").levels(backbone)


def flatten(values: Mapping[str, Any], path: str, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Flatten nested dictionaries to one with dotted keys; empty ones are kept.

    Args:
        values: The file's values.
        path: The file, for the error.
        prefix: Prefix of every key.
        depth: Depth of the recursion.

    Raises:
        UserError: The nesting is endless (a yaml alias can refer to its own container) or too large.
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


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested dictionaries, the inverse of `flatten`.

    Example:
        >>> nest({"a.b": 1, "a.c": 2})
        {'a': {'b': 1, 'c': 2}}
    """
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *parts, last = key.split(".")
        section = values
        for part in parts:
            section = section.setdefault(part, {})
        section[last] = value
    return values


def write(table: Iterable[Setting], config: ModelConfig, usual: ModelConfig) -> dict[str, Any]:
    """Return a table's settings for a configuration.

    Args:
        table: The rows.
        config: The configuration.
        usual: The library's default configuration, whose value is written if the library has no
            counterpart of the configuration's.

    Returns:
        Values by dotted key, of all rows that have a path or a ``written``.
    """
    values = {setting.key: _write(setting, config, usual) for setting in table}
    return {key: value for key, value in values.items() if value is not MISSING}


def _write(setting: Setting, config: ModelConfig, usual: ModelConfig) -> Any:
    if setting.field is None:
        return setting.written
    for source in (config, usual):
        try:
            if isinstance(setting.field, tuple):
                value = tuple(source.get(path) for path in setting.field)
            else:
                value = source.get(setting.field)
            written = setting.conversion.write(value)
            setting.conversion.read(written)
        except (ValueError, OverflowError, ZeroDivisionError, ConfigError):  # another kind of part
            continue
        return written
    return MISSING


def fixed(key: str, default: Any, *supported: Any, training: bool = False, always: bool = False) -> Setting:
    """Make a setting that only supports these values.

    It is written if the default is not one of them, or ``always``.
    """
    conversion = only(*supported)
    written = MISSING
    if always or default is MISSING or not conversion.reads(default):
        written = supported[0]
    return Setting(key, default, conversion, training=training, written=written)
