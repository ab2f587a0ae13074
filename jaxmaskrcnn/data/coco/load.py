"""Reading a json file in any of Unicode's encodings, and checking that it is COCO's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from jaxmaskrcnn.data.coco.entries import Entries
from jaxmaskrcnn.data.coco.more_behind import more_behind
from jaxmaskrcnn.data.coco.packing import no_collection, packed
from jaxmaskrcnn.data.coco.panoptic import is_panoptic
from jaxmaskrcnn.data.coco.tools import other_tool, without_objects
from jaxmaskrcnn.errors import UserError

_BEGINNING = 4000  # characters of a file from which the tool that wrote it is recognised
KEYS = ("images", "annotations", "categories")


def load_json(path: Path) -> dict:
    """Reads a COCO-format json and checks its outer structure.

    Args:
        path: The file, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Returns:
        The content, with the lists 'images', 'annotations' and 'categories'. The last is empty where the
        file lacks it. Polygons are packed; `packing` has what unpacks them.

    Raises:
        UserError: The file is missing, or is not json, or not COCO json; a file of another tool is named.
    """
    data = read_bytes(path)
    content = quick_content(data)
    if content is None:
        text = decode_json(data, path)
        del data  # as large as the text
        content = parse_json(text, path, packed)
    return check_content(content, path)


def load_texts(path: Path) -> dict:
    """Reads a COCO-format json as `load_json` does, but leaves its annotations text where that can be.

    Args:
        path: The file.

    Returns:
        As of `load_json`; 'annotations' are `Entries`, or a list where the file has something unusual.

    Raises:
        UserError: As of `load_json`.
    """
    found: list[Entries] = []

    def kept(texts: list[msgspec.Raw]) -> list:
        found.append(Entries(texts))
        return unread(texts)

    content = quick_content(read_bytes(path), annotations=kept)
    if content is None or not found:
        return load_json(path)
    content = check_content(content, path)
    first = {**content, "annotations": content["annotations"][:1]}
    if is_panoptic(content) or without_objects(first):  # perhaps the others are too
        return load_json(path)
    return {**content, "annotations": found[0]}


def read_bytes(path: Path) -> bytes:
    """The bytes of an annotation file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the annotation file {path} cannot be read ({error.strerror}); check the path."
        ) from error


def unread(texts: list[msgspec.Raw]) -> list:
    """In the place of annotations that are not needed: empty dictionaries, and the first as it is.

    That one, and those with segments, tell what kind of file it is. What is no object is returned as it is
    too.

    Args:
        texts: The json texts of the annotations.
    """
    decode = msgspec.json.Decoder().decode
    first = [decode(text) for text in texts[:1]]
    return first + [{} if _unimportant(bytes(text)) else decode(text) for text in texts[1:]]


def _unimportant(text: bytes) -> bool:
    return text[:1] == b"{" and b'"segments_info"' not in text


def _all_read(texts: list[msgspec.Raw]) -> list:
    # One at a time, as the numbers of all polygons together take several times the file's size.
    decode = msgspec.json.Decoder().decode
    return [packed(decode(text)) for text in texts]


def quick_content(
    data: bytes, *, annotations: Callable[[list[msgspec.Raw]], list] = _all_read
) -> dict | None:
    """Parses a json in a fraction of the time, if there is nothing unusual in it.

    Args:
        data: The file.
        annotations: Makes the list 'annotations' of their json texts.

    Returns:
        What `parse_json` returns, polygons packed. None where that has to look at the file: it is no object,
        its annotations are no list of objects, it is not in UTF-8 without a byte order mark, it has an
        error, or something that only Python's json takes, such as NaN.
    """
    decode = msgspec.json.Decoder().decode

    def parsed(key: str, value: msgspec.Raw) -> Any:
        if key != "annotations":
            return decode(value)
        return annotations(msgspec.json.decode(value, type=list[msgspec.Raw]))

    try:
        with no_collection():
            content = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            return {key: parsed(key, value) for key, value in content.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError, AttributeError):
        return None


def decode_json(data: bytes, path: Path) -> str:
    """The text of a json file in any of Unicode's encodings.

    Args:
        data: Its bytes.
        path: Its path, for messages.

    Raises:
        UserError: Its encoding is not known.
    """
    try:
        return data.decode(json.detect_encoding(data), "surrogatepass")
    except UnicodeDecodeError as error:
        tool = other_tool(data[:_BEGINNING].decode("latin1"))
        if tool:
            raise UserError(f"{path} {tool}.") from error
        raise UserError(
            f"{path} is not in UTF-8 (byte {error.start} is {data[error.start]:#04x}), and json does not say "
            f"which encoding it is in; save it as UTF-8: iconv -f ENCODING -t UTF-8 {path}."
        ) from error


def parse_json(text: str, path: Path, hook: Callable[[dict], Any] | None = None):
    """Parses a json file.

    Args:
        text: Its text.
        path: Its path, for messages.
        hook: Replaces every dictionary of the json.

    Raises:
        UserError: It is not json.
    """
    try:
        with no_collection():
            return json.JSONDecoder(object_hook=hook).decode(text)
    except RecursionError as error:
        raise UserError(
            f"{path} has too many brackets in each other; export the annotations again."
        ) from error
    except ValueError as error:
        tool = more_behind(text, error) or other_tool(text[:_BEGINNING])
        if tool:
            raise UserError(f"{path} {tool}.") from error
        raise UserError(f"{path} is not valid json ({error}); export the annotations again.") from error


def check_content(content, path: Path) -> dict:
    """Checks the outer structure of a parsed json; see `load_json`."""
    lists = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS[:2])
    usual = lists and not without_objects(content)
    tool = None if usual else other_tool(content)
    if tool:
        raise UserError(f"{path} {tool}.")
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__} where a COCO annotation file holds an object "
            "with 'images', 'annotations' and 'categories'; give the annotation file (a list is "
            "usually a file of results)."
        )
    if lists and content.get("categories") is None:
        content = {**content, "categories": []}
    for key in KEYS:
        if not isinstance(content.get(key), list):
            found = "no" if key not in content else f"a {type(content[key]).__name__} as"
            test = "; a test set without annotations cannot be learned" if key == "annotations" else ""
            raise UserError(
                f"{path} has {found} {key!r}; a COCO annotation file has the lists 'images', "
                f"'annotations' and 'categories'{test}."
            )
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise UserError(f"{path} has an entry in {key!r} that is not an object; export it again.")
    return content
