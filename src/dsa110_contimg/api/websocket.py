"""Live updates over WebSockets: the durable queue, the runs of the pipeline, one run with its log.

``/ws/absurd``, ``/ws/pipeline`` and ``/ws/jobs/{job_id}``, each at ``/``, ``/api`` and ``/api/v1``, tell what every
worker does to every client of every API process. The gate judges who may connect, as for every read; a job that nobody
knows is refused with 404 before the socket is open.

::

    server → {"type": "connected", "topic", "client_id", "timestamp"}    and "job_id" at /ws/jobs
             {"type": "listening", "event_id"}            from now on everything is told
             {"type": "task_update", "event_id", "queue_name", "task_id", "task_name", "workflow_id",
              "update": {"status", ...}, "timestamp"}
             {"type": "queue_stats_update", "event_id", "queue_name", "stats": {"pending", ...}}
             {"type": "resync", "event_id"}               something may be missing: read the tables, then go on
             {"type": "status", "job_id", "data": {"status", "progress", "message"}, "timestamp"}
             {"type": "complete", "job_id", "data": {"success", "result", "error"}, "timestamp"}
             {"type": "progress", "job_id", "data": {"progress" (0 to 1), "stage", "message", "eta_seconds"}, ...}
             {"type": "log", "job_id", "data": {"level", "message", "source"}, ...}
             {"type": "ping", "timestamp"}                after a while without a word of the client
    client → {"type": "ping"}                             answered by {"type": "pong", "timestamp"}
             {"type": "subscribe", "topic"}               job:<id> or pipeline:all; answered by subscribed or error
             {"type": "unsubscribe", "topic"}             answered by unsubscribed

Tasks are told at ``/ws/absurd`` and ``/ws/pipeline``, states of all runs at ``/ws/pipeline``, the rest at ``/ws/jobs``.
The time of a message is that of what it tells, also when it is told again.
A client that comes back gives the last ``event_id`` it saw as ``?last_event_id=``: it gets what followed, or ``resync``
when that is not known any more; states of runs are told as they are now. Each client reads from the one log of its
process at its own pace; who does not take what is sent to it for a while is dropped, and nobody waits for it.
"""

import asyncio
import contextlib
import json
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from dsa110_contimg.api.config import TimeoutConfig
from dsa110_contimg.api.credentials import SOCKET_PROTOCOL
from dsa110_contimg.api.exceptions import AuthenticationError, DatabaseError, DSA110APIError, ValidationError
from dsa110_contimg.api.interfaces import JobRecord
from dsa110_contimg.api.middleware.bases import BASE
from dsa110_contimg.api.middleware.error_body import error_body
from dsa110_contimg.api.replies import iso_now, json_reply
from dsa110_contimg.api.services.absurd.gateway import Row
from dsa110_contimg.api.services.run_watch import Cursor
from dsa110_contimg.api.strict_json import strict_json

log = logging.getLogger(__name__)

router = APIRouter(prefix=BASE)

STATS_EVERY_S = 1.0
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNSUPPORTED_DATA = 1003
_POLICY_VIOLATION = 1008
_JOB = "job:"
_SELF = "the client itself"
MOST_TOPICS = 16

ClientId = Annotated[str | None, Query(max_length=200)]
LastEventId = Annotated[str | None, Query(max_length=80)]


@router.websocket("/ws/absurd")
async def watch_queue(websocket: WebSocket, client_id: ClientId = None, last_event_id: LastEventId = None) -> None:
    """Tell what happens in the queue."""
    await _watch(websocket, "absurd", client_id, last_event_id)


@router.websocket("/ws/pipeline")
async def watch_pipeline(websocket: WebSocket, client_id: ClientId = None, last_event_id: LastEventId = None) -> None:
    """Tell what happens in the pipeline: the changes of its tasks."""
    await _watch(websocket, "pipeline:all", client_id, last_event_id)


