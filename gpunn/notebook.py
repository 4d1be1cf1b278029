"""Tables as a notebook shows them, in HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any


class Table(str):
    r"""A table as text, which a notebook shows as a table: the first row is its head, the last ``sums`` are sums.

    A prompt of Python shows it without quotes, line by line.

    >>> told = Table("a  b\nx  1", [["a", "b"], ["x", "1"]], left=1)
    >>> told
    a  b
    x  1
    >>> told._repr_html_().startswith("<table><thead><tr><th")
    True
    """

    rows: Sequence[Sequence[str]]
    left: int
    sums: int

    def __new__(cls, text: str, rows: Sequence[Sequence[str]] = (), left: int = 1, sums: int = 0) -> Table:
        self = super().__new__(cls, text)
        self.rows, self.left, self.sums = rows, left, sums
        return self

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return table(self.rows, self.left, self.sums) if self.rows else f"<pre>{html.escape(self)}</pre>"


def table(rows: Sequence[Sequence[Any]], left: int = 1, sums: int = 0) -> str:
    """Rows of texts as a table of HTML, its first row the head; the first ``left`` columns begin at the left.

    >>> table([["name", "size"], ["a<b", 3]])[-99:]
    '<tr><td style="text-align:left">a&lt;b</td><td style="text-align:right">3</td></tr></tbody></table>'

    The last ``sums`` rows are in bold.
    """

    def line(row: Sequence[Any], tag: str, bold: bool = False) -> str:
        cells = []
        for place, value in enumerate(row):
            look = f"text-align:{'left' if place < left else 'right'}" + (";font-weight:bold" if bold else "")
            cells.append(f'<{tag} style="{look}">{html.escape(str(value))}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>"

    head, *body = rows
    lines = [line(row, "td", number >= len(body) - sums) for number, row in enumerate(body)]
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{''.join(lines)}</tbody></table>"
