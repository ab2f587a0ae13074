"""Texts of a json, which can hold halves of characters (surrogates) that no file and no terminal can."""


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
