"""Convert between matterport's configuration classes and ModelConfig.

A user's file has a subclass of ``mrcnn.config.Config`` whose fields differ from the library's. It is read
from its syntax tree and never run: fields have to be plain values, arithmetic or ``np.array`` of these.
"""

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.configs.python_values import Unreadable, Values
from jaxmaskrcnn.convert.matterport import rows
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.names.config_table import Settings, configuration, write
from jaxmaskrcnn.names.conversions import short
from jaxmaskrcnn.zoo.categories import COCO_80
from jaxmaskrcnn.zoo.conventions import MATTERPORT
from jaxmaskrcnn.zoo.matterport import BALLOON

USUAL = ModelConfig().replace(MATTERPORT)
_BASE = "Config"
_LARGEST = 1_000_000  # characters of a file
# Known data sets: the NAME of their configurations in the original's samples, and their categories.
_DATA_SETS = {"coco": COCO_80, "balloon": BALLOON}
_ADVICE = f"give a file with a class that has {_BASE} of mrcnn.config as its base"


def is_config_class(text: str) -> bool:
    """Whether Python source may define a subclass of matterport's ``Config``."""
    return any(word in text for word in ("(Config)", ".Config)", "(mrcnn")) and "class " in text


def config_from_class(path: str | os.PathLike, training: bool = True) -> ModelConfig:
    """Convert a file with a subclass of matterport's ``Config`` to a ModelConfig.

    Args:
        path: A ``.py`` file.
        training: Whether to also reject unsupported fields that only affect training.

    Returns:
        A ModelConfig; its categories are those of the original's samples if NAME is "coco" or "balloon" and
        the number of classes fits, and otherwise ().

    Raises:
        UserError: The file cannot be read, has several such classes or none, or has unsupported fields.
    """
    path = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {_ADVICE}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; {_ADVICE}.") from None
    return config_from_class_text(text, path, training)


def config_from_class_text(text: str, source: str, training: bool = True) -> ModelConfig:
    """Convert Python source with a subclass of matterport's ``Config``; see `config_from_class`.

    Args:
        text: The source.
        source: Its name in errors.
        training: Whether to also reject unsupported fields that only affect training.

    Example:
        >>> text = "class Balloons(Config):" + chr(10) + "    NUM_CLASSES = 1 + 1"
        >>> config_from_class_text(text, "the class").num_classes
        1
    """
    settings = Settings(_fields(text, source), "matterport's Config", source)
    for name, value in settings.values.items():
        if isinstance(value, Unreadable) and name not in rows.RUN:
            settings.problem(name, f"{name} cannot be read without running it ({value.why}); write it out")
    readable = {k: v for k, v in settings.values.items() if not isinstance(v, Unreadable)}
    settings.values = readable
    config = settings.fields(rows.SETTINGS)
    side = 2 * (config["mask.pool.size"] or 0)
    if (given := settings.values.get(rows.MASK_SHAPE)) is not None and tuple(given) != (side, side):
        text = f"[{side}, {side}], twice MASK_POOL_SIZE"
        settings.refuse(rows.MASK_SHAPE, given, text, training=True)
    known = {*(row.key for row in rows.SETTINGS), rows.MASK_SHAPE, *rows.RUN}
    settings.unknown(known, [key for key in settings.values if key not in known])
    settings.finish(training)
    name = settings.values.get("NAME")
    categories = _DATA_SETS.get(name, ()) if isinstance(name, str) else ()
    categories = categories if config["num_classes"] == len(categories) else ()
    return configuration(USUAL, {**config, "categories": categories})


def class_of_config(config: ModelConfig) -> str:
    """Write a configuration as a subclass of matterport's ``Config``, with all fields that differ.

    Args:
        config: The configuration, with a pixel mean in units of 0..255.
    """
    values = write(rows.SETTINGS, config, USUAL)
    values[rows.MASK_SHAPE] = [2 * config.region_side(config.mask.pool)] * 2 if config.mask else [28, 28]
    defaults = {row.key: row.default for row in rows.SETTINGS} | {rows.MASK_SHAPE: [28, 28]}
    known = [name for name, categories in _DATA_SETS.items() if categories == config.categories]
    lines = ["from mrcnn.config import Config", "", "", "class ModelConfig(Config):"]
    lines.append(f"    NAME = {(known or ['model'])[0]!r}")
    for name, value in values.items():
        if value != defaults[name]:
            lines.append(f"    {name} = {_written(value)}")
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def _fields(text: str, source: str) -> dict[str, Any]:
    """Return the fields of the one class that is derived from ``Config``, and of its bases in the file."""
    if len(text) > _LARGEST:
        raise UserError(f"{source} has {len(text)} characters, more than a configuration has; {_ADVICE}.")
    try:
        tree = _Plain().visit(ast.parse(text))
        return _read_classes(tree, source)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} is not valid Python; {_ADVICE}.") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{source} nests its values too deeply; {_ADVICE}.") from None


class _Plain(ast.NodeTransformer):
    """Replaces ``np.array(values)`` with the values."""

    def visit_Call(self, node: ast.Call) -> ast.AST:  # noqa: N802 (the name that ast prescribes)
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="array"), args=[values]):
                return values
        return node


def _read_classes(tree: ast.Module, source: str) -> dict[str, Any]:
    values = Values(source, {})
    found: dict[str, dict[str, Any]] = {}
    derived: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values.names[name] = values.of(value)
            case ast.ClassDef(name=name):
                bases = [_name(base) for base in node.bases]
                known = [base for base in bases if base in found]
                if known or _BASE in bases:
                    inherited = found[known[0]] if known else {}
                    derived.update(known)
                    found[name] = inherited | _read_class(node, inherited, values, source)
    last = [name for name in found if name not in derived]
    if len(last) != 1:
        what = f"has the configurations {', '.join(last)}" if last else "has no such configuration"
        raise UserError(f"{source} {what}; {'keep one of them' if last else _ADVICE}.")
    return found[last[0]]


def _read_class(
    node: ast.ClassDef, inherited: Mapping[str, Any], outside: Values, source: str
) -> dict[str, Any]:
    values, own = Values(source, {}), {}
    values.names = {**outside.names, **inherited}
    for statement in node.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if not isinstance(target, ast.Name):
                        raise _stop(source, statement, "an assignment to something other than a field")
                    own[target.id] = values.names[target.id] = values.of(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                if value is not None:
                    own[name] = values.names[name] = values.of(value)
            case ast.FunctionDef(name="__init__"):
                raise _stop(source, statement, "an __init__, which can set fields")
            case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.FunctionDef():
                pass
            case _:
                raise _stop(source, statement, "a statement other than NAME = value")
    return own


def _name(base: ast.expr) -> str:
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""


def _stop(source: str, node: ast.stmt, what: str) -> UserError:
    return UserError(
        f"{source} has {what} in line {node.lineno}, but it is read here, not run; write the fields of "
        f"{short(_BASE)} as plain values."
    )
