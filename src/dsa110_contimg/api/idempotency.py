"""Requests that create something, sent again: the first reply comes again, and nothing is created a second time.

A client that sends ``Idempotency-Key: <any text>`` may repeat its request until it hears the answer. The key belongs to
the holder of the API key for a day. Another request under the same key is 422. One whose first sending is still worked
on waits a few seconds for that reply, and is 409 then. A reply that says "not now" (5xx) is not kept, so that sending
again tries again.

The reply is kept after the work is accepted, in a transaction of its own. Should the process die between the two, the
request is carried out again when its key has been silent for a minute; it then makes the same ids of the same key and
first time (:func:`seed_of`) and finds its work accepted. So does one that failed after that, which may be sent again at
once. When the key has ended, the same request is new work.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Response

from dsa110_contimg.absurd.ids import ids_of
from dsa110_contimg.api.authorization import ScopedRoute
from dsa110_contimg.api.exceptions import InvalidStateError, ValidationError
from dsa110_contimg.api.queries.idempotency import KeptReply
from dsa110_contimg.api.security import SAFE_METHODS
from dsa110_contimg.api.validation import StrictRoute
from dsa110_contimg.api.work_orders import new_seed
from dsa110_contimg.api.work_repository import AsyncWorkRepository

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

HEADER = "Idempotency-Key"
_LONGEST = 200
_WORKED_ON_S = 60.0
_LOOKED_AGAIN_AFTER_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6)


class IdempotencyConflictError(ValidationError):
    """A key that belongs to another request."""

    status_code = 422
    error_code = "IDEMPOTENCY_KEY_REUSED"
    action = "Send another Idempotency-Key with this request."


class _Repeatable(StrictRoute):
    """A route that knows its requests again."""

    def get_route_handler(self) -> Handler:
        """Return the framework's handler behind the look at what was replied before."""
        handler = super().get_route_handler()

        async def repeatable(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or request.method in SAFE_METHODS:
                request.state.seed, request.state.first_s = new_seed(), time.time()
                return await handler(request)
            return await _Repetition(request, _checked(key)).reply(handler)

        return repeatable


class WorkRoute(ScopedRoute, _Repeatable):
    """A scoped route that creates work: the same request under the same ``Idempotency-Key`` creates it once."""


async def request_seed(request: Request) -> str:
    """Return what the ids of a request's work are made of: the same for a request that is sent again."""
    seed: str = getattr(request.state, "seed", None) or new_seed()
    return seed


async def request_ids(request: Request) -> Iterator[UUID]:
    """Return ids for what a request makes in the durable queue: the same for a request that is sent again."""
    return ids_of(request.state.seed, request.state.first_s)


NewIds = Annotated[Iterator[UUID], Depends(request_ids)]


class _Repetition:
    """One request with a key."""

    def __init__(self, request: Request, key: str) -> None:
        principal = request.state.principal
        self._request = request
        self._key = key
        self._actor = principal.key_id or principal.actor
        self._orders: AsyncWorkRepository = request.app.state.services.work.orders

    async def reply(self, handler: Handler) -> Response:
        """Return the reply of the first time, or that of the handler."""
        request = self._request
        mine = KeptReply(self._actor, self._key, await _fingerprint(request), time.time())
        was_free, kept = await self._reserved(mine)
        if kept.fingerprint != mine.fingerprint:
            raise IdempotencyConflictError(f"The {HEADER} {self._key!r} belongs to another request.", HEADER)
        if kept.status is not None:
            return _again(kept, kept.status)
        if not was_free and _is_worked_on(kept):
            raise InvalidStateError(f"The request under the {HEADER} {self._key!r} is still worked on; ask again.")
        request.state.seed, request.state.first_s = seed_of(kept), kept.created_at
        return await self._first(handler, kept.fingerprint)

    async def _reserved(self, mine: KeptReply) -> tuple[bool, KeptReply]:
        """Take the key, or return what is kept under it; a first sending that is worked on gets a moment to end."""
        for pause_s in _LOOKED_AGAIN_AFTER_S:
            was_free, kept = await self._orders.reserve(mine)
            if was_free or kept.fingerprint != mine.fingerprint or not _is_worked_on(kept):
                return was_free, kept
            await asyncio.sleep(pause_s)
        return await self._orders.reserve(mine)

    async def _first(self, handler: Handler, fingerprint: str) -> Response:
        """Carry the request out and keep the reply.

        Of several who find a key silent at once each carries it out, which makes its work once; all tell one reply.
        """
        done = False
        try:
            reply = await handler(self._request)
            if reply.status_code < 500:
                text = bytes(reply.body).decode()
                other = await asyncio.shield(self._orders.keep(self._actor, self._key, reply.status_code, text))
                done = True
                if other is not None and other.status is not None and other.fingerprint == fingerprint:
                    return _again(other, other.status)
            return reply
        finally:
            if not done:  # refused, or impossible now: the key is free for another try
                await asyncio.shield(self._orders.release(self._actor, self._key))


def _again(kept: KeptReply, status: int) -> Response:
    return Response(kept.reply, status, {"Idempotency-Replayed": "true"}, media_type="application/json")


def _is_worked_on(kept: KeptReply) -> bool:
    return kept.status is None and time.time() - kept.created_at < _WORKED_ON_S


def seed_of(first: KeptReply) -> str:
    """Return what the ids of a request's work are made of: key, request, and the time of its first sending."""
    return hashlib.sha256(f"{first.actor}|{first.key}|{first.fingerprint}|{first.created_at!r}".encode()).hexdigest()


def _checked(key: str) -> str:
    if not 0 < len(key) <= _LONGEST or not key.isprintable():
        raise ValidationError(f"{HEADER} must be 1 to {_LONGEST} printable characters", HEADER)
    return key


async def _fingerprint(request: Request) -> str:
    """Return what tells one request from another: method, path, query and body."""
    head = f"{request.method} {request.scope['path']}?{request.scope['query_string'].decode('latin-1')}\n".encode()
    return hashlib.sha256(head + await request.body()).hexdigest()
