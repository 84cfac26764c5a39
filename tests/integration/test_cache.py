"""Kept replies: fresh after every write, gone without a trace when Redis is, and never in the way of other keys."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis
from starlette.requests import Request
from starlette.responses import Response

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.cache import TTLS_S, CacheRule, CacheSettings, ReplyCache, cached
from dsa110_contimg.api.config import CACHED
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.interfaces import Recording
from dsa110_contimg.api.tally import Tally
from fixtures.api_server import Served, segments, serving
from fixtures.api_world import World, build, recordings, settings
from fixtures.live_api import add_keys

RULE = CacheRule("images:list", ("images",))
SEEN = {"images": 1}
#: A busy machine may keep Redis waiting for longer than a client should.
PATIENT = {"DSA110_TIMEOUT_CACHE": "20"}
#: What one process remembers by itself (test_reply_memory.py) would hide what Redis does.
FORGETFUL = {"DSA110_REPLY_MEMORY_MB": "0"}
KEPT = (
    "/api/v1/stats", "/api/v1/images", "/api/v1/images/{image}", "/api/v1/sources", "/api/v1/sources/{source}",
    "/api/v1/jobs", "/api/v1/ms/{ms}/metadata", "/api/v1/ms/{ms}/calibrator-matches", "/api/v1/cal",
)  # fmt: skip


@pytest.fixture
def world(each_database: dict[str, str], tmp_path: Path, redis_url: str) -> World:
    """A world of its own in each kind of database, with a Redis."""
    environ = {
        "REDIS_URL": redis_url,
        "DSA110_ENV": "testing",
        "DSA110_CACHED_REPLIES": ",".join((*TTLS_S, "logs")),
        **PATIENT,
        **FORGETFUL,
        **each_database,
    }
    return asyncio.run(build(settings(tmp_path / "state", **environ)))


async def said(served: Served, path: str, **headers: str) -> str:
    reply = await served.get(path, **headers)
    assert reply.status_code in (200, 304), reply.text
    return reply.headers["x-cache"]


async def test_every_documented_route_keeps_its_replies_byte_for_byte(served: Served) -> None:
    for path in KEPT:
        first, second = await served.get(path), await served.get(path)
        assert (first.status_code, first.headers["x-cache"], second.headers["x-cache"]) == (200, "miss", "hit"), path
        assert first.content == second.content
        for name in ("etag", "content-type", "x-total-count", "link", "cache-control", "vary", "content-length"):
            assert first.headers.get(name) == second.headers.get(name), (path, name)
        assert (await served.get(path, If_None_Match=second.headers["etag"])).status_code == 304


async def test_a_write_makes_earlier_replies_unreachable_at_once_and_no_others(served: Served) -> None:
    for path in KEPT:
        await served.get(path)
    whole = recordings(served.world)[0]
    config = served.world.config
    async with open_database(config.database, config.timeouts) as adapter:
        await AsyncProductRecorder(adapter).record(Recording(image=dataclasses.replace(whole.image, noise_jy=0.5)))
    assert (await served.json("/api/v1/images/{image}"))["noise_jy"] == 0.5
    assert await said(served, "/api/v1/jobs") == await said(served, "/api/v1/cal") == "hit"
    assert await said(served, "/api/v1/images") == "miss"


async def test_a_database_that_was_restored_does_not_get_the_replies_of_its_lost_writes(served: Served) -> None:
    """The numbers of its writes are restored too; what is written next must not get those of what was lost.

    Not even where they lie ahead of the time, as those that earlier triggers made of it did after a load of rows.
    """
    config, image = served.world.config, recordings(served.world)[0].image
    async with open_database(config.database, config.timeouts) as adapter:
        numbers = await adapter.fetch_all("SELECT name, value FROM table_generations")
        for ahead, noise_jy in ((0, 0.5), (0, 0.25), (3_600_000, 0.5), (3_600_000, 0.25)):
            for name, value in map(tuple, numbers):
                await adapter.execute(f"UPDATE table_generations SET value = {value + ahead} WHERE name = '{name}'")
            await AsyncProductRecorder(adapter).record(Recording(image=dataclasses.replace(image, noise_jy=noise_jy)))
            assert (await served.json("/api/v1/images/{image}"))["noise_jy"] == noise_jy


async def test_other_questions_have_other_answers(served: Served) -> None:
    assert await said(served, "/api/v1/images") == "miss"
    assert await said(served, "/api/v1/images?limit=1") == "miss"
    assert await said(served, "/api/v1/images?limit=1&offset=0") == "miss"
    assert await said(served, "/api/v1/images?offset=0&limit=1") == "hit"
    assert await said(served, "/api/images?limit=1") == "miss", "the next page is named below the asked base"
    for question, rows in (("offset=0&offset=1", 0), ("offset=1&offset=0", 1)):
        assert len(await served.json(f"/api/v1/images?{question}")) == rows, "of a name said twice the last counts"
    missing = [await served.get("/api/v1/images/999") for _ in range(2)]
    assert [reply.status_code for reply in missing] == [404, 404]
    assert (await served.get("/api/v1/images?limt=1")).status_code == 400


async def test_health_is_never_kept_and_logs_light_curves_and_single_runs_never_in_redis(served: Served) -> None:
    assert "x-cache" not in (await served.get("/api/v1/health")).headers
    for path in ("/logs/{run}", "/jobs/{run}/logs", "/sources/{source}/lightcurve", "/jobs/{run}"):
        assert [await said(served, f"/api/v1{path}") for _ in range(2)] == ["off", "off"]
    for prefix in ("lightcurve:open", "jobs:active", "logs:x"):
        with pytest.raises(ValueError, match="must not be kept"):
            cached(prefix, "images")


async def test_the_cache_tells_how_it_is_and_forgets_nothing_but_replies(served: Served, redis_url: str) -> None:
    keys = await add_keys(served.world.config)
    link = redis.Redis.from_url(redis_url)
    others = {"rq:queue:dsa110-pipeline": "1", "LIMITS:LIMITER/1": "2", "dsa110:other": "3", "images:list:x": "4"}
    for name, value in others.items():
        link.set(name, value)
    for path in KEPT:
        await served.get(path)
        await served.get(path)
    before = await served.json("/api/v1/cache")
    assert (before["enabled"], before["status"], before["total_keys"]) == (True, "connected", len(KEPT))
    assert (before["hits"], before["misses"], before["hit_rate"]) == (len(KEPT), len(KEPT), 0.5)
    assert before["memory_used_bytes"] > 0

    async def posted(path: str, scope: str | None = "ops") -> tuple[int, dict[str, object]]:
        headers = {"X-API-Key": keys[scope]} if scope else {}
        reply = await served.client.post(f"/api/v1/cache/{path}", headers=headers)
        return reply.status_code, reply.json()

    assert (await posted("clear", None))[0] == 401
    assert (await posted("clear", "write:jobs"))[0] == 403
    assert (await posted("invalidate/" + "*a" * 9))[0] == 400
    assert await posted("invalidate/images:*") == (200, {"pattern": "images:*", "keys_deleted": 2})
    for pattern in ("rq:*", "..%2A", "%0A*", "[", "\\*", "dsa110:*"):
        assert (await posted(f"invalidate/{pattern}"))[1].get("keys_deleted", 0) == 0
    assert await posted("clear") == (200, {"status": "cleared", "keys_deleted": len(KEPT) - 2})
    assert {name: link.get(name).decode() for name in others} == others  # type: ignore[union-attr]
    assert (await served.json("/api/v1/cache"))["total_keys"] == 0
    link.delete(*others)


async def test_a_cache_that_is_switched_off_says_so(tmp_path: Path) -> None:
    world = await build(settings(tmp_path / "state", REDIS_CACHE_ENABLED="false", DSA110_ENV="testing"))
    async with serving(world.config, names=segments(world), world=world) as served:
        assert await said(served, "/api/v1/images") == "off"
        assert await served.json("/api/v1/cache") == {"enabled": False, "status": "disabled"}


async def test_routes_can_be_left_out(tmp_path: Path, redis_url: str) -> None:
    environ = {"REDIS_URL": redis_url, "DSA110_CACHED_REPLIES": "stats,jobs:list", **PATIENT}
    world = await build(settings(tmp_path / "state", **environ))
    async with serving(world.config, names=segments(world), world=world) as served:
        assert await said(served, "/api/v1/images") == "off"
        assert await said(served, "/api/v1/stats") == "miss"


async def test_what_is_read_faster_than_a_kept_reply_is_not_kept(tmp_path: Path, redis_url: str) -> None:
    assert set(TTLS_S) - set(CACHED) == {"stats", "images:detail"}
    world = await build(settings(tmp_path / "state", REDIS_URL=redis_url, DSA110_ENV="testing", **PATIENT))
    async with serving(world.config, names=segments(world), world=world) as served:
        for path, kept in (("/stats", False), ("/images/{image}", False), ("/images", True)):
            assert (await said(served, f"/api/v1{path}") != "off") is kept


async def test_without_redis_the_api_works_uncached_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as silent:  # accepts connections and never speaks
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        world = await build(
            settings(tmp_path / "state", REDIS_URL=f"redis://127.0.0.1:{port}/0", DSA110_ENV="testing",
                     DSA110_TIMEOUT_REDIS_SOCKET="0.2", **FORGETFUL)
        )  # fmt: skip
        async with serving(world.config, names=segments(world), world=world) as served:
            at_once = (said(served, f"/api/v1/images?limit={n}") for n in range(1, 5))
            assert set(await asyncio.gather(*at_once)) == {"bypass"}
            assert sum("replies are not kept" in text for text in caplog.messages) == 1, "one says it for all"
            assert [await said(served, "/api/v1/images") for _ in range(3)] == ["bypass"] * 3
            assert all(not text.rstrip().endswith(":") for text in caplog.messages), "a reason is told"
            assert (await served.json("/api/v1/cache"))["status"] == "error"
            keys = await add_keys(world.config)
            refused = await served.client.post("/api/v1/cache/clear", headers={"X-API-Key": keys["ops"]})
            assert refused.status_code == 503


# --- the cache by itself ------------------------------------------------------------------------------------------


def request(query: str = "") -> Request:
    scope = {"type": "http", "path": "/api/v1/images", "query_string": query.encode(), "headers": [], "state": {}}
    return Request(scope)


@pytest.fixture
async def cache(redis_url: str, tmp_path: Path) -> AsyncIterator[ReplyCache]:
    made = ReplyCache(CacheSettings(redis_url, str(tmp_path), patience_s=20), Tally(tmp_path))
    yield made
    await made.close()


async def unchanged() -> bool:
    return True


def slow_handler(calls: list[int], fail: bool = False) -> Callable[[Request], Awaitable[Response]]:
    async def handler(asked: Request) -> Response:
        calls.append(1)
        await asyncio.sleep(0.05)
        if fail:
            raise LookupError
        return Response(b"x")

    return handler


async def test_who_asks_the_same_at_once_is_answered_by_one_query(cache: ReplyCache) -> None:
    calls: list[int] = []
    replies = await asyncio.gather(
        *(cache.answer(RULE, request(), slow_handler(calls), SEEN, unchanged) for _ in range(20))
    )
    assert len(calls) == 1
    assert {bytes(reply.body) for reply in replies} == {b"x"}
    assert sorted(reply.headers["x-cache"] for reply in replies) == ["hit"] * 19 + ["miss"]


async def test_who_goes_away_or_fails_takes_nobody_along(cache: ReplyCache) -> None:
    calls: list[int] = []
    is_asked = asyncio.Event()

    async def endless(asked: Request) -> Response:
        is_asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.create_task(cache.answer(RULE, request(), endless, SEEN, unchanged))
    await is_asked.wait()
    second = asyncio.create_task(cache.answer(RULE, request(), slow_handler(calls), SEEN, unchanged))
    await asyncio.sleep(0)  # now it waits for the first
    first.cancel()
    assert (await second).headers["x-cache"] == "miss"
    failed = await asyncio.gather(
        *(cache.answer(RULE, request("q=1"), slow_handler(calls, fail=True), SEEN, unchanged) for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(end) for end in failed] == [LookupError] * 3


async def test_kept_replies_of_one_database_are_not_those_of_another_and_end(
    cache: ReplyCache, redis_url: str, tmp_path: Path
) -> None:
    await cache.answer(RULE, request(), slow_handler([]), SEEN, unchanged)
    other = ReplyCache(CacheSettings(redis_url, str(tmp_path / "other"), patience_s=20), Tally(tmp_path))
    assert (await other.answer(RULE, request(), slow_handler([]), SEEN, unchanged)).headers["x-cache"] == "miss"
    assert await other.invalidate("*") == 1
    assert (await cache.answer(RULE, request(), slow_handler([]), SEEN, unchanged)).headers["x-cache"] == "hit"
    link = redis.Redis.from_url(redis_url)
    kept = [key for key in link.scan_iter(match=f"{cache.name_space}*")]
    assert [0 < link.ttl(key) <= TTLS_S["images:list"] for key in kept] == [True]
    long = await cache.answer(RULE, request("q=" + "y" * 500), slow_handler([]), SEEN, unchanged)
    assert long.headers["x-cache"] == "miss"
    assert all(len(key) < 300 for key in link.scan_iter(match=f"{cache.name_space}*"))
    await cache.invalidate("*")
    await other.close()
