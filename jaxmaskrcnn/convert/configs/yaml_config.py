"""Read and write yaml config files that can have bases, as Detectron2 does.

Source: ``fvcore.common.config`` and ``yacs`` for bases and for strings that hold Python literals.
"""

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import flatten
from jaxmaskrcnn.utils.plain_values import check_size
from jaxmaskrcnn.utils.plain_yaml import plain_yaml

_BASE = "_BASE_"


def read_yaml(path: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Read the settings of a yaml file, merged over those of its bases, by dotted key.

    Args:
        path: The file.
        known: Content of bases that may not be on this machine, by file name.

    Raises:
        UserError: The file or its base cannot be read, or contains something other than plain values.
    """
    return _load(path, known, ())


def read_yaml_text(text: str, source: str) -> dict[str, Any]:
    """Read the settings of yaml text without bases, by dotted key; ``source`` names it in errors."""
    return {key: _decode(value, source) for key, value in flatten(_parse(text, source), source).items()}


def yaml_text(values: Mapping[str, Any], indent: int = 0) -> str:
    """Write nested dictionaries of plain values as yaml.

    Example:
        >>> print(yaml_text({"MODEL": {"FPN": {"NORM": ""}, "MASK_ON": True}}), end="")
        MODEL:
          FPN:
            NORM: ""
          MASK_ON: true
    """
    lines = ""
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        lines += f"{' ' * indent}{name}:" + ("\n" if nested else f" {_yaml_value(value)}\n")
        lines += yaml_text(value, indent + 2) if nested else ""
    return lines


def _yaml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml_value, value))}]"
    if isinstance(value, str):
        return value or '""'
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _load(path: str, known: Mapping[str, dict[str, Any]], above: tuple[str, ...]) -> dict[str, Any]:
    """Read the settings of a file and its bases; ``above`` lists the files that have it as a base."""
    if os.path.realpath(path) in above:
        raise UserError(f"{path} is its own {_BASE}; remove {_BASE} from one of the files.")
    values = _parse(_text(path), path)
    bases = values.pop(_BASE, [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged |= _load_base(base, path, known, (*above, os.path.realpath(path)))
    return merged | {key: _decode(value, path) for key, value in flatten(values, path).items()}


def _load_base(
    base: Any, path: str, known: Mapping[str, dict[str, Any]], above: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(base, str):
        raise UserError(f"{path} has {_BASE} {str(base)[:80]!r}; give the path of a yaml file.")
    if base.startswith(("http://", "https://", "detectron2://")):
        raise UserError(f"{path} has the URL {base} as its {_BASE}; download that file and give its path.")
    try:
        found = Path(path).parent / Path(base).expanduser()
    except RuntimeError:  # "~somebody", who has no account here
        found = Path(path).parent / base
    if found.is_file():
        return _load(os.fspath(found), known, above)
    if found.name in known:
        return flatten(known[found.name], found.name)
    raise UserError(
        f"{path} has the base {found}, which does not exist; add it, or give the config.yaml that "
        "Detectron2 wrote to the output folder, which needs no base."
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a Detectron2 yaml.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; give a Detectron2 yaml.") from None


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        values = plain_yaml(text, path, yaml.SafeLoader)
    except UserError:  # before ValueError, its base class
        raise
    except RecursionError:
        raise UserError(f"{path} nests its settings too deeply; give a Detectron2 yaml.") from None
    except yaml.constructor.ConstructorError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(
            f"{path} has something other than plain values{line} ({error.problem}), but config files may "
            "not run code; write the value out."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path} is not valid yaml{line}; give a Detectron2 yaml.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} has no named settings; give a Detectron2 yaml.")
    return values


def _decode(value: Any, path: str) -> Any:
    """Evaluate a string that holds a Python literal, such as "(60000, 80000)"."""
    if isinstance(value, str):
        try:
            decoded = ast.literal_eval(value)
            check_size(decoded, path)
            return decoded
        except UserError:  # before ValueError, its base class
            raise
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return value