@router.websocket("/ws/jobs/{job_id}")
async def watch_job(
    websocket: WebSocket, job_id: str, client_id: ClientId = None, last_event_id: LastEventId = None
) -> None:
    """Tell what happens to one run, or one job of the queue: states, progress, lines of the log, the end."""
    await _watch(websocket, f"{_JOB}{job_id}", client_id, last_event_id)


async def _watch(websocket: WebSocket, topic: str, client_id: str | None, last_event_id: str | None) -> None:
    services = websocket.app.state.services
    runs = None if topic == "absurd" else services.run_watch
    try:
        if topic.startswith(_JOB):
            await services.run_watch.find(topic.removeprefix(_JOB))
        else:
            services.absurd.events.require_enabled()
        services.sockets.enter()
    except DSA110APIError as error:
        request_id = websocket.scope["state"]["request_id"]
        await websocket.send_denial_response(json_reply(error_body(error, request_id), status=error.status_code))
        return
    try:
        await websocket.accept(SOCKET_PROTOCOL if SOCKET_PROTOCOL in websocket.scope["subprotocols"] else None)
        holder = websocket.scope["state"].get("principal")
        recheck = Recheck(partial(services.access.recheck, holder)) if holder else None
        watcher = Watcher(websocket, services.absurd.events, services.sockets.timeouts, runs, recheck)
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


