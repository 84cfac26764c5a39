"""What the gate, paths and keys do in moments that are rare: two at once, half a reply, a database that is away."""

import asyncio
import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from dsa110_contimg.api import archive
from dsa110_contimg.api.access_settings import AuthConfig, RateLimitConfig
from dsa110_contimg.api.audit import AuditRecord
from dsa110_contimg.api.authorization import ScopedRoute, ScopeRequirement, declared_scope, require_scope
from dsa110_contimg.api.credentials import ApiKeyRecord, Principal
from dsa110_contimg.api.exceptions import AuthenticationError, DatabaseBusyError, InvalidStateError
from dsa110_contimg.api.file_access import FileStore
from dsa110_contimg.api.file_reply import FileReply
from dsa110_contimg.api.middleware.admission import Admission, AdmissionRules, NotAdmittedError
from dsa110_contimg.api.middleware.connection import patient
from dsa110_contimg.api.middleware.exception_handler import CatchAll
from dsa110_contimg.api.middleware.exchange import Exchange, ExchangeLimits
from dsa110_contimg.api.middleware.head import Head
from dsa110_contimg.api.middleware.headers import content_policy
from dsa110_contimg.api.middleware.judge import Client
from dsa110_contimg.api.middleware.socket_connection import patient_socket
from dsa110_contimg.api.rate_limit import RateClass, RateLimitedError
from dsa110_contimg.api.readings import Rate
from dsa110_contimg.api.security import parse_address
from dsa110_contimg.api.services.access_service import AccessService, Change
from dsa110_contimg.api.services.rate_limiter import RateLimiter
from fixtures.opened_files import held

ADDRESS = Client.at(parse_address("10.1.2.3"))
WRONG_TICKET = f"ticket_{'x' * 43}"


def request_scope(**more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/x", "headers": [], "state": {"request_id": "r"}, **more}


class Sink:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)


async def nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


# --- who is let in ----------------------------------------------------------------------------------------------------


class SlowAccess:
    """Knows no key, and takes a moment to say so."""

    def __init__(self) -> None:
        self.denied = 0

    async def authenticate(self, presented: str) -> Principal:
        await asyncio.sleep(0)
        raise AuthenticationError("not known")

    async def deny(self, presented: str, change: Change) -> None:
        self.denied += 1

    async def redeem(self, ticket: str) -> Principal:
        raise AuthenticationError("not known")


async def test_wrong_keys_that_are_shown_at_once_are_counted_one_by_one() -> None:
    access = SlowAccess()
    limiter = RateLimiter(RateLimitConfig(store="memory", failed_keys=Rate(2)), "")
    admission = Admission(AdmissionRules(), limiter, lambda scope: access)
    asked = [
        admission.admit(request_scope(headers=[(b"x-api-key", b"wrong")]), ADDRESS, forwarded=False) for _ in range(5)
    ]
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(end, RateLimitedError) for end in ends] == [False, False, True, True, True]
    assert access.denied == 2


async def test_an_address_that_showed_too_many_wrong_tickets_shows_no_more() -> None:
    limiter = RateLimiter(RateLimitConfig(store="memory", failed_keys=Rate(2)), "")
    admission = Admission(AdmissionRules(), limiter, lambda scope: SlowAccess())
    for _ in range(2):
        scope = request_scope(type="websocket", subprotocols=[WRONG_TICKET])
        with pytest.raises(NotAdmittedError):
            await admission.admit(scope, ADDRESS, forwarded=False)
    with pytest.raises(RateLimitedError):
        await admission.admit(scope, ADDRESS, forwarded=False)


async def test_requests_that_miss_redis_at_once_look_for_it_once_and_are_counted_here() -> None:
    limiter = RateLimiter(RateLimitConfig(store="redis", minute=Rate(2), hour=Rate(0)), "redis://127.0.0.1:9/0")
    told = await asyncio.gather(*(limiter.hit(RateClass.STANDARD, "somebody") for _ in range(3)))
    assert [one.passed for one in told if one] == [True, True, False]
    searching = [task for task in asyncio.all_tasks() if "RateLimiter._look_for" in repr(task)]
    assert len(searching) == 1
    await limiter.close()
    assert searching[0].cancelled()


class BrokenCredentials:
    """A repository whose database is away."""

    async def add_entry(self, entry: AuditRecord) -> None:
        raise DatabaseBusyError("held")

    async def get_key(self, key_id: str) -> ApiKeyRecord | None:
        raise DatabaseBusyError("held")


