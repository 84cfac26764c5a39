"""A reply that is kept is the one that would be made now: random walks of writes past two applications."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import asyncpg
import httpx
import pytest

from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.cache import TTLS_S
from dsa110_contimg.api.config import APIConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import InvalidRecordError
from dsa110_contimg.api.interfaces import PhotometryRecord, Recording, SourceRecord
from dsa110_contimg.api.migrations.migrator import Migrator
from dsa110_contimg.api.quality_interfaces import CalibrationQARecord, ImageQARecord
from fixtures.api_server import segments, serving
from fixtures.api_world import CREATED_AT, GROUP_ID, RUN_ID, World, build, recordings, settings
from fixtures.databases import hung
from fixtures.live_api import add_keys
from fixtures.twins import Twins, copy_database, put_in_place, twins
from fixtures.writers import write_earlier_database

CHANGES = (
    ("images", "noise_jy = noise_jy + 0.5"), ("images", "qa_grade = 'warn'"), ("images", "type = 'mosaic'"),
    ("images", "created_at = created_at + 1"), ("ms_index", "stage = 'cataloged'"), ("ms_index", "cal_applied = 0"),
    ("ms_index", "field_name = 'else'"), ("photometry", "flux_jy = flux_jy * 2"), ("sources", "ra_deg = ra_deg + 0.1"),
    ("sources", "eta = 3.5"), ("caltables", "status = 'retired'"), ("caltables", "valid_end_mjd = 1"),
    ("jobs", "status = 'failed'"), ("jobs", "error = 'no disk'"), ("provenance", "host = 'host2'"),
    ("image_regions", "kind = 'mask'"), ("image_qa", "overall_quality = 'poor'"),
    ("calibration_qa", "overall_quality = 'poor'"),
)  # fmt: skip
TABLES = tuple(dict.fromkeys(table for table, _ in CHANGES))


@pytest.fixture
def config(each_database: dict[str, str], tmp_path: Path, redis_url: str) -> APIConfig:
    """Settings by which this process and Redis keep whatever may be kept."""
    environ = {
        "REDIS_URL": redis_url,
        "DSA110_CACHED_REPLIES": ",".join(TTLS_S),
        "DSA110_TIMEOUT_CACHE": "20",
        "DSA110_TIMEOUT_DB_CONNECTION": "5",
    }
    return settings(tmp_path / "state", **environ, **each_database)


class Walk:
    """Writes of every kind, one after the other, by chance."""

    def __init__(self, pair: Twins, world: World, keys: dict[str, str], directory: Path) -> None:
        self.pair = pair
        self.world = world
        self.keys = keys
        self.chance = pair.chance
        self.config = world.config.database
        self.is_sqlite = self.config.backend == "sqlite"
        self.path = self.config.products_path
        self.aside = directory / "aside"
        self.aside.mkdir()
        self.backup = self.aside / "backup"

    # --- writes ---

    def recording(self) -> Recording:
        """Return parts of what a stage records, of one of three runs."""
        chance, whole = self.chance, recordings(self.world)[0]
        number = chance.choice((1, 2, 3))
        run = RUN_ID if number == 1 else f"{RUN_ID}-{number}"
        ms = self.world.ms_path.replace(GROUP_ID, f"2026-02-11T03:04:0{4 + number}")
        image = self.world.image_path.replace(GROUP_ID, f"2026-02-11T03:04:0{4 + number}")
        second = SourceRecord("second", "second", 10.0 + chance.random(), 20.0)
        point = replace(whole.photometry[0], image_path=image, flux_jy=chance.random(), mjd=61082.0 + number)
        points: tuple[PhotometryRecord, ...] = (point, replace(point, source_id="second"))[: chance.choice((0, 1, 2))]
        parts: dict[str, Any] = {
            "job": replace(whole.job, run_id=run, ms_path=ms, status=chance.choice(("running", "failed", "completed"))),
            "measurement_set": replace(whole.measurement_set, path=ms, run_id=run, flagged_fraction=chance.random()),
            "calibration_tables": (
                replace(whole.calibration_tables[0], path=f"{self.world.caltable_path}{number}", source_ms_path=ms),
            ),
            "image": replace(whole.image, path=image, ms_path=ms, run_id=run, noise_jy=chance.random()),
            "sources": (whole.sources[0], second),
            "photometry": points,
            "provenance": replace(whole.provenance, run_id=run, cpu_s=chance.random()),
            "image_qa": ImageQARecord(ms, image, chance.random(), 1.0, 9.0, 1.0, 1.0, 0.0, 3, "good", CREATED_AT),
            "calibration_qa": CalibrationQARecord(ms, "good", chance.random(), CREATED_AT),
        }
        return Recording(**{name: parts[name] for name in chance.sample(sorted(parts), chance.randint(1, len(parts)))})

    async def record(self) -> None:
        async with open_database(self.config) as adapter:
            await AsyncProductRecorder(adapter).record(self.recording())

    async def record_in_this_process(self) -> None:
        """By the connection that the application itself writes with."""
        adapter = self.pair.remembering.app.state.services.images.images._adapter
        await AsyncProductRecorder(adapter).record(self.recording())

    async def change(self, end: str = "COMMIT") -> None:
        table, set_to = self.chance.choice(CHANGES)
        await self.execute("BEGIN", f"UPDATE {table} SET {set_to}", end)

    async def roll_back(self) -> None:
        await self.change("ROLLBACK")

    async def delete(self) -> None:
        await self.execute(f"DELETE FROM {self.chance.choice(TABLES)}")

    async def empty(self) -> None:
        await self.execute(f"TRUNCATE {self.chance.choice(TABLES)} CASCADE")

    async def execute(self, *statements: str) -> None:
        """Write by a connection of nobody's."""
        if self.is_sqlite:
            await asyncio.to_thread(self.execute_in_file, statements)
            return
        link = await asyncpg.connect(self.config.postgresql_url)
        try:
            for statement in statements:
                await link.execute(statement)
        finally:
            await link.close()

    def execute_in_file(self, statements: tuple[str, ...]) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as file:
            file.execute("PRAGMA foreign_keys=ON")
            for statement in statements:
                file.execute(statement)

    async def another_process(self) -> None:
        table, set_to = self.chance.choice(CHANGES)
        script = "import sqlite3, sys; f = sqlite3.connect(sys.argv[1], timeout=30); f.execute(sys.argv[2]); f.commit()"
        words = [sys.executable, "-c", script, str(self.path), f"UPDATE {table} SET {set_to}"]
        await asyncio.to_thread(subprocess.run, words, check=True)

    async def ask_to_change(self) -> None:
        """Write by the API, by either application; what it refuses is a write too few."""
        image = self.chance.choice((1, 2, 3))
        method, path, body, scope = self.chance.choice(
            (
                ("POST", f"images/{image}/rating", {"rating": self.chance.randint(1, 5)}, "write:qa"),
                ("POST", f"images/{image}/masks", {"format": "ds9", "regions": 'fk5\ncircle(188.5,0,10")'}, "write:qa"),
                ("POST", f"images/{image}/regions", {"format": "json", "regions": '[{"shape": "circle"}]'}, "write:qa"),
                ("DELETE", f"images/{image}", None, "ops"),
                ("POST", f"images/{image}/reimage", {}, "write:jobs"),
                ("POST", f"jobs/{RUN_ID}/rerun", {}, "write:jobs"),
                ("POST", "jobs/bulk-rerun", {"run_ids": [RUN_ID]}, "write:jobs"),
            )
        )
        served = self.chance.choice((self.pair.remembering, self.pair.plain))
        await served.client.request(method, f"/api/v1/{path}", json=body, headers={"X-API-Key": self.keys[scope]})

    # --- the file ---

    async def back_up(self) -> None:
        await asyncio.to_thread(copy_database, self.path, self.backup)

    async def restore(self) -> None:
        """Write the backup into the file, page by page."""
        await asyncio.to_thread(copy_database, self.backup, self.path)

    async def replace(self) -> None:
        """Let the backup take the place of the file, and perhaps the file its own again."""
        now, then = self.aside / "now", self.aside / "then"
        copy_database(self.path, now)
        copy_database(self.backup, then)
        put_in_place(self.path, then)
        await self.pair.agree(3)
        if self.chance.random() < 0.7:
            put_in_place(self.path, now)

    async def earlier_file(self) -> None:
        """Let a file of the earlier pipeline take its place for a while."""
        copy_database(self.path, self.aside / "now")
        image = {"path": f"/{self.chance.random()}.fits", "ms_path": "/old.ms", "created_at": 1.0, "type": "5min"}
        put_in_place(self.path, write_earlier_database(Path(mkdtemp(dir=self.aside)), "U", {"images": [image]}))
        await self.pair.agree(self.chance.choice((1, 3)))
        put_in_place(self.path, self.aside / "now")

    # --- the tables ---

    async def migrate(self) -> None:
        """Go back some revisions while both serve, and forth."""
        migrator = Migrator(self.config)
        await asyncio.to_thread(migrator.downgrade, self.chance.choice(("0013", "0008", "0007", "0004", "0002")))
        for address in [*self.pair.lately]:
            await self.pair.agree_on(address)
        await asyncio.to_thread(migrator.upgrade)

    # --- one after the other ---

    def writes(self, *, slow: bool) -> list[Callable[[], Awaitable[None]]]:
        usual = [self.record, self.record_in_this_process, self.change, self.change, self.roll_back, self.ask_to_change]
        files = [self.back_up, self.restore, self.restore, self.replace, self.replace, self.earlier_file]
        rare = [self.delete, *(files if self.is_sqlite else [self.empty])]
        if slow:
            rare += [self.migrate, *([self.another_process] if self.is_sqlite else [])]
        return [*usual, *usual, *rare]

    async def take(self, steps: int, *, slow: bool = False) -> None:
        writes = self.writes(slow=slow)
        if self.is_sqlite:
            await self.back_up()
        for _ in range(steps):
            write = self.chance.choice(writes)
            print(write.__name__)
            with suppress(InvalidRecordError, sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError):
                await self.beside(write)
            await self.pair.agree(8)

    async def beside(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, sometimes while others ask, of whom some go away."""
        if write in (self.replace, self.earlier_file, self.migrate) or self.chance.random() < 0.5:
            await write()
        else:
            pair = self.pair
            left = self.chance.choices([*pair.lately] or pair.questions, k=4)
            asked = [pair.ask(each) for each in self.chance.sample(pair.questions, 5)]
            await asyncio.gather(write(), *asked, *(pair.ask_and_leave(each) for each in left))


@asynccontextmanager
async def walking(config: APIConfig, directory: Path, per_route: int = 4) -> AsyncIterator[Walk]:
    seed = int(os.environ.get("WALK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed}: again with WALK_SEED={seed}")
    world = await build(config)
    keys = await add_keys(config)
    async with twins(world, seed, directory, per_route) as pair:
        yield Walk(pair, world, keys, directory)


async def test_who_remembers_answers_as_who_does_not(config: APIConfig, tmp_path: Path) -> None:
    async with walking(config, tmp_path) as walk:
        await walk.take(15)
        assert walk.pair.remembered > walk.pair.asked / 50


@pytest.mark.slow
async def test_who_remembers_answers_as_who_does_not_for_long(config: APIConfig, tmp_path: Path) -> None:
    async with walking(config, tmp_path, 8) as walk:
        await walk.take(100, slow=True)
        assert walk.pair.remembered > walk.pair.asked / 50 and walk.pair.hits


@pytest.mark.slow
async def test_who_waits_for_a_postgresql_that_hangs_is_told_in_time_and_nothing_is_stale_when_it_goes_on(
    postgres_database: str, tmp_path: Path
) -> None:
    environ = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": postgres_database, "REDIS_CACHE_ENABLED": "false"}
    config = settings(tmp_path / "state", DSA110_TIMEOUT_DB_STATEMENT="1", DSA110_TIMEOUT_REQUEST="6", **environ)
    world = await build(config)
    async with serving(config, names=segments(world), world=world) as served:

        def ask() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(served.get("/api/v1/images/{image}"))

        while (await ask()).headers["x-cache"] != "memory":
            continue
        link = await asyncpg.connect(postgres_database)
        await link.execute("BEGIN; UPDATE images SET noise_jy = 0.5")
        with hung(link.get_server_pid()):
            gone, first = [ask(), ask()], [ask() for _ in range(3)]
            await asyncio.sleep(0.05)
            later = [ask() for _ in range(3)]  # their reading is the next one
            ending = asyncio.create_task(link.execute("COMMIT"))
            await asyncio.sleep(0.05)
            for task in (*gone, *later[:1]):
                task.cancel()
            replies = await asyncio.gather(*first, *later, return_exceptions=True)
            assert [isinstance(each, asyncio.CancelledError) for each in replies] == [False] * 3 + [True, False, False]
            assert {each.status_code for each in replies if isinstance(each, httpx.Response)} == {503}
        await ending
        while (reply := await ask()).status_code != 200:
            assert reply.status_code == 503
        assert reply.json()["noise_jy"] == 0.5
        await link.close()
