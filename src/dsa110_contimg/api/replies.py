"""Replies as bytes: JSON without a detour through models, with a tag by which a client can ask for changes only."""

import hashlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson
from starlette.responses import Response

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
_BINARY = {"format": "binary"}
_DEEPEST = 250
_YEAR_1_S, _YEAR_10000_S = -62_135_596_800.0, 253_402_300_800.0


def json_reply(payload: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """Return a JSON reply; NaN and infinities become null, times ISO 8601 with Z.

    The strong ``ETag`` is a checksum of the bytes; the gate answers 304 when the client already has them.
    """
    try:
        content = orjson.dumps(payload, option=_OPTIONS)
    except TypeError:  # most likely a whole number, or a depth, that PostgreSQL's JSON can hold and orjson cannot
        content = orjson.dumps(_sendable(payload), option=_OPTIONS)
    return tagged_reply(content, "application/json", headers, status)


def _sendable(value: Any, depth: int = 0) -> Any:
    """Return a value with what of it can be sent.

    Whole numbers beyond 64 bits are floating in it, and null beyond the largest of those; what is nested deeper than
    orjson goes is cut, and says so: one such row must not hide all others of its list.
    """
    if isinstance(value, Mapping | list | tuple) and depth >= _DEEPEST:
        return f"(nested deeper than {_DEEPEST})"
    if isinstance(value, Mapping):
        return {key: _sendable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(each, depth + 1) for each in value]
    if not isinstance(value, int) or -(2**63) <= value < 2**64:
        return value
    return float(value) if abs(value) <= sys.float_info.max else None


def tagged_reply(
    content: bytes, media_type: str, headers: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    """Return bytes that were made for this request, with a strong ``ETag`` of them.

    SHA-256 is the one of the sums that processors have an instruction for.
    """
    tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    return Response(content, status, {"ETag": tag, **(headers or {})}, media_type=media_type)


@lru_cache(maxsize=16_384)  # the newest rows are asked for again and again
def iso_time(unix_s: float | None) -> str | None:
    """Return Unix seconds as ISO 8601 UTC with Z; None, and what no calendar of four digits has, is None."""
    if unix_s is None or not _YEAR_1_S <= unix_s < _YEAR_10000_S:
        return None
    text = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds" if unix_s % 1 else "seconds")
    return text.replace("+00:00", "Z")


def iso_now() -> str:
    """Return the time, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mjd_time(mjd: float | None) -> str | None:
    """Return an MJD (UTC) as ISO 8601 UTC with Z; None stays None."""
    return None if mjd is None else iso_time(round((mjd - 40587.0) * 86400.0, 3))


def file_responses(*media_types: str, ranges: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return what a route that sends a file tells of its replies in the description of the API.

    Without a schema, generated clients throw the bytes away.

    Parameters
    ----------
    media_types : str
        Kinds of file that it may send.
    ranges : bool
        It may be asked for a part of the file.
    """
    kinds = {media: {"type": "string"} | ({} if media.startswith("text/") else _BINARY) for media in media_types}
    content = {media: {"schema": schema} for media, schema in kinds.items()}
    replies: dict[int | str, dict[str, Any]] = {200: {"content": content}}
    return replies | ({206: {"content": content}, 416: {}} if ranges else {})


def saved_as(name: str) -> str:
    """Return the ``Content-Disposition`` of a reply that is to be saved under a name."""
    return f"attachment; filename*=utf-8''{quote(name)}"


def path_segment(text: str) -> str:
    """Return a text as one segment of a URL: every reserved character is percent-encoded, slashes too."""
    return quote(text, safe="")
