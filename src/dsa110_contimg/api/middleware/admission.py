"""Whom the gate lets in, and how many at once: credentials, rates, requests in flight, WebSockets of one address."""

import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dsa110_contimg.api.credentials import Principal, presented_key, presented_ticket, split_key
from dsa110_contimg.api.exceptions import AccessDeniedError, AuthenticationError, DatabaseError, DSA110APIError
from dsa110_contimg.api.middleware.headers import is_documentation, is_page
from dsa110_contimg.api.middleware.judge import Client
from dsa110_contimg.api.rate_limit import Allowance, RateClass, RateLimitedError, class_of
from dsa110_contimg.api.security import RefusedError
from dsa110_contimg.api.services.access_service import Change
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from dsa110_contimg.api.services.rate_windows import MemoryWindows

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

_FAILED = RateClass.FAILED_KEYS
_MOST_KNOWN_KEYS = 1024
_MOST_FAILURES = 10_000
_FAILURES_OF_A_KEY = 100
_FAILURES_WITHIN_S = 3600
_RETRY_SHED_S = 1


class Access(Protocol):
    """What is asked of the service that knows keys."""

    async def authenticate(self, presented: str) -> Principal:
        """Return who shows this key."""

    async def redeem(self, ticket: str) -> Principal:
        """Return for whom a ticket was made, once."""

    async def deny(self, presented: str, change: Change) -> None:
        """Write down that somebody showed a wrong key."""


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """How many at once, and who is not counted."""

    key_header: str = "X-API-Key"
    max_in_flight: int = 100
    max_websockets_per_address: int = 20
    spare_loopback: bool = False
    read_needs_key: bool = False


class NotAdmittedError(RefusedError):
    """Somebody whose key, ticket or token does not let them in, as the service that knows keys says it."""

    def __init__(self, reason: DSA110APIError) -> None:
        super().__init__(reason.status_code, reason.error_code, str(reason), reason.headers)
        self.action = reason.action


