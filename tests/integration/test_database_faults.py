"""What clients see when the products database fails, and that they are served again without a restart."""

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.async_repositories import AsyncImageRepository, AsyncStatsRepository
from dsa110_contimg.api.config import DatabaseConfig, TimeoutConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import (
    DatabaseError,
    DSA110APIError,
)
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.api_server import Served, serving
from fixtures.api_world import build, settings
from fixtures.databases import hung
from fixtures.queue_bench import open_bench

pytest_plugins = ["fixtures.queue_database"]

HURRY = {"DSA110_TIMEOUT_DB_LOCK": "0.2", "DSA110_TIMEOUT_DB_CONNECTION": "1", "DSA110_ENV": "testing"}
KEY = "k" * 40


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a world in it, to be copied."""
    config = settings(tmp_path_factory.mktemp("template"))
    asyncio.run(build(config))
    path = config.database.products_path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """A copy of it that only this test breaks."""
    return Path(shutil.copy(template, tmp_path / "products.sqlite3"))


@asynccontextmanager
async def served_from(path: Path, tmp_path: Path, **environ: str) -> AsyncIterator[Served]:
    given = {**HURRY, "PRODUCTS_DB_PATH": str(path), "DSA110_API_KEYS": KEY, **environ}
    async with serving(settings(tmp_path / "state", **given)) as served:
        yield served


async def failed(served: Served, error: str, status: int = 503) -> None:
    """Ask for the list of images and check how that fails."""
    reply = await served.get("/api/v1/images")
    assert (reply.status_code, reply.json()["error"]) == (status, error), reply.text
    assert "Retry-After" in reply.headers
    assert (await served.get("/api/v1/health/live")).status_code == 200
    assert (await served.get("/api/v1/health/ready")).status_code == 503


async def well(served: Served) -> None:
    """Check that images are served."""
    assert len(await served.json("/api/v1/images")) == 1
    assert (await served.get("/api/v1/health/ready")).status_code == 200


async def change(served: Served) -> tuple[int, str]:
    """Try to change something; the record of it is what needs the database."""
    reply = await served.client.post("/api/v1/absurd/prune", json={}, headers={"X-API-Key": KEY})
    return reply.status_code, reply.json()["error"]


# --- SQLite: the file ---------------------------------------------------------------------------------------------


async def test_a_writer_that_holds_the_file_too_long_delays_changes_but_no_reads(path: Path, tmp_path: Path) -> None:
    async with served_from(path, tmp_path) as served:
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            await well(served)
            reply = await served.client.post("/api/v1/absurd/prune", json={}, headers={"X-API-Key": KEY})
            assert (reply.status_code, reply.json()["error"]) == (503, "DATABASE_BUSY")
            assert int(reply.headers["Retry-After"]) > 0
            writer.execute("ROLLBACK")
        assert (await change(served))[1] == "ABSURD_DISABLED"  # the database lets it pass again


async def test_another_process_that_opens_and_closes_the_file_takes_nothing_from_it(path: Path, tmp_path: Path) -> None:
    """Closing any descriptor of a file drops all locks of its process; then another one takes itself for the last."""
    visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); c.close()"

    async def visited(statement: str) -> None:
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", visit, str(path), statement)
        assert await done.wait() == 0

    async with served_from(path, tmp_path) as served:
        await well(served)
        assert (await change(served))[1] == "ABSURD_DISABLED"  # now there is something in the log
        log = tmp_path / "products.sqlite3-wal"
        before = log.stat().st_ino
        await visited("UPDATE images SET type = 'visited'")
        assert (await served.json("/api/v1/images"))[0]["type"] == "visited"
        assert (await change(served))[1] == "ABSURD_DISABLED"
        await visited("UPDATE images SET type = 'again'")
        assert (await served.json("/api/v1/images"))[0]["type"] == "again"
        assert log.stat().st_ino == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM audit_log").fetchone()[0] >= 2
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_file_that_went_away_is_missed_at_once_and_served_when_it_is_back(path: Path, tmp_path: Path) -> None:
    async with served_from(path, tmp_path) as served:
        await well(served)
        saved = {each.name: each.read_bytes() for each in tmp_path.glob("products.sqlite3*")}
        for name in saved:
            (tmp_path / name).unlink()
        await failed(served, "DATABASE_CONNECTION_ERROR")
        assert not path.exists()  # nobody made an empty one
        for name in ("products.sqlite3", "products.sqlite3-wal"):
            if name in saved:
                (tmp_path / name).write_bytes(saved[name])
        await well(served)


async def test_a_file_that_was_replaced_is_read_as_it_is_now(path: Path, template: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(template, tmp_path / "other"))
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("UPDATE images SET type = 'replaced'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    async with served_from(path, tmp_path) as served:
        await well(served)
        for name in ("products.sqlite3-wal", "products.sqlite3-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        other.replace(path)
        assert (await served.json("/api/v1/images"))[0]["type"] == "replaced"
        await well(served)


async def test_a_file_that_was_replaced_without_its_log_is_not_mixed_with_it(
    path: Path, template: Path, tmp_path: Path
) -> None:
    async with served_from(path, tmp_path) as served:
        assert (await change(served))[1] == "ABSURD_DISABLED"  # now there is something in the log
        assert (tmp_path / "products.sqlite3-wal").stat().st_size > 0
        Path(shutil.copy(template, tmp_path / "other")).replace(path)
        new = path.read_bytes()
        await failed(served, "DATABASE_CONNECTION_ERROR")
        assert path.read_bytes() == new
        for name in ("products.sqlite3-wal", "products.sqlite3-shm"):
            (tmp_path / name).rename(tmp_path / f"away-{name}")
        await well(served)


@pytest.mark.parametrize("damage", ["truncated", "zero-length", "no database", "header"])
async def test_a_damaged_file_is_told_apart_left_alone_and_its_successor_served(
    path: Path, template: Path, tmp_path: Path, damage: str
) -> None:
    broken = bytearray(path.read_bytes())
    if damage == "truncated":
        del broken[5000:]
    elif damage == "zero-length":
        broken.clear()
    elif damage == "no database":
        broken[:] = b"this is a letter" * 1000
    else:
        broken[:16] = bytes(16)
    path.write_bytes(broken)
    async with served_from(path, tmp_path) as served:
        code = "DATABASE_SCHEMA_ERROR" if damage == "zero-length" else "DATABASE_CONNECTION_ERROR"
        await failed(served, code)
        assert path.read_bytes() == bytes(broken)
        Path(shutil.copy(template, tmp_path / "good")).replace(path)
        for name in ("products.sqlite3-wal", "products.sqlite3-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        for _ in range(40):  # what could not be opened at the start is tried every second
            if (await served.get("/api/v1/images")).status_code == 200:
                break
            await asyncio.sleep(0.1)
        await well(served)


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))])
async def test_pages_that_changed_on_the_disk_fail_in_our_words_and_never_otherwise(
    path: Path, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    broken = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 20, 400])):
        place = draw.randrange(100, len(broken))
        broken[place : place + 40] = draw.randbytes(40)
    del broken[path.stat().st_size :]  # the last place may lie at the end
    path.write_bytes(broken)
    config = DatabaseConfig(products_path=path, sqlite_readers=1)
    asked = 0
    try:
        async with open_database(config, TimeoutConfig(db_lock=0.2)) as adapter:
            for question in (AsyncImageRepository(adapter).list_all, AsyncStatsRepository(adapter).get_statistics):
                asked += await _answers_or_says_why(question)
    except DSA110APIError as error:
        assert isinstance(error, DatabaseError), error
    assert path.read_bytes() == bytes(broken)
    assert asked in (0, 1, 2)


async def _answers_or_says_why(question: object) -> int:
    try:
        await question()  # type: ignore[operator]
    except DatabaseError as error:
        assert error.status_code in (500, 503)
        return 0
    except ValueError:  # a text that is no JSON any more
        return 0
    return 1


async def test_a_log_of_another_database_never_becomes_a_wrong_reply_of_500(
    path: Path, template: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "products.sqlite3"
    other.parent.mkdir()
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE strange (a)")
        connection.execute("INSERT INTO strange VALUES (randomblob(20000))")
        shutil.copy(f"{other}-wal", f"{path}-wal")
    async with served_from(path, tmp_path) as served:
        reply = await served.get("/api/v1/images")
        assert reply.status_code in (200, 503), reply.text


# --- SQLite: the disk ---------------------------------------------------------------------------------------------


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """Give a directory on a file system of its own, if this process may mount one."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets us mount nothing")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


