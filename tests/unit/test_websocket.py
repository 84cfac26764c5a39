"""One who watches the queue, without a network: what is said when, and who does not have to wait for whom."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from starlette.websockets import WebSocketDisconnect

from dsa110_contimg.api.config import TimeoutConfig
from dsa110_contimg.api.exceptions import AuthenticationError, DatabaseBusyError, ServiceUnavailableError
from dsa110_contimg.api.services.absurd.events import message
from dsa110_contimg.api.services.socket_limit import SocketLimit
from dsa110_contimg.api.websocket import Recheck, Watcher

UPDATE = {
    "type": "task_update", "id": "7-0", "queue": "q", "name": "imaging", "task_id": "t", "status": "claimed",
    "happened_at": "2026-02-11T03:04:05.678+00:00",
}  # fmt: skip


class Log:
    """An event log of some messages, which then stays silent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.asked: list[str] = []

    async def follow(self, after: str | None) -> AsyncGenerator[dict[str, Any], None]:
        for told in self.messages:
            yield told
        await asyncio.Event().wait()

    async def stats(self, queue: str) -> dict[str, Any] | None:
        self.asked.append(queue)
        return {"pending": len(self.asked)} if queue == "q" else None


class Client:
    """The other end of a WebSocket; takes nothing when it is ``stuck``."""

    def __init__(self, *words: str, stuck: bool = False) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.stuck = stuck
        self._news = asyncio.Event()
        self._words: asyncio.Queue[str | None] = asyncio.Queue()
        for word in words:
            self._words.put_nowait(word)

    async def send_text(self, data: str) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.said.append(orjson.loads(data))
        self._news.set()

    async def receive_text(self) -> str:
        word = await self._words.get()
        if word is None:
            raise WebSocketDisconnect
        return word

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.closed = code

    def leave(self) -> None:
        self._words.put_nowait(None)

    async def heard(self, kind: str) -> dict[str, Any]:
        """Wait until something of a type was said and return it."""
        async with asyncio.timeout(10):
            while not (found := [told for told in self.said if told["type"] == kind]):
                self._news.clear()
                await self._news.wait()
        return found[0]


def watch(client: Client, log: Log, *, ping_s: float = 60.0, patience_s: float = 60.0) -> "asyncio.Task[None]":
    timeouts = TimeoutConfig(websocket_ping=ping_s, websocket_pong=patience_s)
    return asyncio.create_task(Watcher(client, log, timeouts).run("absurd", None, None))


async def end(client: Client, task: "asyncio.Task[None]") -> None:
    client.leave()
    await asyncio.wait_for(task, 10)


def test_an_update_of_the_log_becomes_the_message_of_the_contract() -> None:
    assert message({**UPDATE, "error": None, "attempt": 2, "worker_id": "w"}) == {
        "type": "task_update", "event_id": "7-0", "queue_name": "q", "task_id": "t", "task_name": "imaging",
        "workflow_id": None, "update": {"status": "claimed", "attempt": 2, "worker_id": "w"},
        "timestamp": "2026-02-11T03:04:05.678Z",
    }  # fmt: skip
    assert message({"type": "resync", "id": None}) == {"type": "resync", "event_id": None}


async def test_the_client_is_greeted_first_and_told_everything_in_order() -> None:
    log = Log({"type": "listening", "event_id": "6-3"}, message(UPDATE), message({**UPDATE, "id": "8-0"}))
    client = Client()
    task = watch(client, log)
    await client.heard("queue_stats_update")
    await end(client, task)
    assert [told["type"] for told in client.said[:4]] == ["connected", "listening", "task_update", "task_update"]
    assert client.said[0]["client_id"] and client.said[0]["timestamp"].endswith("Z")


async def test_counts_follow_once_for_a_crowd_of_changes_with_the_id_from_which_to_go_on() -> None:
    log = Log(*(message({**UPDATE, "id": f"{n}-0"}) for n in range(500)))
    client = Client()
    task = watch(client, log)
    told = await client.heard("queue_stats_update")
    await end(client, task)
    assert told == {"type": "queue_stats_update", "event_id": "499-0", "queue_name": "q", "stats": {"pending": 1}}
    assert log.asked == ["q"]


async def test_counts_that_cannot_be_had_are_left_out() -> None:
    log = Log(message({**UPDATE, "queue": "down"}), message(UPDATE))
    client = Client()
    task = watch(client, log)
    await client.heard("queue_stats_update")
    await end(client, task)
    assert log.asked == ["down", "q"]


async def test_who_sends_much_at_once_keeps_nobody_waiting() -> None:
    flooding, quiet = Client(*['{"type": "ping"}'] * 1000), Client('{"type": "ping"}')
    tasks = [watch(flooding, Log()), watch(quiet, Log())]
    await quiet.heard("pong")
    assert len(flooding.said) < 10
    for client, task in zip((flooding, quiet), tasks, strict=True):
        await end(client, task)
    assert [told["type"] for told in flooding.said].count("pong") == 1000


async def test_a_ping_is_answered_and_silence_is_asked_about() -> None:
    client = Client('{"type": "ping"}', '{"type": "subscribe", "topic": "x"}', "{}")
    task = watch(client, Log(), ping_s=0.1)
    assert (await client.heard("pong"))["timestamp"].endswith("Z")
    await client.heard("ping")
    await end(client, task)
    assert {told["type"] for told in client.said} == {"connected", "pong", "ping"}


@pytest.mark.parametrize("word", ["", "[1]", "7", "nonsense", '{"a": NaN}', "[" * 5000])
async def test_what_is_no_json_object_ends_the_conversation(word: str) -> None:
    client = Client(word)
    await asyncio.wait_for(watch(client, Log()), 10)
    assert client.closed == 1003


async def test_who_takes_nothing_is_dropped_and_nobody_waits_for_it() -> None:
    log = Log(*(message({**UPDATE, "id": f"{n}-0"}) for n in range(100)))
    stuck, quick = Client(stuck=True), Client()
    dropped, told = watch(stuck, log, patience_s=0.3), watch(quick, log)
    await asyncio.wait_for(dropped, 10)
    assert stuck.said == []
    await quick.heard("queue_stats_update")
    assert len([said for said in quick.said if said["type"] == "task_update"]) == 100
    await end(quick, told)


async def test_who_came_with_a_key_is_shown_out_when_it_has_been_taken_back() -> None:
    asked = []

    async def ask() -> None:
        asked.append(len(asked))
        if len(asked) == 1:
            raise DatabaseBusyError("busy")  # nobody could take it back meanwhile
        if len(asked) == 3:
            raise AuthenticationError("it is revoked")

    client, stranger = Client(), Client()
    watched = Watcher(client, Log(), TimeoutConfig(), recheck=Recheck(ask, 0.01)).run("absurd", None, None)
    other = watch(stranger, Log())
    await asyncio.wait_for(watched, 10)
    assert (client.closed, asked) == (1008, [0, 1, 2])
    assert stranger.closed is None
    await end(stranger, other)


def test_there_are_never_more_sockets_than_allowed() -> None:
    limit = SocketLimit(TimeoutConfig(), 2)
    limit.enter()
    limit.enter()
    with pytest.raises(ServiceUnavailableError, match="2 are open"):
        limit.enter()
    limit.leave()
    limit.enter()