class Runs(Protocol):
    """Where runs are watched."""

    async def find(self, job_id: str) -> JobRecord:
        """Return a run."""

    def feeds(self, job_id: str, job: JobRecord, cursor: Cursor) -> Sequence[AsyncGenerator[Row, None]]:
        """Return what tells of a run."""

    def all_states(self) -> AsyncGenerator[Row, None]:
        """Give the states of all runs."""

    def notice(self, message: Row) -> None:
        """Look at the runs at once if a message of the queue is about their begin or end."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """How the key with which a client came is looked at again: ``ask`` raises when it is of no use any more."""

    ask: Callable[[], Awaitable[None]]
    every_s: float = 60.0


class Watcher:
    """One client that watches.

    Parameters
    ----------
    websocket : Socket
        The client.
    events : Events
        What happens in the durable queue.
    timeouts : TimeoutConfig
        How long the client may be silent, and take nothing.
    runs : Runs, optional
        Where runs are watched; without it there is nothing to subscribe to.
    recheck : Recheck, optional
        Of the key with which the client came.
    """

    def __init__(
        self, websocket: Socket, events: Events, timeouts: TimeoutConfig, runs: Runs | None = None,
        recheck: Recheck | None = None,
    ) -> None:  # fmt: skip
        self._websocket = websocket
        self._events = events
        self._runs = runs
        self._recheck = recheck
        self._ping_s = timeouts.websocket_ping
        self._patience_s = timeouts.websocket_pong
        self._sending = asyncio.Lock()
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._last_id: str | None = None
        self._topics: dict[str, list[asyncio.Task[None]]] = {}
        self._over: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()

    async def run(self, topic: str, client_id: str | None, last_event_id: str | None) -> None:
        """Talk with the client until one of the two ends it."""
        known_as = client_id if client_id and _CLIENT_ID.fullmatch(client_id) else uuid.uuid4().hex
        hello = {"type": "connected", "topic": topic, "client_id": known_as, "timestamp": iso_now()}
        if topic.startswith(_JOB):
            hello["job_id"] = topic.removeprefix(_JOB)
        try:
            await self._say(hello)
            itself = [self._hear(), *([self._keep_checking(self._recheck)] if self._recheck else [])]
            self._topics[_SELF] = [self._start(part) for part in itself]
            self._topics[topic] = [self._start(feed) for feed in await self._feeds(topic, last_event_id)]
            (await self._over).result()
        except (WebSocketDisconnect, DSA110APIError):
            pass  # it has left, or what it watched has
        except TimeoutError:
            log.info("the WebSocket client %s took nothing for %g s and is dropped", known_as, self._patience_s)
        finally:
            tasks = [task for tasks in self._topics.values() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, feed: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin a part of the conversation; when it ends by itself, all of it ends."""
        task = asyncio.create_task(feed)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and not self._over.done():
            self._over.set_result(task)
        elif not task.cancelled():
            task.exception()  # a second reason of the same end

    async def _feeds(self, topic: str, last_event_id: str | None) -> list[Coroutine[Any, Any, None]]:
        """Return what tells about a topic.

        Raises
        ------
        DSA110APIError
            There is no such topic.
        """
        if self._runs is not None and topic.startswith(_JOB):
            job_id = topic.removeprefix(_JOB)
            feeds = self._runs.feeds(job_id, await self._runs.find(job_id), Cursor.parse(last_event_id))
            return [self._tell(feed) for feed in feeds]
        if topic not in ("absurd", "pipeline:all"):
            raise ValidationError(f"there is no topic {topic[:80]!r}; there are job:<id> and pipeline:all", "topic")
        about_runs = [self._tell(self._runs.all_states())] if self._runs else []
        return [self._tell_tasks(last_event_id), self._tell_stats(), *about_runs]

    async def _tell(self, feed: AsyncGenerator[Row, None]) -> None:
        async with contextlib.aclosing(feed) as messages:
            async for message in messages:
                await self._say(message)

    async def _tell_tasks(self, last_event_id: str | None) -> None:
        async with contextlib.aclosing(self._events.follow(last_event_id)) as messages:
            async for message in messages:
                self._last_id = message["event_id"] or self._last_id
                if message["type"] == "task_update":
                    self._changed.add(message["queue_name"])
                    self._news.set()
                if self._runs:
                    self._runs.notice(message)
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
                async with asyncio.timeout(self._ping_s):
                    text = await self._websocket.receive_text()
            except TimeoutError:
                await self._say({"type": "ping", "timestamp": iso_now()})
                continue
            except KeyError:  # a binary message
                text = ""
            message = _message_of(text)
            if message is None:
                await self._websocket.close(_UNSUPPORTED_DATA, "send JSON objects with a type")
                return
            await self._answer(message)
            await asyncio.sleep(0)  # what has come already does not wait: others would, for all that one client sends

    async def _keep_checking(self, recheck: Recheck) -> None:
        """End the conversation when the key of the client has come to its end."""
        while True:
            await asyncio.sleep(recheck.every_s)
            try:
                await recheck.ask()
            except AuthenticationError:
                await self._websocket.close(_POLICY_VIOLATION, "the key has been taken back or has expired")
                return
            except DatabaseError as error:
                log.warning("the key of a WebSocket could not be checked: %s", error)

    async def _answer(self, message: Row) -> None:
        kind, topic = message.get("type"), message.get("topic")
        if kind == "ping":
            await self._say({"type": "pong", "timestamp": iso_now()})
        elif kind in ("subscribe", "unsubscribe") and self._runs is not None:
            try:
                await (self._subscribe if kind == "subscribe" else self._unsubscribe)(str(topic))
            except DSA110APIError as error:
                await self._say({"type": "error", "topic": topic, "error": error.error_code, "message": error.message})
            else:
                await self._say({"type": f"{kind}d", "topic": topic})

    async def _subscribe(self, topic: str) -> None:
        if topic in self._topics:
            return
        if len(self._topics) > MOST_TOPICS:
            raise ValidationError(f"{MOST_TOPICS} topics are all that one client can watch at once", "topic")
        self._topics[topic] = [self._start(feed) for feed in await self._feeds(topic, None)]

    async def _unsubscribe(self, topic: str) -> None:
        tasks = self._topics.pop(topic, []) if topic != _SELF else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, message: Row) -> None:
        async with asyncio.timeout(self._patience_s), self._sending:
            await self._websocket.send_text(orjson.dumps(message).decode())


def _message_of(text: str) -> Row | None:
    """Return a client's message; None when it is no JSON object."""
    try:
        message = strict_json(text)
    except json.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None
