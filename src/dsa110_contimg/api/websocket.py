"""Live updates of the durable queue over WebSockets.

``/ws/absurd`` and ``/ws/pipeline``, each at ``/``, ``/api`` and ``/api/v1``, tell the same: every change of every task,
from every worker, to every client of every API process. The gate judges who may connect, as for every read.

::

    server → {"type": "connected", "topic", "client_id", "timestamp"}
             {"type": "listening", "event_id"}            from now on everything is told
             {"type": "task_update", "event_id", "queue_name", "task_id", "task_name", "workflow_id",
              "update": {"status", ...}}
             {"type": "queue_stats_update", "event_id", "queue_name", "stats": {"pending", ...}}
             {"type": "resync", "event_id"}               something may be missing: read the tables, then go on
             {"type": "ping", "timestamp"}                after a while without a word of the client
    client → {"type": "ping"}                             answered by {"type": "pong", "timestamp"}

A client that comes back gives the last ``event_id`` it saw as ``?last_event_id=``: it gets what followed, or ``resync``
when that is not known any more. Each client reads from the one log of its process at its own pace; who does not take
what is sent to it for a while is dropped, and nobody waits for it.
"""

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from dsa110_contimg.api.config import TimeoutConfig
from dsa110_contimg.api.exceptions import QueueDisabledError, ServiceUnavailableError
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.replies import json_reply
from dsa110_contimg.api.services.absurd.gateway import Row

log = logging.getLogger(__name__)

router = APIRouter()

STATS_EVERY_S = 1.0
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNSUPPORTED_DATA = 1003

ClientId = Annotated[str | None, Query(max_length=200)]
LastEventId = Annotated[str | None, Query(max_length=64)]


@router.websocket("/ws/absurd")
async def watch_queue(websocket: WebSocket, client_id: ClientId = None, last_event_id: LastEventId = None) -> None:
    """Tell what happens in the queue."""
    await _watch(websocket, "absurd", client_id, last_event_id)


@router.websocket("/ws/pipeline")
async def watch_pipeline(websocket: WebSocket, client_id: ClientId = None, last_event_id: LastEventId = None) -> None:
    """Tell what happens in the pipeline: the changes of its tasks."""
    await _watch(websocket, "pipeline:all", client_id, last_event_id)


async def _watch(websocket: WebSocket, topic: str, client_id: str | None, last_event_id: str | None) -> None:
    services = websocket.app.state.services
    try:
        services.absurd.events.require_enabled()
        services.sockets.enter()
    except ServiceUnavailableError as error:
        request_id = websocket.scope["state"]["request_id"]
        await websocket.send_denial_response(json_reply(error_body(error, request_id), status=error.status_code))
        return
    try:
        await websocket.accept()
        watcher = Watcher(websocket, services.absurd.events, services.sockets.timeouts)
        await watcher.run(topic, client_id, last_event_id)
    finally:
        services.sockets.leave()


class Socket(Protocol):
    """What is asked of a WebSocket."""

    async def send_text(self, data: str) -> None:
        """Send a text; wait while the client does not take it."""

    async def receive_text(self) -> str:
        """Return the next text of the client."""

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close it."""


class Events(Protocol):
    """Where what happens is told."""

    def follow(self, after: str | None) -> AsyncGenerator[Row, None]:
        """Give messages as things happen."""

    async def stats(self, queue: str) -> Row | None:
        """Return the counts of a queue."""


class Watcher:
    """One client that watches."""

    def __init__(self, websocket: Socket, events: Events, timeouts: TimeoutConfig) -> None:
        self._websocket = websocket
        self._events = events
        self._ping_s = timeouts.websocket_ping
        self._patience_s = timeouts.websocket_pong
        self._sending = asyncio.Lock()
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._last_id: str | None = None

    async def run(self, topic: str, client_id: str | None, last_event_id: str | None) -> None:
        """Talk with the client until one of the two ends it."""
        known_as = client_id if client_id and _CLIENT_ID.fullmatch(client_id) else uuid.uuid4().hex
        hello = {"type": "connected", "topic": topic, "client_id": known_as, "timestamp": _now()}
        work = (self._greet_and_tell(hello, last_event_id), self._tell_stats(), self._hear())
        tasks = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, QueueDisabledError):
            pass  # it has left
        except TimeoutError:
            log.info("the WebSocket client %s took nothing for %g s and is dropped", known_as, self._patience_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _greet_and_tell(self, hello: Row, last_event_id: str | None) -> None:
        await self._say(hello)
        async with contextlib.aclosing(self._events.follow(last_event_id)) as messages:
            async for message in messages:
                self._last_id = message["event_id"] or self._last_id
                if message["type"] == "task_update":
                    self._changed.add(message["queue_name"])
                    self._news.set()
                await self._say(message)

    async def _tell_stats(self) -> None:
        """Tell the counts of the queues in which something changed, a little later: changes come in crowds."""
        while True:
            await self._news.wait()
            await asyncio.sleep(STATS_EVERY_S)
            self._news.clear()
            changed, self._changed = self._changed, set()
            for queue in sorted(changed):
                event_id, stats = self._last_id, await self._events.stats(queue)
                if stats is not None:
                    told = {"type": "queue_stats_update", "event_id": event_id, "queue_name": queue, "stats": stats}
                    await self._say(told)

    async def _hear(self) -> None:
        """Answer the client; ask for a word when there was none for long."""
        while True:
            try:
                text = await asyncio.wait_for(self._websocket.receive_text(), self._ping_s)
            except TimeoutError:
                await self._say({"type": "ping", "timestamp": _now()})
                continue
            except KeyError:  # a binary message
                text = ""
            kind = _type_of(text)
            if kind is None:
                await self._websocket.close(_UNSUPPORTED_DATA, "send JSON objects with a type")
                return
            if kind == "ping":
                await self._say({"type": "pong", "timestamp": _now()})

    async def _say(self, message: Row) -> None:
        async with asyncio.timeout(self._patience_s), self._sending:
            await self._websocket.send_text(orjson.dumps(message).decode())


def _type_of(text: str) -> Any:
    """Return the type of a client's message, an empty text when it has none; None when it is no JSON object."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return message.get("type", "") if isinstance(message, dict) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
