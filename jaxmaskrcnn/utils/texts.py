"""Names out of files, which can hold halves of characters (surrogates), and codes that command a terminal."""

import re

_LONGEST = 300  # characters of a word that a terminal is shown
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def is_text(text: str) -> bool:
    """Whether a text can be written.

    Example:
        >>> is_text("cat"), is_text("cat" + chr(0xD800))
        (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: str) -> str:
    r"""A text with its halves of characters as codes.

    Example:
        >>> printable("cat" + chr(0xD800)) == r"cat\ud800"
        True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    r"""A text in which codes that move the cursor, change colours or turn the direction are visible.

    Line ends and tabs stay, and so does the carriage return of progress bars.

    Example:
        >>> print(visible("\x1b[2Jcat"))
        \x1b[2Jcat
    """
    return _CONTROLS.sub(lambda match: _code(match[0]), printable(text))


def harmless(text: str) -> str:
    r"""A text that a terminal can be shown, whatever files it comes from.

    Codes that move the cursor, change colours or turn the direction of writing become visible, and a word of
    more than 300 characters is cut. Line ends and tabs stay, and so does the carriage return of progress
    bars.

    Example:
        >>> print(harmless("\x1b[2Jcat"))
        \x1b[2Jcat
        >>> len(harmless("x" * 10_000)) < 400
        True
    """
    text = visible(text)
    if len(text) <= _LONGEST:
        return text
    return re.sub(
        rf"\S{{{_LONGEST + 1},}}",
        lambda match: f"{match[0][: _LONGEST - 50]}...({len(match[0])} characters)",
        text,
    )


def _code(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
