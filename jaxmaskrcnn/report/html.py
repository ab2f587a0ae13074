"""Small pieces of HTML for the page."""

from collections.abc import Sequence
from html import escape

NOTHING = "–"  # instead of a number that does not exist
LONG = 25  # a table with more rows than this scrolls beneath its head


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Format a number for a table; None and NaN become a dash.

    Example:
        >>> number(0.5), number(float("nan")), number(0.01234, 3, sign=True)
        ('0.500', '–', '+0.012')
    """
    if value is None or value != value:
        return NOTHING
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return "0." + "0" * digits if float(text) == 0 else text  # without a sign


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = ()
) -> str:
    """A table that scrolls if the page is too narrow for it or the table is long.

    Args:
        caption: Text above the table, plain.
        head: Names of the columns, plain text.
        rows: Cells as HTML; the first of each row names it.
        words: Columns that hold sentences, not numbers.
    """

    def cell(j, text):
        if j == 0:
            return f'<th scope="row">{text}</th>'
        return f'<td class="words">{text}</td>' if j in words else f"<td>{text}</td>"

    top = "".join(
        f'<th scope="col"{" style=text-align:left" if j in words else ""}>{escape(name)}</th>'
        for j, name in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(cell(j, text) for j, text in enumerate(row))}</tr>\n" for row in rows)
    long = " long" if len(rows) > LONG else ""
    # Outside the table, because a caption inside would scroll with it.
    return f'<p class="muted">{escape(caption)}</p>\n' + scroll(
        f'<table aria-label="{escape(caption)}"><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table>',
        caption,
        long,
    )


def scroll(content: str, name: str, style: str = "") -> str:
    """A part of the page that scrolls sideways, also by keyboard."""
    return (
        f'<div class="scroll{style}" tabindex="0" role="region" aria-label="{escape(name)}">{content}</div>\n'
    )


def figure(drawing: str, caption: str = "", keys: Sequence[tuple[str, str]] = ()) -> str:
    """A drawing with a key of its lines.

    Args:
        drawing: SVG.
        caption: HTML beneath it.
        keys: Style class and name of each line.
    """
    items = "".join(f'<li><i class="{style}"></i>{escape(name)}</li>' for style, name in keys)
    key = f'<ul class="key">{items}</ul>' if items else ""
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{drawing}{key}{caption}</figure>\n"


def section(identity: str, title: str, *parts: str) -> str:
    """A part of the page with a heading that can be linked to."""
    return f'<section id="{identity}">\n<h2>{escape(title)}</h2>\n{"".join(parts)}</section>\n'


def gauge(share: float) -> str:
    """A small bar whose length is a share in 0..1."""
    percent = 100 * min(max(share, 0), 1)
    return f'<span class="gauge" aria-hidden="true"><i style="width:{percent:.0f}%"></i></span>'
