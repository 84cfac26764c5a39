"""JSON that a client sent: no NaN, no infinity, no half characters, no endless depth."""

import json
from typing import Any

import orjson

MAX_DEPTH = 64


def strict_json(text: bytes | str) -> Any:
    """Return the value of a text.

    What is nested deeper than ``MAX_DEPTH`` is refused at the door: databases keep it, and could not be read again,
    because writers of JSON go less deep than readers (orjson 254 against 1024).

    Raises
    ------
    json.JSONDecodeError
        It is no such JSON.
    """
    value = orjson.loads(text)
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [part for whole in level for part in _parts(whole) if isinstance(part, dict | list)]
        if not level:
            return value
    raise json.JSONDecodeError(f"it is nested deeper than {MAX_DEPTH}", "", 0)


def _parts(whole: Any) -> Any:
    """Return what an object or an array holds."""
    return whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()