async def test_a_record_that_cannot_be_written_is_said_in_the_log_and_spoils_no_reply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = AccessService(BrokenCredentials(), AuthConfig(), None)  # type: ignore[arg-type]  # nobody has a ticket
    change = Change("POST x", "/x", "10.1.2.3", "r")
    await access.deny("dsa110_0a1b2c3d4e5f_secret", change)
    await access.conclude(AuditRecord(0.0, "observer", "k", None, "POST x", "/x", "ops", "r"), 200)
    assert "a wrong key shown by 10.1.2.3 could not be recorded" in caplog.text
    assert "(status 200) could not be recorded" in caplog.text
    assert "secret" not in caplog.text


async def test_a_scope_among_other_dependencies_is_found_and_a_route_that_judged_nobody_lets_nobody_in() -> None:
    async def other() -> None:
        return None

    router = APIRouter()
    router.add_api_route("/x", other, dependencies=[Depends(other), require_scope("ops")])
    router.add_api_route("/y", other, dependencies=[Depends(other)])
    assert [declared_scope(route) for route in router.routes] == ["ops", None]
    with pytest.raises(AuthenticationError, match="must be a ScopedRoute"):
        await ScopeRequirement("ops")(Request(request_scope(app=FastAPI())))


class Kept:
    """A repository that keeps what is recorded of changes."""

    def __init__(self) -> None:
        self.entries: list[AuditRecord] = []

    async def begin_change(self, entry: AuditRecord, mark: bool) -> AuditRecord:
        self.entries.append(replace(entry, id=1))
        return self.entries[-1]

    async def add_entry(self, entry: AuditRecord) -> None:
        self.entries.append(entry)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (None, 201), (HTTPException(418), 418), (InvalidStateError("it runs"), 409), (RequestValidationError([]), 422),
        (ZeroDivisionError(), 500),
    ],
    ids=["reply", "of the framework", "of ours", "of the question", "no reply"],
)  # fmt: skip
async def test_the_record_of_a_change_says_how_it_ended_and_who_made_it(end: Exception | None, status: int) -> None:
    async def change() -> None:
        if end is not None:
            raise end

    kept, router, app = Kept(), APIRouter(route_class=ScopedRoute), FastAPI()
    router.add_api_route("/x", change, methods=["POST"], dependencies=[require_scope("ops")], status_code=201)
    app.include_router(router)
    access = AccessService(kept, AuthConfig(), None)  # type: ignore[arg-type]  # nobody has a ticket
    app.state.services = SimpleNamespace(access=access)
    sink, state = Sink(), {"principal": Principal("observer", "k", frozenset({"ops"})), "client_ip": "10.1.2.3"}
    scope = request_scope(method="POST", query_string=b"", client=("10.1.2.3", 1), app=app)
    with suppress(InvalidStateError, ZeroDivisionError):  # which have no handler here
        await app(scope | {"state": state | {"request_id": "r"}}, nothing, sink)
    assert [(entry.kind, entry.status) for entry in kept.entries] == [("begun", None), ("ended", status)]
    assert {
        (entry.actor, entry.key_id, entry.action, entry.path, entry.client_ip, entry.scope, entry.request_id)
        for entry in kept.entries
    } == {("observer", "k", "POST change", "/x", "10.1.2.3", "ops", "r")}
    assert sink.messages[0]["status"] == (500 if isinstance(end, InvalidStateError) else status)


# --- one exchange -----------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_by_itself_is_no_refusal() -> None:
    async def reading(scope: Any, receive: Any, send: Any) -> None:
        raise ClientDisconnect

    sink = Sink()
    with pytest.raises(ClientDisconnect):
        await Exchange(request_scope(), sink, ExchangeLimits(), Head(())).serve(reading, nothing)
    assert sink.messages == []


async def test_a_route_that_gives_up_on_a_refused_body_is_no_failure() -> None:
    async def reading(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    async def large() -> Any:
        return {"type": "http.request", "body": b"12345", "more_body": True}

    sink = Sink()
    await Exchange(request_scope(method="POST"), sink, ExchangeLimits(max_body_bytes=4), Head(())).serve(reading, large)
    assert [message["status"] for message in sink.messages if "status" in message] == [413]


async def test_a_body_that_stops_after_the_reply_has_begun_changes_no_reply() -> None:
    async def never() -> Any:
        await asyncio.sleep(60)

    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"done"})

    sink = Sink()
    await Exchange(request_scope(), sink, ExchangeLimits(idle_s=0.01), Head(())).serve(early, never)
    assert [message.get("status", message.get("body")) for message in sink.messages] == [200, b"done"]


async def test_what_a_route_says_after_the_refusal_of_its_body_is_not_sent() -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def large() -> Any:
        return {"type": "http.request", "body": b"12345", "more_body": True}

    sink = Sink()
    await Exchange(request_scope(method="POST"), sink, ExchangeLimits(max_body_bytes=4), Head(())).serve(
        stubborn, large
    )
    assert [message["status"] for message in sink.messages if "status" in message] == [413]
    assert all(message.get("body") != b"done" for message in sink.messages)