class Admission:
    """Doorkeeper of one process.

    Parameters
    ----------
    rules : AdmissionRules
        What is let in.
    limiter : RateLimiter
        Counts requests.
    access_of : callable
        Gives the service that knows keys, for the scope of a request.
    """

    def __init__(
        self,
        rules: AdmissionRules,
        limiter: RateLimiter,
        access_of: Callable[[Scope], Access] = lambda scope: scope["app"].state.services.access,
    ) -> None:
        self.limiter = limiter
        self._rules = rules
        self._header = rules.key_header.lower().encode()
        self._access_of = access_of
        self._in_flight = _InFlight()
        self._sockets: Counter[str] = Counter()
        self._known: OrderedDict[bytes, None] = OrderedDict()  # checksums of keys that were right
        self._failures = MemoryWindows(_MOST_FAILURES)  # by id of the key, forgotten when it is shown rightly

    # --- how many at once ---------------------------------------------------------------------------------------------

    def in_flight(self, ahead: int = 0) -> "_InFlight":
        """Return the block in which a request is worked at, and counted.

        Parameters
        ----------
        ahead : int
            Requests that came before it and have not ended, as its connection counted them: a loop that is behind has
            not begun with all of them.

        Raises
        ------
        RefusedError
            503: there are too many.
        """
        if max(ahead, self._in_flight.count) >= self._rules.max_in_flight:
            raise too_many_at_once(self._rules.max_in_flight)
        return self._in_flight

    @contextmanager
    def open_socket(self, client: Client, *, forwarded: bool) -> Iterator[None]:
        """Count a WebSocket as long as it is open.

        Raises
        ------
        RefusedError
            429: its address has too many.
        """
        bucket, most = client.bucket, self._rules.max_websockets_per_address
        if self._sockets[bucket] >= most and not self._spared(client, forwarded):
            raise RefusedError(
                429, "TOO_MANY_WEBSOCKETS", f"{bucket} has {most} WebSockets open; close one of them first.",
                {"Retry-After": str(_RETRY_SHED_S)},
            )  # fmt: skip
        self._sockets[bucket] += 1
        try:
            yield
        finally:
            self._sockets[bucket] -= 1
            if not self._sockets[bucket]:
                del self._sockets[bucket]

    # --- who, and how often -------------------------------------------------------------------------------------------

    async def admit(self, scope: Scope, client: Client, *, forwarded: bool) -> Allowance | None:
        """Find out who asks, and count the request; ``state`` gets ``principal`` or ``denied``.

        A key that is wrong does not stop a request that needs none: the route decides. It is counted for its address,
        never for the key. A WebSocket is refused for it: who shows a key there knows of no other way in.

        Raises
        ------
        RateLimitedError
            Too many requests, or too many wrong keys.
        NotAdmittedError
            Reading needs a key, or a WebSocket shows what is none.
        """
        spared = self._spared(client, forwarded)
        principal = await self._identify(scope, client.bucket, spared)
        allowance = None if spared else await self._count(scope, client.bucket, principal)
        self._require_reader(scope, principal)
        return allowance

    async def _count(self, scope: Scope, bucket: str, principal: Principal | None) -> Allowance | None:
        if principal is not None and principal.key_id:
            bucket = f"key {principal.key_id}"
        method = scope.get("method", "GET")
        allowance = await self.limiter.hit(class_of(method, scope["path"]), bucket)
        if allowance is not None and not allowance.passed:
            raise RateLimitedError(allowance)
        return allowance

    def _require_reader(self, scope: Scope, principal: Principal | None) -> None:
        """Refuse who may not read, where that is asked; what changes something is judged by its route."""
        socket, denied = scope["type"] == "websocket", scope["state"].get("denied")
        if socket and denied:
            raise NotAdmittedError(denied)
        reads = socket or scope["method"] in ("GET", "HEAD")
        if not self._rules.read_needs_key or not reads or _is_public(scope["path"]):
            return
        if principal is None:
            raise NotAdmittedError(denied or AuthenticationError("Reading needs an API key here."))
        if "read" not in principal.scopes:
            raise NotAdmittedError(AccessDeniedError(f"Reading needs the scope read; {principal.key_id} has it not."))

    def _spared(self, client: Client, forwarded: bool) -> bool:
        """Tell whether a client is not counted: one of this machine, unless a proxy may stand before it."""
        return self._rules.spare_loopback and client.is_loopback and not forwarded

    async def _identify(self, scope: Scope, bucket: str, spared: bool) -> Principal | None:
        presented = presented_key(scope["headers"], self._header)
        ticket = presented_ticket(scope.get("subprotocols", ())) if presented is None else None
        if ticket is not None:
            return await self._identify_by_ticket(scope, ticket, bucket, spared)
        if presented is None:
            return None
        checksum = hashlib.blake2b(presented.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        self._require_patience(presented, checksum, bucket, spared)
        try:
            principal = await self._access_of(scope).authenticate(presented)
        except AuthenticationError as error:
            self._known.pop(checksum, None)  # taken back, or expired
            scope["state"]["denied"] = error
            await self._failed(scope, presented, bucket, spared)
            return None
        except DatabaseError as error:
            scope["state"]["denied"] = error
            return None
        self._succeeded(presented, checksum)
        scope["state"]["principal"] = principal
        return principal

    async def _identify_by_ticket(self, scope: Scope, ticket: str, bucket: str, spared: bool) -> Principal | None:
        """Find out who opens a WebSocket; wrong tickets are counted like wrong keys of an address."""
        spent = None if spared else self.limiter.exhausted(_FAILED, bucket)
        if spent is not None:
            raise RateLimitedError(spent)
        try:
            principal = await self._access_of(scope).redeem(ticket)
        except (AuthenticationError, DatabaseError) as error:
            scope["state"]["denied"] = error
            if isinstance(error, AuthenticationError) and not spared:
                await self.limiter.hit(_FAILED, bucket)
            return None
        scope["state"]["principal"] = principal
        return principal

    def _require_patience(self, presented: str, checksum: bytes, bucket: str, spared: bool) -> None:
        """Refuse to look at one more key where too many were wrong; a key that was right before goes on."""
        if checksum in self._known:
            return
        spent = self._spent_on(presented) or (None if spared else self.limiter.exhausted(_FAILED, bucket))
        if spent is not None:
            raise RateLimitedError(spent)

    def _spent_on(self, presented: str) -> Allowance | None:
        """Return the limit of guesses at one key that is used up."""
        if (key_id := _key_id(presented)) is None:
            return None
        start_s, count = self._failures.get_moving_window(key_id, _FAILURES_OF_A_KEY, _FAILURES_WITHIN_S)
        if count < _FAILURES_OF_A_KEY:
            return None
        rule = f"{_FAILURES_OF_A_KEY} wrong secrets of one key per hour"
        return Allowance(rule, _FAILURES_OF_A_KEY, 0, start_s + _FAILURES_WITHIN_S, passed=False)

    async def _failed(self, scope: Scope, presented: str, bucket: str, spared: bool) -> None:
        log.warning("a wrong API key was shown from %s", bucket)
        if (key_id := _key_id(presented)) is not None:
            self._failures.acquire_entry(key_id, _FAILURES_OF_A_KEY, _FAILURES_WITHIN_S)
        allowance = None if spared else await self.limiter.hit(_FAILED, bucket)
        if allowance is not None and not allowance.passed:
            raise RateLimitedError(allowance)
        state, method = scope["state"], scope.get("method", "WEBSOCKET")
        change = Change(f"{method} with a wrong key", scope["path"], state.get("client_ip"), state["request_id"])
        await self._access_of(scope).deny(presented, change)

    def _succeeded(self, presented: str, checksum: bytes) -> None:
        if (key_id := _key_id(presented)) is not None:
            self._failures.clear(key_id)
        self._known[checksum] = None
        self._known.move_to_end(checksum)
        if len(self._known) > _MOST_KNOWN_KEYS:
            self._known.popitem(last=False)


class _InFlight:
    """The number of requests that are in its block."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *failure: object) -> None:
        self.count -= 1


def too_many_at_once(most: int) -> RefusedError:
    """Return the refusal of a request where so many are being worked at."""
    return RefusedError(
        503, "OVERLOADED", f"{most} requests are being worked at; try again in a moment.",
        {"Retry-After": str(_RETRY_SHED_S)},
    )  # fmt: skip


def _is_public(path: str) -> bool:
    """Tell whether a path is a page, or shows the description of the API: browsers open these without a key."""
    return is_page(path) or is_documentation(path) or path == "/api/openapi.json"


def _key_id(presented: str) -> str | None:
    """Return the id of a key; what has not its form (a token, nonsense) is a guess at none."""
    parts = split_key(presented)
    return parts[0] if parts else None
