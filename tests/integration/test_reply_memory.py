"""Replies that a process sends again: byte for byte, never later than a write, and to nobody who may not read."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import Response

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.cache import CacheRule, CacheSettings, ReplyCache, cached, rule_of
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.db_adapters import SQLiteAdapter
from dsa110_contimg.api.exceptions import DatabaseBusyError, DatabaseConnectionError, DatabaseError, DatabaseSchemaError
from dsa110_contimg.api.generations import Generations
from dsa110_contimg.api.interfaces import Recording
from dsa110_contimg.api.middleware.bases import BASE, Bases
from dsa110_contimg.api.reply_memory import KeptReply, ReplyMemory
from dsa110_contimg.api.route_index import RouteIndex
from dsa110_contimg.api.tally import Tally
from dsa110_contimg.api.validation import StrictRoute
from fixtures.api_server import Served, segments, serving
from fixtures.api_world import GROUP_ID, World, build, recordings, settings
from fixtures.live_api import add_keys
from fixtures.twins import copy_database, put_in_place
from fixtures.writers import write_earlier_database

#: Written in the transaction of another table, which is declared.
FOLLOWS = {"provenance_files": "provenance"}
#: Made of the counts that are kept with each write of a table, not of its rows.
ONLY_COUNTED = {"/api/v1/stats"}


@pytest.fixture
def world(each_database: dict[str, str], tmp_path: Path) -> World:
    return asyncio.run(build(settings(tmp_path / "state", REDIS_CACHE_ENABLED="false", **each_database)))


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Served]:
    world = await build(settings(tmp_path / "state", REDIS_CACHE_ENABLED="false"))
    async with serving(world.config, names=segments(world), world=world) as found:
        yield found


def kept_routes(served: Served) -> dict[str, CacheRule]:
    """Return the address and the rule of every route whose replies may be kept."""
    nouns = {"image_id": "image", "source_id": "source", "run_id": "run", "ms_id": "ms", "table_id": "table"}
    found = {}
    for route in iter_route_contexts(served.app.routes):
        rule = rule_of(route.endpoint) if route.endpoint else None
        if rule and route.path_format:
            address = route.path_format
            for name, noun in nouns.items():
                address = address.replace(f"{{{name}}}", f"{{{noun}}}")
            found[address] = rule
    served.names["table"] = served.world.caltable_path.replace("/", "%2F")
    return found


async def said(served: Served, address: str) -> str:
    reply = await served.get(address)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-cache"]


async def test_every_kept_route_answers_again_byte_for_byte(served: Served) -> None:
    routes = kept_routes(served)
    assert len(routes) > 20
    for address in routes:
        first, second = await served.get(address), await served.get(address)
        template = served.route
        assert (first.status_code, first.headers["x-cache"], second.headers["x-cache"]) == (200, "off", "memory"), (
            address
        )
        assert first.content == second.content
        ours = ("x-cache", "x-request-id")
        assert [(name, value) for name, value in first.headers.items() if name not in ours] == [
            (name, value) for name, value in second.headers.items() if name not in ours
        ]
        assert (await served.get(address, If_None_Match=second.headers["etag"])).status_code == 304
        head = await served.client.head(served.address(address))
        assert (head.content, head.headers["content-length"]) == (b"", second.headers["content-length"])
        assert template, "requests are counted by their route"


async def test_a_kept_route_names_the_tables_of_its_replies_and_no_others(on_sqlite: Served) -> None:
    adapter: SQLiteAdapter = on_sqlite.app.state.services.images.images._adapter
    asked: list[str] = []
    unnamed: dict[str, set[str]] = {}
    unread: dict[str, set[str]] = {}
    for connection in adapter._open:
        await connection._raw.set_trace_callback(asked.append)
    await on_sqlite.json("/api/v1/images/{image}/versions")  # opens the connection in the loop
    assert adapter._prompt._connection is not None
    adapter._prompt._connection.set_trace_callback(asked.append)
    with closing(sqlite3.connect(adapter.path)) as file:
        for address, rule in kept_routes(on_sqlite).items():
            asked.clear()
            for each in {address, address.replace("{ms}", GROUP_ID)}:  # by its path, and by its short id
                assert (await on_sqlite.get(each)).status_code == 200
            assert asked, address
            read = {FOLLOWS.get(table, table) for statement in asked for table in tables_of(file, statement)}
            read.discard("alembic_version")  # by a write meanwhile, of the monitor
            unnamed[address] = read - {*rule.tables, "table_counts", "table_generations"}
            unread[address] = set() if address in ONLY_COUNTED else {*rule.tables} - read
    assert {address: tables for address, tables in unnamed.items() if tables} == {}
    assert {address: tables for address, tables in unread.items() if tables} == {}, "their writes end replies in vain"


def tables_of(file: sqlite3.Connection, statement: str) -> set[str]:
    """Return the tables that SQLite reads for a statement."""
    read: set[str] = set()

    def note(action: int, table: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            read.add(table)
        return sqlite3.SQLITE_OK

    file.set_authorizer(note)
    if statement.startswith("SELECT"):
        file.execute(f"EXPLAIN {statement}")
    file.set_authorizer(None)
    return read


async def test_the_first_question_after_a_write_sees_it_and_other_replies_stay(served: Served) -> None:
    for address in ("/api/v1/images/{image}", "/api/v1/images", "/api/v1/cal"):
        await said(served, address)
        assert await said(served, address) == "memory"
    whole = recordings(served.world)[0]
    config = served.world.config
    for noise_jy in (0.5, 0.25):
        async with open_database(config.database, config.timeouts) as adapter:
            await AsyncProductRecorder(adapter).record(Recording(image=replace(whole.image, noise_jy=noise_jy)))
        assert (await served.json("/api/v1/images/{image}"))["noise_jy"] == noise_jy
        assert (await served.json("/api/v1/images"))[0]["noise_jy"] == noise_jy
        assert await said(served, "/api/v1/cal") == "memory"


async def test_questions_are_told_apart(served: Served) -> None:
    addresses = ("/api/v1/images", "/api/v1/images?limit=1", "/api/images?limit=1", "/api/v1/images?fields=id")
    replies = {address: [await served.get(address) for _ in range(2)] for address in addresses}
    for first, second in replies.values():
        assert (second.headers["x-cache"], first.content) == ("memory", second.content)
    assert replies["/api/v1/images"][1].json() != replies["/api/v1/images?fields=id"][1].json()
    for address in ("/api/v1/images/999", "/api/v1/images?limt=1", "/api/v1/images?limit=0"):
        assert len({(await served.get(address)).status_code for _ in range(2)} & {404, 400, 422}) == 1


async def test_a_database_that_is_gone_has_no_kept_replies(on_sqlite: Served) -> None:
    path = on_sqlite.world.config.database.products_path
    for _ in range(3):
        await said(on_sqlite, "/api/v1/images")
    aside = path.rename(path.with_name("aside"))
    for _ in range(2):
        assert (await on_sqlite.get("/api/v1/images")).status_code == 503
    aside.rename(path)
    assert (await on_sqlite.get("/api/v1/images")).headers["x-cache"] == "off"


async def test_a_reply_made_after_a_backup_is_not_sent_when_that_is_restored(on_sqlite: Served, tmp_path: Path) -> None:
    path, backup = on_sqlite.world.config.database.products_path, tmp_path / "backup"
    before = await on_sqlite.json("/api/v1/images")
    copy_database(path, backup)
    whole = recordings(on_sqlite.world)[0]
    async with open_database(on_sqlite.world.config.database) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(image=replace(whole.image, noise_jy=0.5)))
    assert (await on_sqlite.json("/api/v1/images?limit=5"))[0]["noise_jy"] == 0.5
    copy_database(backup, path)
    assert await on_sqlite.json("/api/v1/images?limit=5") == before


async def test_a_file_that_takes_the_place_of_another_has_its_own_replies(on_sqlite: Served, tmp_path: Path) -> None:
    path, other = on_sqlite.world.config.database.products_path, tmp_path / "other"
    copy_database(path, other)
    with closing(sqlite3.connect(other)) as file:
        file.execute("UPDATE images SET noise_jy = 0.5")
        file.commit()
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    addresses = [f"/api/v1/images?limit={number}" for number in (1, 2, 3)]
    for address in addresses:
        assert (await on_sqlite.json(address))[0]["noise_jy"] != 0.5
    put_in_place(path, other)
    for address in addresses:  # the first opens the file, the next are asked of it
        assert (await on_sqlite.json(address))[0]["noise_jy"] == 0.5


async def test_a_reply_is_not_kept_if_another_file_was_read_meanwhile_although_the_first_is_back(
    on_sqlite: Served, tmp_path: Path
) -> None:
    path, generations = on_sqlite.world.config.database.products_path, on_sqlite.app.state.services.generations
    await on_sqlite.json("/api/v1/images")
    copy_database(path, tmp_path / "other")
    for replaced in (False, True):
        asked: dict[str, Any] = {"state": {}}
        seen = await generations.of(asked)
        if replaced:
            first = put_in_place(path, tmp_path / "other")
            await on_sqlite.json("/api/v1/images")
            put_in_place(path, first)
        assert await generations.still(asked, ["images"]) is not replaced
        assert await generations.of({"state": {}}) == seen


async def test_nothing_is_kept_of_a_file_that_numbers_no_writes(on_sqlite: Served, tmp_path: Path) -> None:
    path = on_sqlite.world.config.database.products_path
    copy_database(path, tmp_path / "ours")
    ours = await on_sqlite.json("/api/v1/images")
    for turn in range(2):
        rows = {"images": [{"path": f"/{turn}.fits", "ms_path": "/a.ms", "created_at": 1.0, "type": "5min"}]}
        put_in_place(path, write_earlier_database(tmp_path / f"{turn}", "U", rows))
        assert [image["path"] for image in await on_sqlite.json("/api/v1/images?limit=9")] == [f"/{turn}.fits"]
        copy_database(tmp_path / "ours", tmp_path / f"ours{turn}")
        put_in_place(path, tmp_path / f"ours{turn}")
        reply = await on_sqlite.get("/api/v1/cal")
        assert reply.status_code == 200, reply.text
    assert await on_sqlite.json("/api/v1/images?limit=9") == ours


async def test_who_may_not_read_gets_no_kept_reply(tmp_path: Path) -> None:
    world = await build(settings(tmp_path / "state", REDIS_CACHE_ENABLED="false", DSA110_READ_NEEDS_KEY="true"))
    async with serving(world.config, names=segments(world), world=world) as served:
        key = (await add_keys(world.config))["read"]
        told = [(await served.get("/api/v1/images", X_API_Key=key)).headers["x-cache"] for _ in range(2)]
        assert told == ["off", "memory"]
        assert (await served.get("/api/v1/images")).status_code == 401


async def test_what_was_told_to_one_client_alone_is_told_to_no_other(tmp_path: Path) -> None:
    origins = {"DSA110_CORS_ORIGINS": "https://one.example,https://two.example", "REDIS_CACHE_ENABLED": "false"}
    world = await build(settings(tmp_path / "state", **origins))
    async with serving(world.config, names=segments(world), world=world) as served:
        await served.client.head("/api/v1/images", headers={"Origin": "https://one.example", "X-Request-ID": "first"})
        for name in ("https://two.example", "https://other.example", None):
            reply = await served.get("/api/v1/images", **({"Origin": name} if name else {}))
            allowed = reply.headers.get("access-control-allow-origin")
            assert (reply.headers["x-cache"], allowed) == ("memory", name if name == "https://two.example" else None)
            assert reply.json() and reply.headers["x-request-id"] != "first"
        tag = {"If_None_Match": reply.headers["etag"]}
        for address in ("/api/v1/ms", "/api/v1/images"):
            await served.get(address, If_None_Match="*")
            whole = await served.get(address, Range="bytes=0-1", Accept="text/html", If_Modified_Since="x")
            assert (whole.status_code, whole.headers["x-cache"], bool(whole.json())) == (200, "memory", True)
        assert (await served.get("/api/v1/images", **tag)).content == b""


async def test_odd_addresses_get_the_reply_that_they_would_get_first(on_sqlite: Served) -> None:
    odd = (
        "//images",
        "/images/",
        "/images/.",
        "/x/../images",
        "/%69mages?",
        "/images%3Flimit=1",
        "/images?limit=1&limit=1",
    )
    cold = [await on_sqlite.get(f"/api/v1{address}") for address in odd]
    for address in ("/api/v1/images", "/api/v1/images?limit=1"):
        await said(on_sqlite, address)
    warm = [await on_sqlite.get(f"/api/v1{address}") for address in odd]
    for first, second in zip(cold, warm, strict=True):
        assert (first.status_code, first.headers.get("etag")) == (second.status_code, second.headers.get("etag"))


async def test_it_can_be_emptied_and_switched_off(tmp_path: Path, redis_url: str) -> None:
    world = await build(settings(tmp_path / "state", REDIS_URL=redis_url, DSA110_CACHED_REPLIES="stats"))
    async with serving(world.config, names=segments(world), world=world) as served:
        keys = await add_keys(world.config)
        for path in ("clear", "invalidate/images:*"):
            assert [await said(served, "/api/v1/images") for _ in range(2)] == ["off", "memory"]
            reply = await served.client.post(f"/api/v1/cache/{path}", headers={"X-API-Key": keys["ops"]})
            assert reply.status_code == 200, reply.text
        assert await said(served, "/api/v1/images") == "off"
        assert (await served.json("/api/v1/cache"))["hits"] == 2
    config = settings(tmp_path / "state", REDIS_CACHE_ENABLED="false", DSA110_REPLY_MEMORY_MB="0")
    async with serving(config, names=segments(world), world=world) as served:
        assert [await said(served, "/api/v1/images") for _ in range(2)] == ["off", "off"]


# --- the memory by itself -----------------------------------------------------------------------------------------

RULE = CacheRule("tests", ("images",))
QUESTION = ("/images", b"")


@dataclass
class Database:
    """Numbers of writes, as somebody else changes them."""

    numbers: dict[str, int] = field(default_factory=lambda: {"images": 1})
    error: DatabaseError | None = None
    times: int = 0
    is_slow: bool = False
    read_only = False
    turn = 0

    def write_mark(self) -> None:
        return None

    async def get_generations(self) -> dict[str, int]:
        self.times += 1
        if self.is_slow:
            await asyncio.sleep(0.05)
        if self.error:
            raise self.error
        return dict(self.numbers)


def memory(database: Any, tmp_path: Path, most_bytes: int = 1 << 20, life_s: int = 60) -> ReplyMemory:
    return ReplyMemory(Generations(database, database), most_bytes, life_s, Tally(tmp_path))


async def look(kept: ReplyMemory) -> Mapping[str, int]:
    return await kept._generations.of({"state": {}})


async def find(kept: ReplyMemory, question: tuple[str, bytes] = QUESTION) -> KeptReply | None:
    return await kept.recall({"path": question[0], "query_string": question[1], "state": {}})


async def ask(kept: ReplyMemory, question: tuple[str, bytes] = QUESTION, body: bytes = b"x") -> bytes | None:
    """Return the kept reply, else None and keep one."""
    found = await find(kept, question)
    if found is None:
        kept.keep(question, RULE, await look(kept), {}, Response(body))
        return None
    return found.body


async def test_what_was_made_while_somebody_wrote_is_made_again(tmp_path: Path) -> None:
    database = Database()
    kept = memory(database, tmp_path)
    seen = await look(kept)
    database.numbers["images"] = 2  # after the question, before the rows were read or after: nobody knows
    kept.keep(QUESTION, RULE, seen, {}, Response(b"of some moment"))
    assert await find(kept, QUESTION) is None
    assert (await ask(kept), await ask(kept)) == (None, b"x")


@asynccontextmanager
async def asked(
    endpoint: Callable[[], Awaitable[Response]], kept: ReplyMemory, url: str | None = None
) -> AsyncIterator[Callable[[], Awaitable[httpx.Response]]]:
    """Give what asks an application of one route whose replies are kept, in Redis too if its address is given."""
    router = APIRouter(route_class=StrictRoute)
    router.get("/images")(cached("tests", "images")(endpoint))
    app = FastAPI()
    app.include_router(router, prefix=BASE)
    app.router.routes.insert(0, RouteIndex(app.routes, BASE))
    app.add_middleware(Bases)
    rules = CacheSettings(url or "redis://localhost", uuid4().hex, bool(url), frozenset(["tests"]), patience_s=20)
    cache = ReplyCache(rules, Tally(kept._tally.directory))
    app.state.services = SimpleNamespace(cache=cache, memory=kept, generations=kept._generations)

    async def recalling(scope: Any, receive: Any, send: Any) -> None:
        """Do what the gate does."""
        scope.setdefault("state", {})
        assert await kept.recall(scope) is None
        await app(scope, receive, send)

    transport = httpx.ASGITransport(recalling, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield lambda: client.get(f"{BASE}/images")
    await cache.close()


async def test_a_reply_during_which_somebody_wrote_is_made_again(tmp_path: Path) -> None:
    database = Database()
    kept = memory(database, tmp_path)

    async def answer() -> Response:
        database.numbers["images"] += 1  # the rows were read before
        return Response(b"of before")

    async with asked(answer, kept) as ask_it:
        assert (await ask_it()).content == b"of before"
    assert await find(kept, (f"{BASE}/images", b"")) is None


async def test_a_reply_during_which_somebody_wrote_is_not_that_of_a_backup_of_before(
    tmp_path: Path, redis_url: str
) -> None:
    database = Database()
    kept = memory(database, tmp_path)
    rows = "before"

    async def answer() -> Response:
        nonlocal rows
        database.numbers["images"], rows = 2, "after"
        return Response(rows.encode())

    async with asked(answer, kept, redis_url) as ask_it:
        assert (await ask_it()).content == b"after"
        database.numbers["images"], rows = 1, "before"  # as it was restored
        assert await find(kept, (f"{BASE}/images", b"")) is None
        assert (await ask_it()).headers["x-cache"] == "miss"


async def test_the_numbers_are_read_once_before_and_after_a_reply_whoever_keeps_it(
    tmp_path: Path, redis_url: str
) -> None:
    database = Database()
    kept = memory(database, tmp_path)

    async def answer() -> Response:
        return Response(b"x")

    async with asked(answer, kept, redis_url) as ask_it:
        for result, times in (("miss", 2), ("miss", 4), ("miss", 6)):
            assert ((await ask_it()).headers["x-cache"], database.times) == (result, times)
            database.numbers["images"] += 1  # what is kept is outdated
    for enabled in (None, redis_url):
        database.times = 0
        async with asked(answer, memory(database, tmp_path, most_bytes=0), enabled) as ask_it:
            await ask_it()
        assert database.times == (2 if enabled else 0)


async def test_a_database_that_does_not_answer_is_waited_for_once(tmp_path: Path) -> None:
    made: list[str] = []

    async def answer() -> Response:
        made.append("x")
        return Response(b"x")

    database = Database(error=DatabaseConnectionError("It does not answer", "products"))
    async with asked(answer, memory(database, tmp_path)) as ask_it:
        with pytest.raises(DatabaseConnectionError):
            await ask_it()
        assert made == []
        database.error = DatabaseSchemaError("It is not of this version", "products")
        assert ((await ask_it()).content, made) == (b"x", ["x"]), "its route says what is wrong, if anything is"


async def test_a_reply_ends_with_its_time_and_failures_are_not_kept(tmp_path: Path) -> None:
    kept = memory(Database(), tmp_path, life_s=0)
    assert [await ask(kept) for _ in range(2)] == [None, None]
    lasting = memory(Database(), tmp_path)
    lasting.keep(QUESTION, RULE, await look(lasting), {}, Response(b"no", 404))
    assert await find(lasting, QUESTION) is None


async def test_memory_has_a_bound_and_what_was_not_asked_for_longest_goes_first(tmp_path: Path) -> None:
    kept = memory(Database(), tmp_path, most_bytes=120_000)
    for number in range(10):
        await ask(kept, (f"/{number}", b""), b"x" * 4_000)
        assert await ask(kept, ("/0", b"")) in (None, b"x" * 4_000)
    for number in range(10, 30):
        assert await ask(kept, ("/0", b"")) is not None
        await ask(kept, (f"/{number}", b""), b"x" * 4_000)
    assert await find(kept, ("/5", b"")) is None
    assert await ask(kept, ("/large", b""), b"x" * 50_000) is None
    assert await find(kept, ("/large", b"")) is None


async def test_a_long_question_takes_as_much_memory_as_a_long_reply(tmp_path: Path) -> None:
    kept = memory(Database(), tmp_path, most_bytes=200_000)
    for number in range(100):
        await ask(kept, (f"/{number}", b"limit=1&" * 1000))
    assert sum([await find(kept, (f"/{number}", b"limit=1&" * 1000)) is not None for number in range(100)]) < 25


async def test_where_nobody_numbers_the_writes_nothing_is_kept(tmp_path: Path) -> None:
    database = Database({})
    kept = memory(database, tmp_path)
    assert [await ask(kept) for _ in range(2)] == [None, None]
    database.numbers = {"images": 0}
    assert await ask(kept) is None
    assert await ask(kept) == b"x"
    database.numbers = {}  # the file was replaced by one of the earlier pipeline
    assert await ask(kept) is None


async def test_numbers_that_are_not_told_are_waited_for_together_and_once(tmp_path: Path) -> None:
    """The gate sets no bound for a kept reply; the database has its own, and then the route says what is wrong."""
    database = Database()
    kept = memory(database, tmp_path)
    for number in range(3):
        await ask(kept, (f"/{number}", b""))
    database.is_slow, before = True, database.times
    database.error = DatabaseBusyError("It did not finish a statement in time", "products")
    assert await asyncio.gather(*(find(kept, (f"/{number}", b"")) for number in range(3))) == [None] * 3
    assert database.times == before + 1
    database.is_slow, database.error = False, None
    assert await find(kept, ("/1", b"")) is None, "it was forgotten, so that its next question asked nothing"


async def test_a_database_that_cannot_be_asked_is_waited_for_once(tmp_path: Path) -> None:
    database = Database()
    kept = memory(database, tmp_path)
    for number in range(3):
        await ask(kept, (f"/{number}", b""))
    database.error = DatabaseConnectionError("It does not answer", "products")
    assert await find(kept, ("/0", b"")) is None
    database.error = None
    assert await find(kept, ("/1", b"")) is None, "it was forgotten, so that its next question asked nothing"


class Seen:
    """A witness who may be wrong."""

    right = True

    def holds(self) -> bool:
        return self.right


async def test_what_is_made_of_a_file_is_kept_with_its_witness_and_as_long_as_that_holds(tmp_path: Path) -> None:
    kept, witness, rule = memory(Database(), tmp_path), Seen(), replace(RULE, witnessed=True)
    kept.keep(QUESTION, rule, await look(kept), {}, Response(b"x"))
    assert await find(kept) is None, "nobody can tell whether the file is the same"
    kept.keep(QUESTION, rule, await look(kept), {}, Response(b"x"), witness)
    assert await find(kept) is not None
    for witness.right in (False, True):
        assert await find(kept) is None, "it is gone for good"


async def test_a_kept_reply_is_of_its_whole_question_of_all_its_tables_and_of_the_life_of_its_kind(
    tmp_path: Path,
) -> None:
    database = Database({"images": 1, "jobs": 1})
    kept = memory(database, tmp_path, life_s=0)
    rule = CacheRule("images:list", ("images", "jobs"))  # a kind with a life of its own
    reply = Response(b"x", headers={"X-Cache": "miss"})
    kept.keep(("/images", b"limit=1"), rule, await look(kept), {"route_template": "/images"}, reply)
    assert [await find(kept, ("/images", query)) for query in (b"", b"limit=2")] == [None, None]
    scope: dict[str, Any] = {"path": "/images", "query_string": b"limit=1", "state": {}}
    found = await kept.recall(scope)
    assert found is not None and scope["route_template"] == "/images"
    assert [value for name, value in found.headers if name == b"x-cache"] == [b"memory"]
    assert kept._counters["images:list"].value == 1
    database.numbers["jobs"] = 2
    assert await find(kept, ("/images", b"limit=1")) is None


async def test_what_is_forgotten_while_somebody_asks_for_it_is_not_known(tmp_path: Path) -> None:
    database = File()
    kept = memory(database, tmp_path)
    await ask(kept)
    database.write()
    database.meanwhile = kept.forget
    assert await find(kept) is None


async def test_the_memory_that_is_taken_is_that_of_what_is_kept_whatever_happens(tmp_path: Path) -> None:
    database, chance = Database(), random.Random(3)
    kept = memory(database, tmp_path, most_bytes=100_000)
    for _ in range(400):
        question = (f"/{chance.randrange(20)}", b"q" * chance.choice((0, 2000)))
        what = chance.random()
        if what < 0.02:
            kept.forget()
        elif what < 0.1:
            database.numbers["images"] += 1
        elif what < 0.4:
            kept.keep(question, RULE, await look(kept), {}, Response(b"x" * chance.randrange(6000)))
        else:
            await ask(kept, question, b"x" * chance.randrange(6000))
        sizes = [
            len(path) + len(query) + len(each.body) + sum(len(name) + len(value) for name, value in each.headers)
            for (path, query), each in kept._kept.items()
        ]
        assert kept._size_bytes == sum(each.size_bytes for each in kept._kept.values())
        assert sum(sizes) + 1900 * len(sizes) <= kept._size_bytes <= 100_000


@dataclass
class File(Database):
    """A database that tells of each write at once, as SQLite does."""

    mark: int = 0
    meanwhile: Callable[[], None] = field(default=lambda: None)

    def write_mark(self) -> int:  # type: ignore[override]
        return self.mark

    def write(self) -> None:
        self.mark, self.numbers["images"] = self.mark + 1, self.numbers["images"] + 1

    async def get_generations(self) -> dict[str, int]:
        found = await super().get_generations()
        self.meanwhile()
        return found


async def test_numbers_are_read_after_each_write_once_and_again_after_one_that_came_while_they_were_read() -> None:
    file: Any = File()
    numbers = Generations(file, file)
    assert [(await numbers())["images"] for _ in range(3)] == [1, 1, 1]
    file.write()
    assert [(await numbers())["images"] for _ in range(3)] == [2, 2, 2]
    assert file.times == 2
    file.write()
    file.meanwhile = file.write
    await numbers()
    file.meanwhile = lambda: None
    assert [(await numbers())["images"] for _ in range(2)] == [4, 4]
    file.write()
    file.error = DatabaseConnectionError("It does not answer", "products")
    for _ in range(2):
        with pytest.raises(DatabaseConnectionError):
            await numbers()
    file.error = None
    assert (await numbers())["images"] == 5


@pytest.mark.parametrize("kind", [Database, File])
async def test_of_a_file_of_the_earlier_pipeline_no_numbers_are_told_also_when_it_came_while_they_were_read(
    kind: type[Database],
) -> None:
    database: Any = kind()
    numbers = Generations(database, database)
    assert await numbers() == {"images": 1}
    database.read_only = True
    assert await numbers() == {}

    class Replaced(Database):
        async def get_generations(self) -> dict[str, int]:
            self.read_only = True
            return await super().get_generations()

    replaced: Any = Replaced()
    assert await Generations(replaced, replaced)() == {}


async def test_a_reply_is_right_still_if_none_of_its_tables_was_written_and_that_is_known() -> None:
    database: Any = Database({"images": 1, "jobs": 1, "sources": 1})
    numbers = Generations(database, database)

    async def still(**change: Any) -> bool:
        scope: dict[str, Any] = {"state": {}}
        await numbers.of(scope)
        for name, value in change.items():
            setattr(database, name, value)
        found = await numbers.still(scope, ("images", "jobs"))
        database.numbers, database.error = {"images": 1, "jobs": 1, "sources": 1}, None
        assert await numbers.still(scope, ("images", "jobs")) == found, "it is looked at once"
        return found

    assert await still(numbers={"images": 1, "jobs": 1, "sources": 2})
    assert not await still(numbers={"images": 1, "jobs": 2, "sources": 1})
    assert not await still(numbers={"images": 2, "jobs": 1, "sources": 1})
    assert not await still(numbers={})
    assert not await still(error=DatabaseConnectionError("It does not answer", "products"))
    assert not await still(turn=7)
    database.numbers = {}
    assert not await still()
