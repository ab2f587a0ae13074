"""What a name or an address of weights stands for.

Names are those of the registry: a model (``detectron2/mask_rcnn_R_50_FPN_3x``), an ImageNet backbone
(``torchvision/resnet50``), or one of a backbone's files (``torchvision/resnet50/resnet50-11ad3fa6.pth``). A
backbone's name alone is its first file, with which the library's own detectors start; torchvision's V1.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.filesystem import SCHEMES as STORES
from jaxmaskrcnn.utils.addresses import split_scheme
from jaxmaskrcnn.zoo import BACKBONES, PRESETS
from jaxmaskrcnn.zoo.entry import PublishedFile
from jaxmaskrcnn.zoo.hosts import Checksum, published_checksum
from jaxmaskrcnn.zoo.lookup import close_names
from jaxmaskrcnn.zoo.schemes import SCHEMES

_STATED = re.compile(r"(sha256|md5)=([0-9a-fA-F]{6,64})")
_LENGTHS = {"sha256": 64, "md5": 32}  # hexadecimal digits

MODELS_HINT = "`jaxmaskrcnn models` lists the names"


class Wanted(NamedTuple):
    """A weights file that may have to be fetched.

    Attributes:
        name: What the user gave, for messages.
        address: Its address, with "http" or "https".
        checksum: Its hash as far as it is known, or None.
        mebibytes: Its published size, as in `PublishedFile`, or None.
        preset: The model whose weights it is, or None.
        backbone: The ImageNet backbone whose weights it is, or None.
    """

    name: str
    address: str
    checksum: Checksum | None = None
    mebibytes: float | None = None
    preset: str | None = None
    backbone: str | None = None


def is_name(text: str) -> bool:
    """Whether a text is a name of the registry, with or without published weights.

    Example:
        >>> is_name("detectron2/MSRA/R-50"), is_name("runs/mine")
        (True, False)
    """
    return text in PRESETS or text in BACKBONES or text.rpartition("/")[0] in BACKBONES


def wanted(text: str) -> Wanted | None:
    """The weights file that a name or an address stands for.

    Args:
        text: A name, or an address other than ``file://``.

    Returns:
        The file; None for a text that is neither, such as a path.

    Raises:
        UserError: The name's weights were not published, or the address is of no known kind.

    Example:
        >>> wanted("detectron2://ImageNetPretrained/MSRA/R-50.pkl").backbone
        'detectron2/MSRA/R-50'
    """
    parts = split_scheme(text)
    if parts is None:
        return _by_name(text)
    scheme, rest = parts
    if scheme in SCHEMES:
        return _by_address(text, SCHEMES[scheme](rest))
    if scheme in ("http", "https"):
        return _by_address(text, f"{scheme}://{rest}")
    known = ", ".join(f"{name}://" for name in ("https", "http", "file", *STORES, *SCHEMES))
    raise UserError(
        f"{text} is no address that is read here; give a path, a name ({MODELS_HINT}), or an address with "
        f"one of {known}."
    )


def suggestion(text: str) -> str:
    """What may be meant by a path that does not exist: the end of a sentence, from its semicolon on.

    Args:
        text: The path.

    Returns:
        Names like it and the name that stands for a file that is called so, or nothing.

    Example:
        >>> suggestion("model_final_f10217.pkl")
        '; the name detectron2/mask_rcnn_R_50_FPN_3x fetches the published file of that name'
    """
    base = PurePath(text).name
    named = [name for name, file in _files() if file.name == base]
    if len(named) == 1:
        return f"; the name {named[0]} fetches the published file of that name"
    if named:
        return f"; the names {' and '.join(named)} fetch published files of that name"
    names = [*PRESETS, *BACKBONES]
    alike = len(base) > 4 or any(name.startswith(f"{text.partition('/')[0]}/") for name in names)
    if near := close_names(text, names) if alike else []:
        return f"; did you mean the published weights {' or '.join(near)}"
    return ""


def _files() -> Iterator[tuple[str, PublishedFile]]:
    """Every published file, with the shortest name that stands for it."""
    for name, preset in PRESETS.items():
        if preset.weights:
            yield name, preset.weights
    for name, backbone in BACKBONES.items():
        for i, file in enumerate(backbone.weights):
            yield (f"{name}/{file.name}" if i else name), file


def _by_name(text: str) -> Wanted | None:
    backbone, _, file = text.rpartition("/")
    if text in PRESETS:
        files = [PRESETS[text].weights]
    elif text in BACKBONES:
        files, backbone = [*BACKBONES[text].weights[:1], None], text
    elif backbone in BACKBONES:
        files = [row for row in BACKBONES[backbone].weights if row.name == file]
        if not files:
            names = ", ".join(row.name for row in BACKBONES[backbone].weights)
            raise UserError(f"{backbone} has no file {file!r}; its files are {names or 'not published'}.")
    else:
        return None
    if files[0] is None:
        raise UserError(
            f"the weights of {text} were not published; choose a name that `jaxmaskrcnn models` lists with a "
            "weights file."
        )
    return _wanted(text, files[0], text if text in PRESETS else None, backbone)


def _wanted(text: str, file: PublishedFile, preset: str | None, backbone: str) -> Wanted:
    return Wanted(
        text, file.address, file.checksum, file.mebibytes, preset, None if preset is not None else backbone
    )


def _by_address(text: str, address: str) -> Wanted:
    address, _, fragment = address.partition("#")
    _check(text, address)
    result = Wanted(text, address, published_checksum(address))
    for name, file in _files():
        if file.address == address:
            backbone = name.removesuffix(f"/{file.name}")
            result = _wanted(text, file, name if name in PRESETS else None, backbone)
    return result._replace(checksum=_stated(text, fragment)) if fragment else result


def _stated(text: str, fragment: str) -> Checksum:
    """The hash that stands behind the # of an address, as package installers write it."""
    found = _STATED.fullmatch(fragment)
    if found is None or len(found[2]) > _LENGTHS[found[1]]:
        raise UserError(
            f"{text} ends with #{fragment}, which is no hash; write #sha256= or #md5= and its hexadecimal "
            "digits (six of them or more), or leave it out."
        )
    return Checksum(found[1], found[2].lower())


def names_host(address: str) -> bool:
    """Whether an http or https address can be asked.

    Example:
        >>> [names_host(address) for address in ("https://a.org/b", "https://", "http://[", "http://a:b")]
        [True, False, False, False]
    """
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port is not False
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False
    return named and address.isprintable() and " " not in address


def _check(text: str, address: str) -> None:
    """Refuse an address that cannot be asked or names no file."""
    if not names_host(address):
        raise UserError(f"{text} is no address of a file; give one such as https://example.org/weights.pth.")
    parts = urlsplit(address)
    if parts.username is not None:  # the password is not repeated
        raise UserError(
            f"the address of a file at {parts.hostname} has a user name before it, which is not sent; fetch "
            "the file yourself and give its path."
        )
    if not PurePath(parts.path).name or parts.path.endswith("/"):
        raise UserError(f"{text} names no file; give the address of a weights file.")
