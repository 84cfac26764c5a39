"""Who may change something: API keys, their scopes, and what is kept of every change.

A key reads ``dsa110_<id>.<secret>``. The secret holds 256 random bits and is shown once; only its SHA-256 is kept (a
fast hash is right for it: nobody guesses 256 bits). A key is looked up by its id, and the hashes are compared as bytes
in constant time. Nothing here does input or output.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

Scope = Literal["read", "write:jobs", "write:qa", "write:cal", "ops", "worker", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
#: What a key that is given in the settings may do: everything but the care of other keys.
FIXED_KEY_SCOPES: frozenset[Scope] = frozenset(SCOPES) - {"admin"}

#: What a page offers beside its ticket as protocols of a WebSocket; the server chooses the first, never the ticket.
SOCKET_PROTOCOL = "dsa110"
TICKET_LIFE_S = 30.0
_TICKET = re.compile(r"ticket_[A-Za-z0-9_-]{43}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
_KEY = re.compile(r"dsa110_([0-9a-f]{12})\.([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is kept of a key; the times are Unix seconds."""

    id: str
    name: str
    secret_sha256: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def fault(self, now_s: float) -> str | None:
        """Say why the key is of no use; None while it is."""
        if self.revoked_at is not None:
            return "is revoked"
        if self.expires_at is not None and self.expires_at <= now_s:
            return "has expired"
        return None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what that one may do."""

    actor: str
    key_id: str | None = None
    scopes: frozenset[Scope] = field(default_factory=frozenset)
    ends_at: float | None = None  # of a token, whose end nobody need look up

    @property
    def auth_method(self) -> str:
        """How that is known: ``api_key``, ``jwt``, or not at all."""
        return "disabled" if self.key_id is None else "api_key" if self.ends_at is None else "jwt"

    @property
    def has_kept_key(self) -> bool:
        """Whether the key is one that is kept here, and can be taken back."""
        return self.key_id is not None and _KEY_ID.fullmatch(self.key_id) is not None


@dataclass(frozen=True, slots=True)
class TicketRecord:
    """What is kept of a ticket, which opens one WebSocket; the times are Unix seconds."""

    secret_sha256: str
    actor: str
    key_id: str | None
    scopes: tuple[Scope, ...]
    ends_at: float | None
    expires_at: float


def create_ticket(holder: Principal, now_s: float) -> tuple[str, TicketRecord]:
    """Make a ticket for somebody and return its text, which is not kept anywhere, and what is kept of it."""
    text = f"ticket_{secrets.token_urlsafe(32)}"
    scopes = tuple(scope for scope in SCOPES if scope in holder.scopes)
    digest = hash_secret(text).hex()
    return text, TicketRecord(digest, holder.actor, holder.key_id, scopes, holder.ends_at, now_s + TICKET_LIFE_S)


def presented_ticket(protocols: Iterable[str]) -> str | None:
    """Return the ticket among the protocols that a WebSocket offers."""
    return next((offered for offered in protocols if _TICKET.fullmatch(offered)), None)


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def create_key(name: str, scopes: Iterable[Scope], now_s: float, life_s: float | None) -> tuple[str, ApiKeyRecord]:
    """Make a key and return its text, which is not kept anywhere, and what is kept of it."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    wanted = frozenset(scopes)
    record = ApiKeyRecord(
        key_id, name, hash_secret(secret).hex(), tuple(scope for scope in SCOPES if scope in wanted), now_s,
        None if life_s is None else now_s + life_s,
    )  # fmt: skip
    return f"dsa110_{key_id}.{secret}", record


def presented_key(headers: Iterable[tuple[bytes, bytes]], key_header: bytes) -> str | None:
    """Return the key that a request shows: in the header for keys, or as a bearer token.

    Parameters
    ----------
    headers
        Names and values as they came.
    key_header : bytes
        Name of the header for keys, in lower case.
    """
    bearer = None
    for name, value in headers:
        lower = name.lower()
        if lower == key_header and (key := value.decode("latin-1").strip()):
            return key
        if lower == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            bearer = token.strip() or None if kind.lower() == "bearer" else bearer
    return bearer


def split_key(text: str) -> tuple[str, str] | None:
    """Return id and secret of a key's text; None when it has not that form."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def matches(secret: str, record: ApiKeyRecord) -> bool:
    """Tell whether a secret is the one of a key, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_secret(secret), bytes.fromhex(record.secret_sha256))


class FixedKeys:
    """Keys that stand in the settings (``DSA110_API_KEYS``): any text, only their hashes are held."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._hashes = tuple(hash_secret(key) for key in keys)

    def find(self, text: str) -> Principal | None:
        """Return who has this key; None when it is none of them."""
        asked, found = hash_secret(text), None
        for known in self._hashes:
            if hmac.compare_digest(asked, known):
                found = f"fixed-{known.hex()[:8]}"
        return Principal("key of the settings", found, FIXED_KEY_SCOPES) if found else None
