"""Values as they are typed: parameters, moments, dependencies."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from dsa110_contimg.absurd.client import Policy
from dsa110_contimg.absurd.console.session import WrongUsageError, load_json

_SPANS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def params(words: Sequence[str]) -> dict[str, Any]:
    """Return parameters given as a JSON object, as ``@file`` with one, or as ``key=value`` (JSON, else text)."""
    found: dict[str, Any] = {}
    for word in words:
        if word.startswith("{"):
            found |= _object(word, "the parameters")
        elif word.startswith("@"):
            found |= _object(_text_of(word[1:]), f"the file {word[1:]}")
        elif "=" in word:
            key, _, value = word.partition("=")
            found[key] = _value(value)
        else:
            raise WrongUsageError(f'parameter {word!r}: give {{"key": value}}, @file.json or key=value')
    return found


def _object(text: str, what: str) -> dict[str, Any]:
    value = load_json(text, what)
    if not isinstance(value, dict):
        raise WrongUsageError(f'{what} {text.strip()!r} is no JSON object; give {{"key": value, …}}')
    return value


def _text_of(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"the file {name} cannot be read: {error}") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def span_s(text: str) -> float:
    """Return a time span in seconds: ``90``, ``90s``, ``15m``, ``2h``, ``7d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if not found or (found[2] or "s") not in _SPANS:
        raise WrongUsageError(f"time span {text!r}: give seconds, or a number with s, m, h or d, as in 15m")
    return float(found[1]) * _SPANS[found[2] or "s"]


def moment(text: str) -> datetime:
    """Return a moment: ISO 8601 (without a zone: UTC), or ``+15m`` from now."""
    if text.startswith("+"):
        return datetime.now(UTC) + timedelta(seconds=span_s(text[1:]))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsageError(f"time {text!r}: give it as 2026-11-22T03:00 (UTC), with a zone, or as +15m") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def dependency(text: str) -> tuple[str, Policy]:
    """Return id and policy of ``id`` or ``id:policy``."""
    task, _, policy = text.partition(":")
    known: tuple[Policy, ...] = get_args(Policy)
    for name in known:
        if (policy or "success") == name:
            return task, name
    raise WrongUsageError(f"dependency {text!r}: the policy is {' or '.join(known)}, as in 0199ab34:done")
