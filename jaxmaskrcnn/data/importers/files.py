"""Reads the file formats that several importers share."""

import codecs
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from jaxmaskrcnn.data.coco.file_names import is_leftover
from jaxmaskrcnn.data.coco.more_behind import more_behind
from jaxmaskrcnn.data.coco.tools import other_file
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.json_values import parse_json

if TYPE_CHECKING:
    from jaxmaskrcnn.data.importers.builder import Builder


_BEGINNING = 4000  # characters of a file from which the tool that wrote it is recognised


def folder_of(source: Path) -> Path:
    """The source itself if it is a folder, otherwise the folder of the file."""
    return source if source.is_dir() else source.parent


def label_files(folder: Path, pattern: str, builder: "Builder | None" = None) -> list[Path]:
    """The files of a folder that fit a pattern, sorted, without what macOS and Jupyter left behind.

    Args:
        folder: The folder.
        pattern: As `pathlib.Path.glob` takes it.
        builder: Counts what is passed over.
    """
    found = []
    for path in sorted(folder.glob(pattern)):
        if not is_leftover(path.relative_to(folder).parts):
            found.append(path)
        elif builder is not None:
            builder.leftovers.setdefault(path)
    return found


def json_files(source: Path, builder: "Builder | None" = None) -> list[Path]:
    """The json file itself, or all json files of a folder and its subfolders.

    Args:
        source: The file or folder.
        builder: Counts the files that are passed over.

    Raises:
        UserError: There is none.
    """
    found = label_files(source, "**/*.json", builder) if source.is_dir() else [source]
    if not found:
        raise UserError(f"{source} holds no json files; give the folder that does.")
    return found


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        UserError: It cannot be read or is not text.
    """
    try:
        data = path.read_bytes()
        marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
        # Windows tools write a byte order mark; that of UTF-32 begins like that of UTF-16.
        return data.decode(json.detect_encoding(data) if marked else "utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        kind = other_file(data[:_BEGINNING].decode("latin1"))
        raise UserError(f"{path} {kind or 'is not UTF-8 text; save it as such'}.") from error


def read_json(path: Path) -> Any:
    """A json's content.

    Raises:
        UserError: The file cannot be read or is not json.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        kind = more_behind(text, error) or other_file(text[:_BEGINNING])
        if kind:
            raise UserError(f"{path} {kind}.") from error
        raise UserError(f"{path} is not valid json ({error}); export the annotations again.") from error


def read_xml(path: Path) -> ElementTree.Element:
    """An xml's root.

    Raises:
        UserError: The file cannot be read or is not xml.
    """
    try:
        try:
            text = read_text(path)  # a text, so that a wrong encoding= does no harm
        except UserError as error:
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            return ElementTree.fromstring(path.read_bytes())  # in the encoding that it declares
        if kind := other_file(text[:_BEGINNING]):
            raise UserError(f"{path} {kind}.")
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        kind = other_file(path.read_bytes()[:_BEGINNING].decode("latin1"))
        if kind:
            raise UserError(f"{path} {kind}.") from error
        raise UserError(f"{path} is not valid xml ({error}); export it again.") from error


def read_object(path: Path) -> dict[str, Any]:
    """A json's outermost object.

    Raises:
        UserError: The file cannot be read or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} and not an object; give another file.")
    return content


def read_indices(path: Path) -> np.ndarray:
    """The values of a mask image as whole numbers, int64 [H, W].

    Palette images give their indices, greyscale images their values, and colours ``r + 256 g + 65536 b``.

    Raises:
        UserError: The file cannot be read or has fractions.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode in ("RGBA", "LA", "PA"):
                image = image.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[image.mode])
            if image.mode == "F":
                raise UserError(f"{path} has floating-point values; save whole numbers.")
            values = np.asarray(image).astype(np.int64)
    except UserError:
        raise
    except Exception as error:  # whatever Pillow raises about a damaged file
        raise UserError(f"{path} cannot be decoded ({type(error).__name__}); save it as a PNG.") from error
    if values.ndim == 3:
        if (values[..., :1] == values).all():
            return values[..., 0]
        return values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]
    return values
