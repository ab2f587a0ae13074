"""docs/configuration.md lists every setting as it is, and every name of version 0.1 with its place today."""

import dataclasses
import re
import typing

import pytest
from pages import ROOT

from jaxmaskrcnn.config import BoxConfig, Config, MaskConfig, ModelConfig, paths, values
from jaxmaskrcnn.config.version1 import PATHS, VALUES

PAGE = (ROOT / "docs" / "configuration.md").read_text()
SETTINGS, OLD_NAMES = PAGE.split("## Names of version 0.1\n")
ROWS = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*) \|$", SETTINGS, re.M)


def kinds():
    """Every part that can stand in a field of a model or of two of its heads: field, kind, defaults."""
    return [
        (f"{place}{field.name}", kind, part())
        for place, owner in (("", ModelConfig), ("box.", BoxConfig), ("mask.", MaskConfig))
        for field in dataclasses.fields(owner)
        for kind, part in paths.part_classes(field.type).items()
    ]


def every_setting():
    """Path, default and type; a path once for each kind of part that has it."""
    chosen = tuple(f"{name}." for name, _, _ in kinds())
    found = [s for s in paths.settings(ModelConfig()) if not s[0].startswith(chosen)]
    found += [s for name, _, part in kinds() for s in paths.settings(part, f"{name}.")]
    run = [s for s in paths.settings(Config()) if not s[0].startswith("model.")]
    return [s for s in found + run if not s[0].endswith(".kind")]


def written(value) -> str:
    """A value as on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(expected) -> str:
    base = typing.get_args(expected)[0] if typing.get_origin(expected) is typing.Annotated else expected
    if typing.get_origin(base) is typing.Literal:
        return ", ".join(f"`{choice}`" if choice != "" else "empty" for choice in typing.get_args(base))
    return values.describe(expected)


def test_the_tables_have_every_setting_once():
    assert sorted(path for path, *_ in ROWS) == sorted(path for path, *_ in every_setting())
    for _, kind, part in kinds():
        assert f"`{type(part).__name__}`, kind `{kind}`" in PAGE


@pytest.mark.parametrize("path, default, choices, meaning", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_says_what_the_setting_is(path, default, choices, meaning):
    same_path = [(value, expected) for name, value, expected in every_setting() if name == path]
    said = [(f"`{text}`" if (text := written(v)) else "empty", allowed(e)) for v, e in same_path]
    assert (default, choices) in said
    (value, expected), text = same_path[said.index((default, choices))], default.strip("`")
    assert re.search(r"\w\w", meaning)
    # What is written in the table can be typed (but for numbers that are rounded there).
    if default != "empty" and path != "categories":
        again = values.parse(text, expected, path)
        assert again == value or again == pytest.approx(value, rel=1e-5)


def test_old_names_are_those_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", OLD_NAMES, re.M)
    assert {old: tuple(re.findall(r"`([\w.]+)`", new)) for old, new in rows} == PATHS
    assert len(rows) == len(PATHS)


def test_old_values_are_those_of_the_code():
    libraries = re.search(r"^\| old setting \| (.*) \|$", OLD_NAMES, re.M)[1].replace("`", "").split(" | ")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*\|[^|]*\|[^|]*)\|$", OLD_NAMES, re.M)
    written = {
        old: {
            library: value.strip(" `")
            for library, value in zip(libraries, values.split("|"), strict=True)
            if value.strip()
        }
        for old, values in rows
    }
    assert written == VALUES
