"""Read Python config files without running them.

MMDetection's configs are Python, but they only hold data: dictionaries, lists, numbers, strings, and
variables for them. These are evaluated from the syntax tree (`python_values`). Any other value (an
import, a function call) is an error where it is needed; a statement that could change other values
(a loop, a condition, a bare call) is an error at once.

Source: ``mmengine.config.Config`` for bases, merging, ``_delete_`` and references to a base.
"""

import ast
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxmaskrcnn.convert.configs.python_values import (
    BASE,
    NoValue,
    Unreadable,
    Values,
    describe,
    look_up_path,
)
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.plain_values import check_size

DELETE = "_delete_"


def read_config(path: str, known: Callable[[str], dict[str, Any] | None], above=()) -> dict[str, Any]:
    """Read the variables of a config file, merged over those of its bases.

    Args:
        path: The file.
        known: Returns the content of a base that is not on this machine, or None.
        above: Files that have this one as a base.

    Returns:
        Values by name: dictionaries, lists, tuples, strings, numbers, None and `Unreadable`.

    Raises:
        UserError: A file cannot be read or parsed, a base is missing or circular, or a statement is
            not an assignment.
    """
    if os.path.realpath(path) in above:
        raise UserError(f"{path} is its own {BASE}; remove {BASE} from one of the files.")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a config file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; give a config file.") from None

    def load(base: Any) -> dict[str, Any]:
        if not isinstance(base, str):
            raise UserError(f"{path} has {BASE} {base!r}; give the path of a config file.")
        found = Path(path).parent / base
        if "::" not in base and found.is_file():
            return read_config(os.fspath(found), known, (*above, os.path.realpath(path)))
        values = known(base)
        if values is None:
            raise UserError(
                f"{path} has the base {base if '::' in base else found}, which does not exist; add it, or "
                "give the complete config that training wrote to its work_dir, which needs no base."
            )
        return values

    return read_text(text, path, load)


def read_text(text: str, source: str, load: Callable[[Any], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Read the variables from a config's text.

    Args:
        text: Python source.
        source: Its name in errors; a path also determines ``{{ fileDirname }}`` and similar variables.
        load: Returns the variables of a base; None if bases are not followed.

    Raises:
        UserError: As in `read_config`.
    """
    try:
        tree = ast.parse(text)
        return _File(source, load).run(tree)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        line = f" (line {error.lineno})" if getattr(error, "lineno", None) else ""
        raise UserError(f"{source} is not valid Python{line}; give an MMDetection config.") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{source} nests its values too deeply; give an MMDetection config.") from None


def merge(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a config's dictionaries into those of its base; all other values are replaced.

    Args:
        values: The config. A dictionary with the key ``_delete_`` replaces the base's entirely.
        base: The base, which is not changed.
    """
    merged = dict(base)
    for key, value in values.items():
        if not isinstance(value, Mapping):
            merged[key] = value
            continue
        below = merged.get(key)
        if isinstance(below, Unreadable) and not value.get(DELETE):
            continue
        replace = value.get(DELETE) or not isinstance(below, Mapping)
        kept = {k: v for k, v in value.items() if k != DELETE}
        merged[key] = merge(kept, {} if replace else below)
    return merged


class _File:
    """Evaluates one file."""

    def __init__(self, source: str, load: Callable[[Any], dict[str, Any]] | None):
        self.source, self.load = source, load
        path = Path(source)
        predefined = {
            "fileDirname": os.fspath(path.parent),
            "fileBasename": path.name,
            "fileBasenameNoExtension": path.stem,
            "fileExtname": path.suffix,
        }
        self.values = Values(source, predefined)

    def run(self, tree: ast.Module) -> dict[str, Any]:
        for statement in tree.body:
            self._statement(statement)
        check_size(self.values.names, self.source)
        check_size(self.values.base, self.source)
        return merge(self.values.names, self.values.base)

    def _stop(self, node: ast.AST, what: str) -> UserError:
        return UserError(
            f"{self.source} has {what} in line {node.lineno}, but config files are read here, not run; give "
            "the complete config that training wrote to its work_dir, where values are written out."
        )

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                result = self.values.of(value)
                for target in targets:
                    self._assign(target, result)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(target, self.values.of(value))
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                expression = ast.copy_location(ast.BinOp(ast.Name(target.id), op, value), node)
                ast.fix_missing_locations(expression)
                self._assign(target, self.values.of(expression))
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                self._import(node, names)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                self.values.names[name] = Unreadable(self.values.why(node, "a definition"))
            case ast.With(items=[ast.withitem(ast.Call(func=ast.Name(id="read_base")))]):
                raise self._stop(node, "a base that is imported with read_base")
            case ast.Expr(value=ast.Call()):
                raise self._stop(node, "a function call")
            case _:
                raise self._stop(node, describe(node))

    def _import(self, node: ast.Import | ast.ImportFrom, names: list[ast.alias]) -> None:
        module = getattr(node, "module", None) or names[0].name
        if module.split(".")[0] == "detectron2" or getattr(node, "level", 0):
            raise UserError(
                f"{self.source} is a LazyConfig of Detectron2 (line {node.lineno} imports {module}), which "
                "would have to be run; give its preset (detectron2/mask_rcnn_R_50_FPN_100ep_LSJ or another "
                "one of list_models()) or a yaml."
            )
        for alias in names:
            name = alias.asname or alias.name.split(".")[0]
            self.values.names[name] = Unreadable(self.values.why(node, f"an import ({module})"))

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name) if name == BASE:
                self._load_bases(target, value)
            case ast.Name(id=name):
                self.values.names[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                values = value if isinstance(value, (list, tuple)) else ()
                if len(values) != len(targets):
                    raise self._stop(target, "an assignment of one value to several names")
                for part, item in zip(targets, values, strict=True):
                    self._assign(part, item)
            case ast.Attribute() | ast.Subscript():
                self._assign_inside(target, value)
            case _:
                raise self._stop(target, "an assignment to something other than a name")

    def _load_bases(self, node: ast.AST, value: Any) -> None:
        if self.load is None or isinstance(value, Unreadable):
            raise self._stop(node, f"a {BASE} that is not written out" if self.load else f"a {BASE}")
        for base in value if isinstance(value, (list, tuple)) else [value]:
            loaded = self.load(base)
            twice = sorted(set(loaded) & set(self.values.base))
            if twice:
                raise UserError(f"{self.source} has two bases that set {twice[0]}; remove one of them.")
            self.values.base |= loaded

    def _assign_inside(self, target: ast.Attribute | ast.Subscript, value: Any) -> None:
        """``_base_.a.b = value`` and ``a["b"] = value``."""
        path = look_up_path(target)
        try:
            if path is None:
                raise NoValue
            root, *keys = path
            container = self.values.base if root == BASE else self.values.names[root]
            for key in keys[:-1]:
                # Only the parts that detectors need are known of a base that is not on this machine.
                container = container.setdefault(key, {}) if isinstance(container, dict) else container[key]
            container[keys[-1]] = value
        except (NoValue, KeyError, IndexError, TypeError):
            # The unknown parts of a base do not affect a detector.
            if path is None or path[0] != BASE or path[1] == "model":
                raise self._stop(target, "an assignment into an unknown value") from None