async def test_what_is_neither_head_nor_body_of_a_reply_is_handed_on_behind_them() -> None:
    async def speaking(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"done"})
        await send({"type": "http.response.trailers", "headers": []})

    sink = Sink()
    await Exchange(request_scope(), sink, ExchangeLimits(), Head(())).serve(speaking, nothing)
    assert [message["type"].rpartition(".")[2] for message in sink.messages] == ["start", "body", "trailers"]


async def test_a_failure_in_the_middle_of_a_reply_breaks_it() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sink = Sink()
    with pytest.raises(ZeroDivisionError):
        await CatchAll(half)(request_scope(), nothing, sink)
    assert len(sink.messages) == 1


async def test_storage_that_gives_up_in_the_middle_of_a_reply_breaks_it_and_begins_no_other() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise TimeoutError(errno.ETIMEDOUT, "the storage does not answer")

    sink = Sink()
    exchange = Exchange(request_scope(), sink, ExchangeLimits(), Head(()))
    with pytest.raises(TimeoutError, match="storage"):
        await exchange.serve(half, nothing)
    assert [message["type"].rpartition(".")[2] for message in sink.messages] == ["start", "body"]
    assert exchange.status == 200


@pytest.mark.parametrize(
    ("path", "may"),
    [("/api/docs", "'unsafe-inline'"), ("/api/docs/x.css", "data:"), ("/web/app.js", "script-src 'self'")],
)
def test_pages_may_load_what_they_need(path: str, may: str) -> None:
    assert may in content_policy(path).decode()
    assert may not in content_policy("/api/v1/images").decode()


# --- one connection ---------------------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A connection to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()
        self.closed = self.ended = self.reads = False
        self.protocol: Any = None
        self.written = b""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def abort(self) -> None:
        self.aborted.set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


def connected(idle_s: float, application: Any = silent) -> tuple[Any, Wire]:
    connection = patient(60.0, idle_s, 1024, 100)(
        config=uvicorn.Config(application, interface="asgi3", log_config=None), server_state=ServerState(), app_state={}
    )
    wire = Wire()
    connection.connection_made(wire)
    return connection, wire


def socket_to(application: Any) -> Any:
    config = uvicorn.Config(application, interface="asgi3", lifespan="off", log_config=None)
    config.load()
    link = patient_socket(60.0)(config, ServerState(), {})
    link.connection_made(Wire())
    return link


async def test_a_client_that_catches_up_is_not_dropped_and_one_that_does_not_is() -> None:
    connection, wire = connected(0.01)
    connection.pause_writing()
    connection.resume_writing()
    await asyncio.sleep(0.05)
    assert not wire.aborted.is_set()
    connection.pause_writing()
    await asyncio.wait_for(wire.aborted.wait(), 10)
    connection.connection_lost(None)


async def test_a_head_is_waited_for_whenever_no_request_is_worked_at_but_not_anew_for_each_byte() -> None:
    connection, _ = connected(60.0)
    first = connection._until_headers
    connection._watch()
    assert connection._until_headers is first
    connection.cycle = SimpleNamespace(response_complete=False, message_event=asyncio.Event())
    connection._watch()
    assert first.cancelled() and connection._until_headers is None
    connection.cycle.response_complete = True
    connection._watch()
    assert connection._until_headers is not None
    connection._upgraded = True  # now it is a WebSocket
    connection._watch()
    assert connection._until_headers is None
    connection.connection_lost(None)


async def test_nobody_waits_for_a_connection_that_is_lost() -> None:
    connection, _ = connected(60.0)
    connection.pause_writing()
    waits = [connection._until_headers, connection._until_taken]
    connection.connection_lost(None)
    assert all(wait.cancelled() for wait in waits)


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["alone", "second"])
async def test_no_head_is_waited_for_where_a_websocket_has_begun(before: bytes) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    connection, wire = connected(60.0, answer)
    waits = [connection._until_headers]
    connection.data_received(before)
    await asyncio.gather(*connection.tasks)
    connection.data_received(HANDSHAKE)
    waits.append(connection._until_headers)
    assert wire.protocol is not None and not wire.closed
    assert all(wait is None or wait.cancelled() for wait in waits)
    await asyncio.gather(*wire.protocol.tasks)
    wire.protocol.connection_lost(None)


async def test_a_handshake_with_a_body_is_refused_and_nobody_left_waiting() -> None:
    connection, wire = connected(60.0)
    connection.data_received(HANDSHAKE.replace(b"Upgrade: w", b"Content-Length: 2\r\nUpgrade: w") + b"{}")
    assert wire.closed and wire.written.startswith(b"HTTP/1.1 400 ")
    wire.protocol.connection_lost(None)


