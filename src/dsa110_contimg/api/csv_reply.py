"""Tables as CSV that a spreadsheet opens without executing anything.

A text that begins like a formula (``= + - @``, also in full width, tab, an end of a line) gets an apostrophe before it;
numbers stay as they are. Lines end as RFC 4180 has it.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response

from dsa110_contimg.api.replies import saved_as, tagged_reply

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def csv_reply(header: Sequence[str], rows: Iterable[Sequence[Any]], filename: str) -> Response:
    """Return rows as a CSV file to be saved; None is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    headers = {"Content-Disposition": saved_as(filename)}
    return tagged_reply(file.getvalue().encode(), "text/csv; charset=utf-8", headers)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
