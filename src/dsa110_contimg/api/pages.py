"""What is asked of a list and what comes back: a page, where it begins, in which order, of which rows.

A page begins behind a row of the list (``cursor``, found by the index of the order however far it is) or after a
number of rows (``offset``, which are all read). A cursor is opaque to clients; it holds the order with the sorted value
and the key of the last row that was seen.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from dsa110_contimg.api.exceptions import ValidationError

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on the rows: ``eq`` for equal, ``min`` and ``max`` for bounds that belong to the range."""

    name: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks of a list.

    Attributes
    ----------
    limit, offset : int
        Rows in the page, and rows left out at the beginning.
    cursor : str, optional
        Where the page before ended.
    sort : str, optional
        Name to sort by, with ``-`` in front for falling; the list's own order unless given.
    fields : tuple of str
        Names to return; all unless given.
    filters : tuple of Filter
        Conditions, all of which a row must meet.
    """

    limit: int = 100
    offset: int = 0
    cursor: str | None = None
    sort: str | None = None
    fields: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page: rows by name, how many there are in all where that is known at once, and the cursor of the next."""

    rows: list[Document]
    total: int | None
    next_cursor: str | None


def write_cursor(sort: str, value: Any, key: Any) -> str:
    """Return the text that stands for a row of a list in an order."""
    return base64.urlsafe_b64encode(orjson.dumps([sort, value, key])).decode().rstrip("=")


def read_cursor(text: str, sort: str, kinds: tuple[type, type]) -> tuple[Any, Any]:
    """Return sorted value and key of the row that a cursor stands for; ``kinds`` are their types.

    Raises
    ------
    ValidationError
        The text is no cursor, or one of another order.
    """
    try:
        written, value, key = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error) as error:
        raise _bad_cursor(text, "is none of ours") from error
    if written != sort:
        raise _bad_cursor(text, f"belongs to another order than sort={sort}")
    if not all(_is_a(found, kind) for found, kind in zip((value, key), kinds, strict=True)):
        raise _bad_cursor(text, "is none of ours")
    return value, key


def _is_a(value: Any, kind: type) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or isinstance(value, float) if kind is float else whole if kind is int else isinstance(value, kind)


def _bad_cursor(text: str, why: str) -> ValidationError:
    message = f"cursor={text[:60]!r} {why}; take it from Link or X-Next-Cursor of the page before, or leave it out"
    return ValidationError(message, field="cursor", value=text[:60])