async def test_some_connections_part_from_clients_that_still_send_and_others_are_closed() -> None:
    made = [connected(60.0) for _ in range(3)]
    for connection, wire in made:
        connection.crowd, connection.most_parting, connection.parting_s = made[0][0].crowd, 2, 0.01
        connection.flow.pause_reading()
        connection._part()
        assert connection.crowd.parting == min(2, 1 + made.index((connection, wire)))
    assert [(wire.ended, wire.reads, wire.closed) for _, wire in made] == [(True, True, False)] * 2 + [
        (False, False, True)
    ]
    await asyncio.wait_for(asyncio.gather(*[wire.aborted.wait() for _, wire in made[:2]]), 10)
    for connection, _ in made:
        connection.connection_lost(None)
    assert made[0][0].crowd.parting == 0, "there is room again"
    connection, wire = connected(60.0)
    wire.close()
    connection._part()
    assert not wire.ended and connection.crowd.parting == 0, "the client has gone before"
    connection.connection_lost(None)


@pytest.mark.parametrize(
    ("method", "body", "parts"), [("POST", b"x", True), ("POST", b"xyz", False), ("GET", b"", False)]
)
async def test_a_reply_that_ends_its_connection_parts_from_who_still_sends_a_body(
    method: str, body: bytes, parts: bool
) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    connection, wire = connected(60.0, refuse)
    said = b"Content-Length: 3\r\n" if method == "POST" else b""
    connection.data_received(method.encode() + b" / HTTP/1.1\r\nHost: localhost\r\n" + said + b"\r\n" + body)
    await asyncio.gather(*connection.tasks)
    assert (wire.ended, wire.closed) == (parts, not parts)
    connection.connection_lost(None)


async def test_a_refused_handshake_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        for part, more in ((b"no", True), (b", no", False)):
            await send({"type": "websocket.http.response.body", "body": part, "more_body": more})

    link = socket_to(refuse)
    link.data_received(HANDSHAKE)
    await asyncio.gather(*link.tasks)
    link.connection_lost(None)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_nobody_waits_for_a_websocket_whose_client_has_caught_up_or_gone() -> None:
    for end in ("resume_writing", "connection_lost"):
        link = socket_to(silent)
        link.pause_writing()
        wait = link._until_taken
        link.resume_writing() if end == "resume_writing" else link.connection_lost(None)
        assert wait.cancelled()


async def test_the_client_of_a_websocket_that_has_ended_has_a_time_to_take_what_was_said_last() -> None:
    link = socket_to(silent)
    link.data_received(HANDSHAKE)
    await asyncio.gather(*link.tasks)
    wait = link._until_taken
    assert not wait.cancelled()
    link.connection_lost(None)
    assert wait.cancelled()


async def test_an_idle_connection_is_closed_and_then_cut() -> None:
    connection, wire = connected(0.01)
    connection.timeout_keep_alive_handler()
    assert wire.closed
    await asyncio.wait_for(wire.aborted.wait(), 10)
    connection.connection_lost(None)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shrinking(tmp_path: Path) -> Path:
    path = tmp_path / "x.fits"
    path.write_bytes(bytes(10_000))
    return path


async def test_a_file_that_shrinks_while_it_is_sent_breaks_the_reply(shrinking: Path) -> None:
    file = FileStore([shrinking.parent]).open(str(shrinking))
    os.truncate(shrinking, 6_000)
    sink = Sink()
    with pytest.raises(OSError, match="ended at byte 6000"):
        await FileReply(file, "application/fits", "no-store")(request_scope(), nothing, sink)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fd)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_that_was_replaced_since_it_was_announced_is_not_packed_in_part(
    tmp_path: Path, kind: archive.ArchiveFormat
) -> None:
    path, store = tmp_path / "x.fits", FileStore([tmp_path])
    path.write_bytes(bytes(10_000))
    announced = store.open(str(path))
    announced.close()
    member = archive.Member("x.fits", 10_000, announced.modified_s, lambda: store.open(str(path)))
    (tmp_path / "new").write_bytes(b"x" * 12_000)
    (tmp_path / "new").replace(path)
    with pytest.raises(OSError, match="another file"):
        list(archive.pieces(kind, [member]))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_that_shrinks_while_it_is_packed_breaks_the_archive(
    shrinking: Path, kind: archive.ArchiveFormat
) -> None:
    store = FileStore([shrinking.parent])
    announced = store.open(str(shrinking))
    member = archive.Member("x.fits", 10_000, announced.modified_s, lambda: announced)
    os.truncate(shrinking, 6_000)
    assert held(shrinking) == [str(shrinking)]
    with pytest.raises(OSError, match="ended at byte 6000"):
        list(archive.pieces(kind, [member]))
    assert held(shrinking) == []
