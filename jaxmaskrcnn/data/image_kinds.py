"""What a file is that is no picture, or one that is not read: the reason and the way out, in one sentence."""

import contextlib
import io
import os
import warnings
from typing import Any, BinaryIO

from PIL import TiffImagePlugin

# What the first bytes say, and what can be done. Upper and lower case are the same.
_BEGINNINGS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs",),
        "is a Git LFS pointer and not the picture itself; fetch the pictures with git lfs pull",
    ),
    (
        (b"/annex/objects/", b"../.git/annex/"),
        "is a git-annex pointer and not the picture itself; fetch the pictures with git annex get",
    ),
    ((b"<svg",), "is an SVG drawing; save it as PNG"),
    (
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
        "is a web page or other XML, as failed downloads are; download the picture again",
    ),
    ((b"{", b"[{"), "is text, perhaps a server's json answer; download the picture again"),
    ((b"\x93numpy",), "is a NumPy array; save it as PNG, or as TIFF of 8 or 16 bits"),
    ((b"simple  =",), "is a FITS file; save the picture as PNG, or as TIFF of 8 or 16 bits"),
    ((b"\x89hdf", b"\x0e\x03\x13\x01"), "is an HDF5 file; save its pictures as PNG or TIFF, one a file"),
    (
        (b"\x76\x2f\x31\x01", b"#?radiance", b"#?rgbe"),
        "is an HDR picture (OpenEXR, Radiance); save it as PNG",
    ),
    ((b"\xff\x0a", b"\x00\x00\x00\x0cjxl "), "is JPEG XL, which is not read; save it as PNG or JPEG"),
    ((b"zisrawfile",), "is a CZI file of a microscope; save its pictures as PNG or TIFF, one a file"),
    ((b"%pdf",), "is a PDF document; save its pages as PNG"),
    ((b"pk\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"rar!", b"\xfd7zxz"), "is an archive; unpack it"),
    ((b"\x1aE\xdf\xa3".lower(), b"\x00\x00\x01\xba"), "is a video; save its frames as pictures"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEIC = (
    "is HEIC, a phone's format, which needs an extra: pip install 'jaxmaskrcnn[heif]'; or save it as PNG or "
    "JPEG"
)
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex"}


def is_heic(head: bytes) -> bool:
    """Whether a file that begins like this is HEIC or another HEIF than AVIF.

    Args:
        head: At least its first 12 bytes.
    """
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def heic_reader() -> str | None:
    """Makes Pillow read HEIC if the package pillow-heif is there.

    Returns:
        None, or what to do where the package is missing.
    """
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        return _HEIC
    pillow_heif.register_heif_opener()
    return None


def why_not_read(source: Any) -> str:
    """Why Pillow cannot open a file.

    Args:
        source: Path of the file, or its bytes.

    Returns:
        The end of a sentence that begins with the file's name, without its full stop.

    Example:
        >>> why_not_read(b"")
        'is empty (0 bytes); fetch it again, or remove it'
    """
    with contextlib.ExitStack() as stack:
        file: BinaryIO
        if isinstance(source, (str, os.PathLike)):
            file = stack.enter_context(open(source, "rb"))
        else:
            file = io.BytesIO(source)
        head = file.read(4096)
        return _by_head(head) or _tiff(file, head) or "is no picture of a known format; replace or remove it"


def _by_head(head: bytes) -> str | None:
    if not head:
        return "is empty (0 bytes); fetch it again, or remove it"
    if not head.strip(b"\0"):
        return "begins with zero bytes alone, as files do whose copy was interrupted; fetch it again"
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    for beginnings, reason in _BEGINNINGS:
        if text.startswith(beginnings):
            if reason.startswith("is a web page") and b"<svg" in text:
                return "is an SVG drawing; save it as PNG"
            return reason
    if head[128:132] == b"DICM":
        return "is a DICOM file; save its picture as PNG, or as TIFF of 8 or 16 bits"
    if head[344:347] in (b"n+1", b"ni1"):
        return "is a NIfTI volume; save its slices as PNG, or as TIFF of 8 or 16 bits"
    if is_heic(head):
        return heic_reader() or "is HEIC that pillow-heif cannot read; save it as PNG or JPEG"
    if head[4:8] == b"ftyp":
        avif = head[8:12] in (b"avif", b"avis")
        return (
            "is AVIF, which this build of Pillow does not read; save it as PNG or JPEG"
            if avif
            else "is a video; save its frames as pictures"
        )
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return "is a video or sound file; save its frames as pictures"
    return None


def _tiff(file: BinaryIO, head: bytes) -> str | None:
    """What a TIFF file holds that Pillow has no mode for."""
    if head[:4] not in _TIFF_MAGIC:
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if b"+" in head[2:4] else 8])
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damage, which the sentence is about
            tags.load(file)
        tags[TiffImagePlugin.IMAGEWIDTH]
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        channels = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, len(bits))
        kinds = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
        kind, number = _FORMATS.get(kinds[0], "unknown"), max(bits)
    except Exception:  # whatever the bytes of a damaged file lead to
        return "is a damaged TIFF, whose description cannot be read; fetch it again, or save it anew"
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"is a TIFF compressed by method {compression}, which is not read; save it without compression"
    what = f"is a TIFF of {channels} {'channels' if channels != 1 else 'channel'} of {number} bits, {kind}"
    if channels in (1, 3, 4):
        return f"{what}, which is not read; save it with 8 or 16 bits a channel, unsigned"
    return f"{what}, and nothing says which are red, green and blue; save one or three of them as a picture"
