"""Replies that are kept in Redis.

A route says in one line that its replies may be kept, under which prefix, and which tables they are made of:
``@cached("images:list", "images", "ms_index")``. The key of a reply holds the generations of these tables
(``table_generations``), so that the first write makes all earlier replies unreachable; they go by their time to live.
Everything lies under one name space of this database and this version of the software: another installation on the
same Redis, the job queue and the rate limits are out of reach of :meth:`ReplyCache.invalidate`.

When Redis is away or slow, the first request learns it in 50 ms and the next ones do not ask for five seconds.
``X-Cache`` says what happened: ``hit``, ``miss``, ``bypass`` (Redis or the database cannot be asked) or ``off``;
a reply that this process still had (``reply_memory.py``) says ``memory``.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from dsa110_contimg import __version__
from dsa110_contimg.api.exceptions import ServiceUnavailableError, ValidationError
from dsa110_contimg.api.tally import Cell, Family, Tally

log = logging.getLogger(__name__)

#: How long replies are kept, s; other prefixes by the setting REDIS_DEFAULT_TTL.
TTLS_S: Mapping[str, int] = {
    "stats": 30, "sources:list": 300, "sources:detail": 300, "images:list": 300, "images:detail": 600,
    "cal:tables": 3600, "cal:matches": 1800, "ms:metadata": 600, "jobs:list": 60,
}  # fmt: skip
NEVER = ("lightcurve:open", "jobs:active", "logs:")
RESULTS = Family("counter", "dsa110_cache_requests", "Requests for replies that may be kept, by what the cache did.")

_ROOT = "dsa110:replies:"
_REST_S = 5.0
_LONGEST_KEY = 200
_LARGEST_REPLY = 1 << 20
_BATCH = 500
_MOST_STARS = 8
_AWAY = (RedisError, OSError, TimeoutError)

Handler = Callable[[Request], Awaitable[Response]]
Judgement = Callable[[], Awaitable[bool]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class CacheRule:
    """That the replies of a route may be kept.

    Attributes
    ----------
    prefix : str
        Their kind.
    tables : tuple of str
        What they are made of.
    witnessed : bool
        They are made of a file too: kept in the process only, each with what tells whether its file is the same.
    """

    prefix: str
    tables: tuple[str, ...]
    witnessed: bool = False

    def life_s(self, default_s: int) -> int:
        """Return how long a reply is kept at most, s; ``default_s`` where the contract says nothing of its kind."""
        return TTLS_S.get(self.prefix, default_s)


def cached(prefix: str, *tables: str) -> Callable[[Endpoint], Endpoint]:
    """Let the replies of a route be kept under ``prefix`` until one of ``tables`` is written."""
    if prefix.startswith(NEVER) or not tables:
        raise ValueError(f"replies under {prefix!r} must not be kept, or no table is named that they are made of")

    def marked(endpoint: Endpoint) -> Endpoint:
        endpoint.cache_rule = CacheRule(prefix, tables)  # type: ignore[attr-defined]
        return endpoint

    return marked


def remembered(prefix: str, *tables: str) -> Callable[[Endpoint], Endpoint]:
    """Let the replies of a route be kept by this process until one of ``tables``, or the file of each, has changed.

    A reply is kept only if its route leaves a :class:`Witness` in ``request.state.witness``.
    """

    def marked(endpoint: Endpoint) -> Endpoint:
        endpoint.cache_rule = CacheRule(prefix, tables, witnessed=True)  # type: ignore[attr-defined]
        return endpoint

    return marked


def rule_of(endpoint: Callable[..., Any]) -> CacheRule | None:
    """Return what :func:`cached` said about a route."""
    return getattr(endpoint, "cache_rule", None)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where and how replies are kept."""

    url: str
    database_name: str
    enabled: bool = True
    prefixes: frozenset[str] = frozenset(TTLS_S)
    default_ttl_s: int = 300
    admin_patience_s: float = 2.0
    patience_s: float = 0.05


