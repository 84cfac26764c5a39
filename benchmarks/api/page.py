"""Puts new tables into the page that tells them, in the place of the earlier ones of the same name."""

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.queue.report import Table

_BEHIND_TABLES = "\n## "


def renew(page: Path, tables: Iterable[Table]) -> None:
    """Write tables into a page.

    A table stands between its heading and the next one. Its name is its heading as far as the first colon, comma or
    bracket: what follows tells sizes. One that the page has not had is put behind the others.
    """
    text = page.read_text()
    for table in tables:
        text = _renewed(text, table)
    page.write_text(text)


def _renewed(text: str, table: Table) -> str:
    for found in re.finditer(r"^### (.+)\n[^#]*", text, re.MULTILINE):
        if _name(found[1]) == _name(table.title):
            return f"{text[: found.start()]}{table.markdown()}\n{text[found.end() :]}"
    place = text.index(_BEHIND_TABLES)
    return f"{text[:place]}\n{table.markdown()}{text[place:]}"


def _name(title: str) -> str:
    return re.split(r"[:,(]", title)[0].strip()
