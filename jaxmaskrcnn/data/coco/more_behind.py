"""Says what a file is that begins with a whole json value and goes on: json lines, or a json with a rest."""

import json
from typing import Any

from jaxmaskrcnn.data.coco.tools import COCO_ADVICE, tool_of

_SHOWN = 20  # characters of the rest that are shown


def more_behind(text: str, error: ValueError) -> str | None:
    """Says what a file is in which more follows behind a whole json value.

    Args:
        text: The file.
        error: What Python's json said about it.

    Returns:
        What follows the file's name, without a full stop; None where the fault is another one.

    Example:
        >>> text = '{"id": 1}\\n{"id": 2}\\n'
        >>> try:
        ...     json.loads(text)
        ... except ValueError as error:
        ...     print(more_behind(text, error)[:43])
        holds one json object a line (2 json lines,
    """
    if not isinstance(error, json.JSONDecodeError) or not error.msg.startswith("Extra data"):
        return None
    first, rest = _value(text[: error.pos]), text[error.pos :]
    second = _value(rest)
    if not isinstance(first, (dict, list)):
        return None
    if isinstance(first, dict) and isinstance(second, dict):
        count = sum(bool(line.strip()) for line in text.splitlines())
        return _several(first, count)
    shown = rest.replace("\0", "").strip()[:_SHOWN]
    found = f"{shown!r}" if shown else "zero bytes"
    return (
        "holds a whole json, and more behind it "
        f"(from character {error.pos + 1} of {len(text)} on: {found}), "
        "as if two files were written to one or a longer one was not emptied before; cut that off if the "
        "first part is complete, or export the annotations again"
    )


def _value(text: str) -> Any:
    """The json value that a text begins with; None where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _several(first: dict, lines: int) -> str:
    if {"images", "annotations"} <= first.keys():
        return (
            "holds several COCO jsons, one behind the other; give each a file of its own, and join them by "
            "python -m jaxmaskrcnn import FOLDER --format=coco if they are parts of one data set"
        )
    found = f"holds one json object a line ({lines} json lines, as files called .jsonl or .ndjson have them)"
    tool = tool_of(first)
    if tool is None:
        return f"{found}, and a COCO json is a single object; {COCO_ADVICE}"
    if tool.format:
        return (
            f"{found}, of which the first {tool.found}; write each to a file of its own and convert their "
            f"folder: python -m jaxmaskrcnn import FOLDER --format={tool.format}"
        )
    return f"{found}, of which the first {tool.found}; {tool.advice}"
