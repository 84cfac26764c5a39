"""Lets those change something who show a key with the right scope, and keeps a record of every change."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dsa110_contimg.api.access_settings import AuthConfig
from dsa110_contimg.api.async_repositories import AsyncCredentialRepository
from dsa110_contimg.api.audit import AuditRecord
from dsa110_contimg.api.credentials import (
    SCOPES,
    ApiKeyRecord,
    FixedKeys,
    Principal,
    Scope,
    create_ticket,
    hash_secret,
    matches,
    split_key,
)
from dsa110_contimg.api.exceptions import AccessDeniedError, AuthenticationError, DatabaseError
from dsa110_contimg.api.ticket_repository import AsyncTicketRepository

if TYPE_CHECKING:
    from dsa110_contimg.api.services.tokens import TokenVerifier

log = logging.getLogger(__name__)

_MARK_AGAIN_AFTER_S = 60.0  # the time of a key's last use is kept to a minute, which spares writes
_EVERYBODY = Principal("anybody (authentication is disabled)", None, frozenset(SCOPES))
_NOBODY = ApiKeyRecord("", "", hash_secret("").hex(), (), 0.0)


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked, as it goes into the record."""

    action: str
    path: str
    client_ip: str | None
    request_id: str


class AccessService:
    """Judges credentials and keeps the record of changes.

    Parameters
    ----------
    credentials : AsyncCredentialRepository
        Keys and record.
    config : AuthConfig
        Keys of the settings, and whether anybody may do anything.
    tickets : AsyncTicketRepository
        Where tickets are kept.
    clock : callable
        Gives Unix time in seconds.
    """

    def __init__(
        self,
        credentials: AsyncCredentialRepository,
        config: AuthConfig,
        tickets: AsyncTicketRepository,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._tickets = tickets
        self._disabled = config.disabled
        self._fixed = FixedKeys(config.api_keys)
        self._tokens = _verifier(config)
        self._clock = clock
        self._used: dict[str, float] = {}

    async def authenticate(self, presented: str) -> Principal:
        """Return who shows this key.

        Raises
        ------
        AuthenticationError
            It is none of ours.
        """
        if self._tokens is not None and presented.count(".") == 2:
            return self._tokens.verify(presented)
        return self._fixed.find(presented) or await self._find(presented)

    async def issue_ticket(self, holder: Principal) -> tuple[str, float]:
        """Return a ticket, which stands for a key once and for a short time, and the end of that time (Unix)."""
        now_s = self._clock()
        text, record = create_ticket(holder, now_s)
        await self._tickets.add(record, now_s)
        return text, record.expires_at

    async def redeem(self, ticket: str) -> Principal:
        """Return for whom a ticket was made; it is of no use from now on.

        Raises
        ------
        AuthenticationError
            There is no such ticket, or it is used, or too old, or the key behind it is of no use any more.
        """
        found = await self._tickets.take(hash_secret(ticket).hex())
        if found is None or found.expires_at <= self._clock():
            raise AuthenticationError("The ticket is not known, used, or too old; ask for another one.")
        holder = Principal(found.actor, found.key_id, frozenset(found.scopes), found.ends_at)
        await self.recheck(holder)
        return holder

    async def recheck(self, holder: Principal) -> None:
        """Refuse somebody whose key or token has come to its end since it was shown.

        Raises
        ------
        AuthenticationError
            It has.
        """
        now_s = self._clock()
        if holder.ends_at is not None and holder.ends_at <= now_s:
            raise AuthenticationError("The token has expired; get another one.")
        record = await self._credentials.get_key(holder.key_id or "") if holder.has_kept_key else None
        fault = record.fault(now_s) if record else "is not known here" if holder.has_kept_key else None
        if fault:
            raise AuthenticationError(f"The API key {holder.key_id} {fault}; ask the operators for another one.")

    def admitted(self, state: Mapping[str, Any]) -> Principal:
        """Return whom the gate found to ask, for a request that must not be anybody's.

        Parameters
        ----------
        state
            Of the request: ``principal``, or ``denied`` when its key was of no use.

        Raises
        ------
        DSA110APIError
            Why nobody was found.
        """
        if self._disabled:
            return _EVERYBODY
        if denied := state.get("denied"):
            raise denied
        principal: Principal | None = state.get("principal")
        if principal is None:
            raise AuthenticationError("This needs an API key.")
        return principal

    @staticmethod
    def require_scope(principal: Principal, scope: Scope) -> None:
        """Refuse who may not do what needs ``scope``.

        Raises
        ------
        AccessDeniedError
            Always with status 403.
        """
        if scope not in principal.scopes:
            held = ", ".join(sorted(principal.scopes)) or "none"
            raise AccessDeniedError(f"This needs a key with the scope {scope}; the key {principal.key_id} has: {held}")

    async def _find(self, presented: str) -> Principal:
        parts = split_key(presented)
        record = await self._credentials.get_key(parts[0]) if parts else None
        # A key that is not there is compared all the same: the time of the answer does not tell which ids exist.
        if parts is None or not matches(parts[1], record or _NOBODY) or record is None:
            raise AuthenticationError("The API key is not known here.")
        if fault := record.fault(self._clock()):
            raise AuthenticationError(f"The API key {record.id} {fault}; ask the operators for another one.")
        return Principal(record.name, record.id, frozenset(record.scopes))

    async def begin(self, principal: Principal, scope: Scope, change: Change) -> AuditRecord:
        """Write down that a change begins, before it does: there is none without its entry."""
        now_s = self._clock()
        key_id = principal.key_id
        mark = key_id is not None and now_s - self._used.get(key_id, 0.0) > _MARK_AGAIN_AFTER_S
        entry = AuditRecord(
            now_s, principal.actor, key_id, change.client_ip, change.action, change.path, scope, change.request_id
        )
        begun = await self._credentials.begin_change(entry, mark)
        if key_id is not None and mark:
            self._used[key_id] = now_s
        return begun

    async def conclude(self, begun: AuditRecord, status: int) -> None:
        """Write down how a change ended; when that fails the entry stays open, and the reply is not spoilt."""
        try:
            await self._credentials.add_entry(begun.followed("ended", status))
        except DatabaseError as error:
            log.error("the end of change %s (status %d) could not be recorded: %s", begun.id, status, error)

    async def deny(self, presented: str, change: Change) -> None:
        """Write down that somebody showed a wrong key; who asks knows nothing of it."""
        parts = split_key(presented)
        entry = AuditRecord(
            self._clock(), "not known", parts[0] if parts else None, change.client_ip, change.action, change.path, "",
            change.request_id, 401, kind="denied",
        )  # fmt: skip
        try:
            await self._credentials.add_entry(entry)
        except DatabaseError as error:
            log.error("a wrong key shown by %s could not be recorded: %s", change.client_ip, error)


def _verifier(config: AuthConfig) -> "TokenVerifier | None":
    """Return what reads tokens, where the settings allow them; elsewhere nobody pays for the cryptography (9 MiB)."""
    if config.jwt_public_key is None:
        return None
    verifier: TokenVerifier = import_module("dsa110_contimg.api.services.tokens").TokenVerifier(config)
    return verifier


def warn_of_settings(config: AuthConfig) -> Iterable[str]:
    """Give what an operator should know about who may change something."""
    if config.disabled:
        yield "DSA110_AUTH_DISABLED: everybody on this machine may change everything"
    if config.api_keys:
        yield (
            f"DSA110_API_KEYS: {len(config.api_keys)} keys stand in the settings, which never expire and can only be "
            "taken back by a restart; better make them with `dsa110 keys create`"
        )
