"""Damage to small valid files: of any bytes, and of what json, text, zip archives and PNG files hold."""

import io
import json
import random
import re
import struct
import zipfile
import zlib

BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x22, 0x2C, 0x3C, 0x5B, 0x7B)
NUMBERS = (
    -1, 0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, -(2**31), 2**32 - 1,
    2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400, -0.0, 0.5, 1e-320, 1e-9, 1e9, 1e30,
    1.7e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
WORDS = (
    "", " ", "0", "-1", "1e999", "nan", "null", "true", "1_0", "\u0663", "a" * 300, "a" * 5000, "a\nb", "\0",
    "\ud800",
    "\U0001f600", "\u202e", "..", "../x", "../../x.png", "/", "/dev/null", "/dev/zero", "/dev/stdin",
    "~", "C:\\x.png",
    ".", "x/", "1.png", "a.png", "%s", "{}", "\x1b[2J", "=1+1", "__class__", "0" * 5000, "9" * 5000,
    "counts", "size", "polygon", "mask", "data:image/png;base64,AAAA", "https://x/y.png", "file:///etc/passwd",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A damaged copy of a file.

    Args:
        data: The file.
        rng: Gives every choice.
        others: Files from which pieces are spliced in.
    """
    ways = [_bytes]
    if data[:4] == b"PK\3\4":
        ways += [_zip] * 2
    elif data[:4] == b"\x89PNG":
        ways += [_png] * 2
    elif data.lstrip()[:1] in (b"{", b"["):
        ways += [_json] * 4 + [_text]
    elif data and b"\0" not in data:
        ways += [_text] * 3
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        way = rng.choice(ways)
        try:
            data = way(data, rng, others)
        except Exception:  # no longer of this kind, as it is damaged already
            data = _bytes(data, rng, others)
    return data


def odd_value(rng: random.Random, depth: int = 0):
    """A value as no one expects it in a json."""
    kind = rng.randrange(9)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(WORDS)
    if kind == 6 or depth > 2:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": {}}))
    if kind == 7:
        return [odd_value(rng, depth + 1) for _ in range(rng.randrange(8))]
    return {rng.choice(WORDS): odd_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _bytes(data: bytes, rng: random.Random, others) -> bytes:
    out = bytearray(data)
    if not out:
        return rng.randbytes(rng.randrange(1, 50))
    at = rng.randrange(len(out))
    length = min(len(out) - at, rng.choice((1, 1, 2, 4, 8, 16, 64, 500)))
    kind = rng.randrange(10)
    if kind == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[at] = rng.choice(BYTES)
    elif kind == 2:
        del out[at : at + length]
    elif kind == 3:
        del out[at:]
    elif kind == 4:
        out[at:at] = rng.randbytes(length)
    elif kind == 5:
        to = rng.randrange(len(out))
        out[to:to] = out[at : at + length] * rng.choice((1, 1, 2, 50))
    elif kind == 6:
        out[at : at + length] = bytes(length)
    elif kind == 7:
        other = rng.choice(others or [data])
        start = rng.randrange(len(other) + 1)
        out[at : at + length] = other[start : start + rng.choice((1, 8, 64, 500))]
    elif kind == 8:
        number, code = rng.choice([n for n in NUMBERS if isinstance(n, int)]), rng.choice("BHIQ")
        size = struct.calcsize(code)
        packed = struct.pack(rng.choice("<>") + code, number % 2 ** (8 * size))
        out[at : at + size] = packed
    else:
        for _ in range(8):
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _text(data: bytes, rng: random.Random, others) -> bytes:
    text = data.decode("utf-8")
    tokens = [m for m in re.finditer(r"-?\d[\d.eE+-]*|\w+|[^\w\s]", text)]
    if not tokens:
        return _bytes(data, rng, others)
    kind, token = rng.randrange(7), rng.choice(tokens)
    if kind < 2:
        numbers = [m for m in tokens if m[0].lstrip("-")[:1].isdigit()]
        token = rng.choice(numbers or tokens)
        new = repr(rng.choice([n for n in NUMBERS if n != 10**400]))
    elif kind == 2:
        new = rng.choice(WORDS)
    elif kind == 3:
        new = rng.choice(tokens)[0]
    elif kind == 4:
        new = ""
    elif kind == 5:
        new = token[0] * rng.choice((2, 3, 1000))
    else:
        lines = text.splitlines(keepends=True)
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[i] = rng.choice(("", lines[i] + lines[j], lines[j], "  " + lines[i]))
        return "".join(lines).encode("utf-8", "surrogatepass")
    return (text[: token.start()] + new + text[token.end() :]).encode("utf-8", "surrogatepass")


def places(value, found=None) -> list[tuple]:
    """Every container of a json with each of its keys."""
    found = [] if found is None else found
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        places(value[key], found)
    return found


def _json(data: bytes, rng: random.Random, others) -> bytes:
    content = json.loads(data)
    spots = places(content)
    if not spots:
        return json.dumps(odd_value(rng)).encode()
    parent, key = rng.choice(spots)
    kind = rng.randrange(10)
    if kind < 4:
        parent[key] = odd_value(rng)
    elif kind == 4:
        del parent[key]
    elif kind == 5:
        other, place = rng.choice(spots)
        parent[key], other[place] = json.loads(json.dumps(other[place])), json.loads(json.dumps(parent[key]))
    elif kind == 6:
        parent[key] = rng.choice(([parent[key]], {"x": parent[key]}, str(parent[key]), [parent[key]] * 3))
    elif kind == 7 and isinstance(parent, dict):
        parent[rng.choice(WORDS)] = parent.pop(key)
    elif kind == 8 and isinstance(parent, list):
        parent.insert(key, json.loads(json.dumps(parent[key])))
    elif kind == 9 and isinstance(content, dict) and "checksum" in content:
        del content["checksum"]  # so that other damage is not seen at once
    else:
        deep = rng.choice((5, 200, 3000))
        text = "[" * deep + "]" * deep
        parent[key] = "@@deep@@"
        return json.dumps(content).replace('"@@deep@@"', text).encode()
    return json.dumps(content).encode()


def _zip(data: bytes, rng: random.Random, others) -> bytes:
    """The same archive with one member damaged, and right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randrange(len(members))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for i, (name, content) in enumerate(members):
            if i == chosen:
                content = _bytes(content, rng, [c for _, c in members])
            archive.writestr(name, content)
    return file.getvalue()


def _png(data: bytes, rng: random.Random, others) -> bytes:
    """The same PNG file with one chunk damaged, moved, doubled or lost, and right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(chunks))
    kind, content = chunks[i]
    what = rng.randrange(6)
    if what < 3:
        if kind == b"IDAT" and rng.random() < 0.7:
            content = zlib.compress(_bytes(zlib.decompress(content), rng, others))
        else:
            content = _bytes(content, rng, others)
        chunks[i] = kind, content
    elif what == 3:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[i])
    elif what == 4:
        del chunks[i]
    else:
        chunks[i] = (
            rng.choice((b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fdAT")),
            content,
        )
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