async def test_a_full_disk_refuses_changes_with_507_and_serves_reads_and_recovers(
    template: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        path = Path(shutil.copy(template, disk / "products.sqlite3"))
        ballast = disk / "ballast"
        async with served_from(path, tmp_path) as served:
            await well(served)
            _fill(ballast)
            statuses = {await change(served) for _ in range(20)}
            assert (507, "STORAGE_FULL") in statuses
            await well(served)
            ballast.unlink()
            assert (await change(served))[1] == "ABSURD_DISABLED"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


WRITE_UNTIL_FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from dsa110_contimg.api.async_repositories import AsyncProductRecorder
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.api.database import open_database
from dsa110_contimg.api.exceptions import DatabaseConnectionError, DatabaseFullError
from dsa110_contimg.api.interfaces import Recording, SourceRecord

async def write(path):
    async with open_database(DatabaseConfig(products_path=path)) as adapter:
        for number in range(100):
            source = SourceRecord(f"s{number}", "n" * 200_000, 1.0, 2.0)
            try:
                await AsyncProductRecorder(adapter).record(Recording(sources=(source,)))
            except (DatabaseFullError, DatabaseConnectionError):
                assert await adapter.fetch_val("SELECT count(*) FROM sources WHERE id LIKE 's%'") == number
                return "refused"
    return "never full"

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
print(asyncio.run(write(Path(sys.argv[1]))))
"""


def test_a_file_that_may_not_grow_keeps_whole_transactions_only(path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "refused"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


async def test_a_postgresql_that_was_killed_is_missed_in_two_seconds_and_served_again_without_a_restart(
    tmp_path: Path,
) -> None:
    with EmbeddedPostgres(tmp_path / "pg", settings={"fsync": "off"}) as server:
        environ = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": server.url, **HURRY}
        config = settings(tmp_path / "state", **environ)
        await build(config)
        async with serving(config) as served:
            await well(served)
            postmaster = psutil.Process(_postmaster(tmp_path / "pg"))
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(20)  # until then its servers may answer
            begun = time.monotonic()
            await failed(served, "DATABASE_CONNECTION_ERROR")
            assert time.monotonic() - begun < 20  # four questions, each far below the 30 s that a client waits
            server.stop()
            server.start()
            await well(served)


async def test_a_postgresql_that_hangs_is_known_to_and_used_again_when_it_goes_on(
    queue_database: str, postgres_database: str, tmp_path: Path
) -> None:
    """A statement may take a minute here: it is not its end that is waited for."""
    patient = {"DSA110_TIMEOUT_DB_STATEMENT": "60", "DSA110_TIMEOUT_REQUEST": "60"}
    where = {"DSA110_DB_BACKEND": "postgresql", "DSA110_DB_PG_URL": postgres_database}
    config = settings(tmp_path, **patient, **where)
    await build(config)
    queue = AbsurdConfig(enabled=True, database_url=queue_database)
    asked = ["/api/v1/absurd/queues/stats", "/api/v1/images", "/api/v1/images/1", "/api/v1/stats"]
    async with open_bench(queue_database) as bench, serving(config, queue) as served:
        for address in asked:
            await answered(served, address)
        backend = await bench.connection.fetchval("select pg_backend_pid()")
        with hung(backend):
            async with asyncio.timeout(30):
                for replies in [await asyncio.gather(*map(served.get, 5 * asked)) for _ in range(2)]:
                    assert {reply.status_code for reply in replies} == {503}, replies[0].text
                    assert all(int(reply.headers["retry-after"]) > 0 for reply in replies)
        for address in asked:
            await answered(served, address)


async def test_a_statement_that_takes_its_time_is_waited_for(postgres_database: str) -> None:
    config = DatabaseConfig(backend="postgresql", pg_url=postgres_database)
    async with open_database(config) as adapter:
        assert await adapter.fetch_val("SELECT 1 FROM pg_sleep(1.2)") == 1  # after a knock


async def answered(served: Served, address: str) -> None:
    for _ in range(300):
        if (await served.get(address)).status_code == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{address} is not answered")


def _postmaster(directory: Path) -> int:
    [found] = directory.rglob("postmaster.pid")
    return int(found.read_text().splitlines()[0])
