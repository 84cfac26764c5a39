"""The JSON of the queue: parameters, results and errors as PostgreSQL keeps them."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_FAST = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # json.dumps would make one each time


def plain(value: Any) -> Any:
    """Return ``value`` made of what JSON knows.

    Dataclasses become objects, tuples and sets become arrays, scalars of array libraries become numbers; NaN and
    infinity become null, and characters that PostgreSQL cannot store (U+0000, half a
    surrogate pair) are left out or become question marks.

    Raises
    ------
    TypeError
        The value holds something that has no such form; the message names its type.
    """
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{type(value).__qualname__} has no JSON form; give str, int, float, bool, None, lists or mappings")


def encode(value: Any) -> str:
    """Return strict JSON of ``value``; see :func:`plain` for what is turned into what."""
    try:
        text = orjson.dumps(value, option=_FAST).decode()
    except TypeError:  # something that only `plain` can turn into JSON
        return _encode_plain(value)
    return _encode_plain(value) if r"\u0000" in text else text


def _encode_plain(value: Any) -> str:
    return _ENCODER.encode(plain(value))
