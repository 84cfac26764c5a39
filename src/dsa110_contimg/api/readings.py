"""Settings as they are declared and read.

A reading makes a value of the text of a variable, or raises a ValueError whose words say what would be right.
"""

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(
    r"(\d{1,9})(?:\s*(?:/|per)\s*(?:(\d{1,3})\s*)?(second|minute|hour|day)s?)?", re.ASCII | re.IGNORECASE
)


def setting(
    variables: str,
    default: Any,
    read: Callable[[str], Any],
    meaning: str,
    *,
    secret: bool = False,
    address: bool = False,
    below_state: str | None = None,
) -> Any:
    """Declare a setting: variable (older names after it), default, reading, meaning.

    ``secret`` values are masked wherever settings are shown, and can stand in a file that the variable with ``_FILE``
    after its name tells; of an ``address`` the password is masked alone. With ``below_state`` the default is that path
    below the state directory.
    """
    metadata = {
        "variables": tuple(variables.split()),
        "read": read,
        "meaning": meaning,
        "secret": secret,
        "address": address,
        "below_state": below_state,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a time; 0 requests: there is no limit."""

    amount: int
    window_s: int = 60

    def __str__(self) -> str:
        if not self.amount:
            return "0"
        unit = next(name for name, length_s in reversed(_SECONDS.items()) if self.window_s % length_s == 0)
        times = self.window_s // _SECONDS[unit]
        return f"{self.amount} per {unit}" if times == 1 else f"{self.amount} per {times} {unit}s"


def rate(unit: str) -> Callable[[str], Rate]:
    """Read a rate: ``100``, which is per ``unit``, or ``100 per minute``, ``100/minute``, ``5 per 2 hours``."""

    def read(text: str) -> Rate:
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError
        return Rate(int(found[1]), max(1, int(found[2] or 1)) * _SECONDS[(found[3] or unit).lower()])

    return _explained(read, f"a number of requests per {unit}, or a rate such as 100 per minute; 0 is no limit")


def number(low: float, high: float) -> Callable[[str], float]:
    """Read a number within limits."""

    def read(text: str) -> float:
        if not low <= float(text) <= high:  # false for NaN too
            raise ValueError
        return float(text)

    return _explained(read, f"a number from {low:g} to {high:g}")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Read a whole number within limits."""

    def read(text: str) -> int:
        if not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return _explained(read, f"a whole number from {low} to {high}")


def _explained(read: Callable[[str], Any], right: str) -> Callable[[str], Any]:
    def explained(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            raise ValueError(right) from None

    return explained


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of some words, in any case of letters."""

    def read(text: str) -> str:
        found = {word.lower(): word for word in words}.get(text.lower())
        if found is None:
            raise ValueError("one of " + ", ".join(words))
        return found

    return read


def yes_or_no(text: str) -> bool:
    """Read true or false."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def text(text: str) -> str:
    """Take the text as it is."""
    return text


def header_name(text: str) -> str:
    """Read the name of an HTTP header."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", text) or text.lower() in ("authorization", "cookie", "host"):
        raise ValueError("the name of a header of its own, such as X-API-Key")
    return text


def path(text: str) -> Path:
    """Read a path; a relative one starts at the working directory."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError("a path; there is no user of the name behind ~") from error


def paths(text: str) -> tuple[Path, ...]:
    """Read paths with a colon between."""
    return tuple(path(part) for part in text.split(os.pathsep) if part)


def origins(text: str) -> tuple[str, ...]:
    """Read origins of web pages, exactly as browsers send them, with commas between."""
    right = "origins with commas between, such as https://pages.example.org (no path, no pattern)"
    read = _explained(_origin, right)
    return tuple(read(word) for word in words(text))


def _origin(word: str) -> str:
    if not re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", word):
        raise ValueError
    urlsplit(word)  # raises on brackets that hold no address
    return word


def words(text: str) -> tuple[str, ...]:
    """Read words with commas between."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def networks(text: str) -> tuple[Network, ...]:
    """Read networks or addresses with commas between."""
    read = _explained(ipaddress.ip_network, "networks or addresses with commas between, such as 10.0.0.0/8,192.168.1.7")
    return tuple(read(word) for word in words(text))


def url(*schemes: str) -> Callable[[str], str]:
    """Read an address of one of some schemes."""
    right = f"an address such as {schemes[0]}://user:password@host:port/name"

    def read(text: str) -> str:
        parts = urlsplit(text)
        _ = parts.port  # raises on a port that is none
        if parts.scheme not in schemes or not (parts.hostname or parts.path):
            raise ValueError
        return text

    return _explained(read, right)


def named_addresses(text: str) -> tuple[str, ...]:
    """Read services with commas between, each a name and where it is asked: ``Grafana=http://127.0.0.1:3030/``."""
    require = _explained(
        _require_named_address,
        "services such as Grafana=http://127.0.0.1:3030/api/health, Archive=tcp://10.0.0.7:22 or one of the words "
        "redis:, postgresql:, absurd:, disk:, self:, with commas between",
    )
    found = words(text)
    for word in found:
        require(word)
    return found


def _require_named_address(word: str) -> None:
    name, equals, address = word.partition("=")
    parts = urlsplit(address)
    port = parts.port  # raises on a port that is none
    is_word = address in ("redis:", "postgresql:", "absurd:", "disk:", "self:")
    is_address = parts.scheme in ("http", "https", "tcp") and parts.hostname and parts.username is None
    if not (name and equals) or not (is_word or is_address) or (parts.scheme == "tcp" and not port):
        raise ValueError
