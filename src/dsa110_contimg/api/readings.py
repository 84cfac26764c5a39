"""Readings of settings: the text of a variable becomes a value, or a ValueError whose words say what would be right."""

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    return Path(text).expanduser().absolute()


def paths(text: str) -> tuple[Path, ...]:
    """Read paths with a colon between."""
    return tuple(path(part) for part in text.split(os.pathsep) if part)


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
