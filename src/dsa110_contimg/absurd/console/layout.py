"""Tables that fit the terminal: a row is one line, whatever its width.

What does not fit is narrowed first (ids in their middle, texts at their end), then columns that can be spared go; those
in which no row has anything are not shown either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from dsa110_contimg.terminal import printable

GAP = 2
#: Narrowest form of an id: its first 8 characters (the time it was made), and its last 6.
SHORT_ID = 15

STATUS_STYLES = {
    "completed": "green", "healthy": "green", "active": "green",
    "claimed": "cyan", "running": "cyan",
    "retrying": "yellow", "degraded": "yellow", "paused": "yellow", "stale": "yellow", "idle": "yellow",
    "failed": "bold red", "critical": "bold red", "crashed": "bold red", "down": "bold red",
    "cancelled": "magenta", "skipped": "dim", "stopped": "dim", "blocked": "dim", "disabled": "dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    title : str
        Its head.
    cell : callable
        Text of a row's cell.
    least : int
        Width below which it is not narrowed; 0: it is never narrowed.
    right : bool
        Numbers stand at the right.
    middle : bool
        It is narrowed in its middle.
    spare : int
        Columns with the largest number go first when a row does not fit; 0: it stays.
    """

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    least: int = 0
    right: bool = False
    middle: bool = False
    spare: int = 0


def id_column(key: str, title: str = "id") -> Column:
    """Return the column of an id."""
    return Column(title, lambda row: str(row.get(key) or ""), least=SHORT_ID, middle=True)


def lines_of(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """Return head and rows as lines of at most ``width`` cells."""
    cells = {column.title: [printable(column.cell(row)) for row in rows] for column in columns}
    columns = [column for column in columns if not column.spare or any(cells[column.title])]
    while True:
        widths = _narrowed(columns, cells, width)
        spare = max(columns, key=lambda column: column.spare)
        if sum(widths) + GAP * (len(widths) - 1) <= width or not spare.spare:
            break
        columns.remove(spare)
    heads = [_fitted(column.title, column, size) for column, size in zip(columns, widths, strict=True)]
    lines = [Text((" " * GAP).join(heads).rstrip()[:width], style="bold")]
    for number in range(len(rows)):
        line = Text()
        for place, (column, size) in enumerate(zip(columns, widths, strict=True)):
            text = cells[column.title][number]
            line.append(" " * GAP if place else "")
            line.append(_fitted(text, column, size), style=STATUS_STYLES.get(text, ""))
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], empty: str = "", title: str = ""
) -> None:
    """Print a table under its title; of no rows, what that means (nothing when it need not be said)."""
    if title and rows:
        console.print(f"\n{title}", style="bold", highlight=False)
    if not rows and empty:
        console.print(empty, highlight=False)
    for line in lines_of(columns, rows, console.width) if rows else ():
        console.print(line, soft_wrap=True)


def print_facts(console: Console, facts: Sequence[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a line each; what is None, empty or False is left out."""
    for title, value in facts:
        if value is not None and value is not False and value != "":
            line = Text(f"{title:<16}", style="dim")
            line.append(value if isinstance(value, Text) else Text(printable(str(value)), style="default"))
            console.print(line, soft_wrap=True)


def shortened(text: str, width: int) -> str:
    """Return a text of at most ``width`` cells; of an id, its first and its last characters."""
    if cell_len(text) <= width:
        return text
    tail = 6 if width >= SHORT_ID else max((width - 1) // 3, 0)
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :] if tail else ''}"


def ended(text: str, width: int) -> str:
    """Return a text of at most ``width`` cells, cut at its end."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def _narrowed(columns: Sequence[Column], cells: Mapping[str, list[str]], width: int) -> list[int]:
    """Return the widths of the columns after narrowing the widest that can be, until the row fits or none can."""
    widths = [max(cell_len(text) for text in (column.title, *cells[column.title])) for column in columns]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0:
        narrowable = [i for i, column in enumerate(columns) if column.least and widths[i] > column.least]
        if not narrowable:
            break
        widest = max(narrowable, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    return widths


def _fitted(text: str, column: Column, width: int) -> str:
    text = shortened(text, width) if column.middle else ended(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if column.right else text + padding
