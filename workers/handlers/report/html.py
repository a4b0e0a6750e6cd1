"""The little HTML that the page is made of. Every text is escaped here, and nowhere else."""

from collections.abc import Iterable, Sequence
from html import escape

Row = Sequence[str]


def element(tag: str, text: str, **attributes: str) -> str:
    """Return an element that holds a text."""
    given = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{given}>{escape(text)}</{tag}>"


def listing(items: Iterable[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(element("li", item) for item in items) + "</ul>"


def table(
    heads: Row, rows: Iterable[Row], *, numeric: frozenset[int] = frozenset(), prose: bool = False, label: str
) -> str:
    """Return a table that scrolls by itself where the page is narrower.

    Args:
        heads: The names of the columns.
        rows: The cells, as texts; as many in each row as there are heads.
        numeric: Places of the columns that are set flush right.
        prose: The cells that are not numeric are sentences, which may break into lines.
        label: Names the table for those who do not see it.
    """
    words = "prose" if prose else "words"
    kinds = ["number" if place in numeric else words for place in range(len(heads))]
    head = "".join(element("th", name, scope="col", class_=kind) for name, kind in zip(heads, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    opening = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
    return f"{opening}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