class ReplyCache:
    """The kept replies of one database.

    Parameters
    ----------
    settings : CacheSettings
        Where Redis is, and of which database the replies are.
    tally : Tally
        Counts hits and misses of all API processes.
    """

    def __init__(self, settings: CacheSettings, tally: Tally) -> None:
        self._settings = settings
        self._tally = tally
        self._link = _client(settings.url, settings.patience_s)
        self._flights: dict[str, asyncio.Future[Response | None]] = {}
        self._asked_again_at_s = 0.0
        self._counters: dict[tuple[str, str], Cell] = {}
        owner = hashlib.blake2b(settings.database_name.encode(), digest_size=8).hexdigest()
        self.name_space = f"{_ROOT}{owner}:{__version__}:"

    # --- replies ---------------------------------------------------------------------------------------------------

    def keeps(self, rule: CacheRule) -> bool:
        """Tell whether replies of a route are kept."""
        return self._settings.enabled and rule.prefix in self._settings.prefixes and not rule.witnessed

    async def answer(
        self, rule: CacheRule, request: Request, handler: Handler, seen: Mapping[str, int], still: Judgement
    ) -> Response:
        """Return the kept reply to a request, or that of its handler, which is then kept.

        Parameters
        ----------
        rule : CacheRule
            Of the route.
        request : Request
            What is asked.
        handler : callable
            Makes the reply.
        seen : mapping
            The numbers of the last writes since the request came, none where nobody can say how old the tables are.
        still : callable
            Tells afterwards whether they are as they were, so that the reply is of these numbers.
        """
        if not self.keeps(rule):
            return _told(await handler(request), "off")
        resting = time.monotonic() < self._asked_again_at_s
        key = None if resting or not seen else self._key(rule, request, seen)
        if key is None:
            self._count(rule, "bypass")
            return _told(await handler(request), "bypass")
        flight = self._flights.get(key)
        if flight is not None and (shared := await asyncio.shield(flight)) is not None:
            self._count(rule, "hit")
            return _told(_copy(shared), "hit")
        if flight is not None:  # who asked first failed or went away
            return _told(await handler(request), "miss")
        return await self._lead(rule, key, request, handler, still)

    async def _lead(self, rule: CacheRule, key: str, request: Request, handler: Handler, still: Judgement) -> Response:
        """Look for a reply, or make it, while others who want the same wait."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        reply: Response | None = None
        try:
            stored = await self._bounded(self._link.get(key))
            if stored is not None:
                reply = _unpacked(stored)
                self._count(rule, "hit")
                return _told(reply, "hit")
            made = await handler(request)
            self._count(rule, "miss")
            if made.status_code == 200 and len(made.body) <= _LARGEST_REPLY and await still():
                reply = made
                await self._bounded(self._link.set(key, _packed(made), ex=rule.life_s(self._settings.default_ttl_s)))
            return _told(_copy(made), "bypass" if time.monotonic() < self._asked_again_at_s else "miss")
        finally:
            del self._flights[key]
            flight.set_result(reply)

    def _key(self, rule: CacheRule, request: Request, seen: Mapping[str, int]) -> str:
        age = ".".join(str(seen.get(table, 0)) for table in rule.tables)
        path = request.scope["state"].get("asked_path", request.scope["path"])
        # By name alone: of a name that is said twice the last value counts.
        asked = urlencode(sorted(request.query_params.multi_items(), key=itemgetter(0)))
        key = f"{rule.prefix}:{age}:{path}?{asked}"
        if len(key) > _LONGEST_KEY:
            key = f"{rule.prefix}:hash:{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"
        return self.name_space + key

    async def _bounded(self, asked: Awaitable[Any]) -> Any:
        """Return Redis's answer; None when it does not come in time, and then nobody asks for a while."""
        try:
            async with asyncio.timeout(self._settings.patience_s):
                return await asked
        except _AWAY as error:
            if time.monotonic() >= self._asked_again_at_s:  # the first of those who asked at once says it for all
                reason = str(error) or "too slow"
                log.warning("replies are not kept for %g s, Redis does not answer: %s", _REST_S, reason)
            self._asked_again_at_s = time.monotonic() + _REST_S
            return None

    def _count(self, rule: CacheRule, result: str) -> None:
        cell = self._counters.get((rule.prefix, result))
        if cell is None:
            labels = {"prefix": rule.prefix, "result": result}
            cell = self._counters[rule.prefix, result] = self._tally.cell(RESULTS, labels, "_total")
        cell.add()

    # --- for operators ---------------------------------------------------------------------------------------------

    async def stats(self) -> dict[str, Any]:
        """Return hits and misses of all API processes of this machine, memory of Redis, number of kept replies."""
        if not self._settings.enabled:
            return {"enabled": False, "status": "disabled"}
        hits, misses = await asyncio.to_thread(self._hits_and_misses)
        try:
            async with _client(self._settings.url, self._settings.admin_patience_s) as link:
                memory = await link.info("memory")
                total = sum([1 async for _ in link.scan_iter(match=f"{self.name_space}*", count=_BATCH)])
        except _AWAY as error:
            return {"enabled": True, "status": "error", "error": str(error) or "no answer in time"}
        return {
            "enabled": True,
            "status": "connected",
            "hits": hits,
            "misses": misses,
            "hit_rate": round(hits / (hits + misses), 4) if hits + misses else 0.0,
            "memory_used_bytes": memory["used_memory"],
            "memory_used_human": memory["used_memory_human"],
            "total_keys": total,
        }

    def _hits_and_misses(self) -> tuple[int, int]:
        found = {"hit": 0, "memory": 0, "miss": 0}
        for family in self._tally.families():
            if family.name == RESULTS.name:
                for sample in family.samples:
                    found[sample.labels["result"]] = found.get(sample.labels["result"], 0) + int(sample.value)
        return found["hit"] + found["memory"], found["miss"]

    async def invalidate(self, pattern: str) -> int:
        """Forget the kept replies whose key fits a glob of Redis, such as ``images:*``; return how many.

        Raises
        ------
        ValidationError
            The pattern would take Redis too long.
        ServiceUnavailableError
            Redis does not answer.
        """
        if len(pattern) > _LONGEST_KEY or pattern.count("*") > _MOST_STARS:
            raise ValidationError(
                f"A pattern has at most {_LONGEST_KEY} characters and {_MOST_STARS} stars", field="pattern"
            )
        try:
            async with _client(self._settings.url, self._settings.admin_patience_s) as link:
                return await self._forget(link, self.name_space + pattern)
        except _AWAY as error:
            raise ServiceUnavailableError("Redis", f"the cache cannot be emptied: {error}") from error

    async def _forget(self, link: "redis.asyncio.Redis", pattern: str) -> int:
        gone, batch = 0, []
        async for key in link.scan_iter(match=pattern, count=_BATCH):
            batch.append(key)
            if len(batch) >= _BATCH:
                gone += await link.unlink(*batch)
                batch.clear()
        return gone + (await link.unlink(*batch) if batch else 0)

    async def close(self) -> None:
        """Close the connections."""
        await self._link.aclose()


def _client(url: str, patience_s: float) -> "redis.asyncio.Redis":
    return redis.asyncio.Redis.from_url(
        url, socket_timeout=patience_s, socket_connect_timeout=patience_s, retry=Retry(NoBackoff(), 0)
    )


def _told(reply: Response, result: str) -> Response:
    reply.headers["X-Cache"] = result
    return reply


def _kept_headers(reply: Response) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in reply.raw_headers if name not in (b"content-length", b"x-cache")]


def _copy(reply: Response) -> Response:
    """Return a reply of its own for each who waited: outer layers write into headers."""
    return _reply(bytes(reply.body), _kept_headers(reply))


def _packed(reply: Response) -> bytes:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in _kept_headers(reply)]
    return orjson.dumps(headers) + b"\n" + bytes(reply.body)


def _unpacked(stored: bytes) -> Response:
    head, _, body = stored.partition(b"\n")
    return _reply(body, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in orjson.loads(head)])


def _reply(body: bytes, headers: list[tuple[bytes, bytes]]) -> Response:
    reply = Response(body)
    reply.raw_headers = [*headers, (b"content-length", str(len(body)).encode())]
    return reply
