"""The API over real databases. The worlds are built once a session and only read; `own` may be changed by its test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dsa110_contimg.absurd.config import AbsurdConfig
from dsa110_contimg.api.config import DatabaseConfig
from dsa110_contimg.up.servers import EmbeddedPostgres
from fixtures.api_server import Queue, Served, fill_queue, segments, serving
from fixtures.api_world import QUEUE_OFF, World, build, settings
from fixtures.databases import environ_of, new_database
from fixtures.migrated import migrate


@dataclass(frozen=True)
class Built:
    """A world, with the queue that lies beside it in PostgreSQL."""

    world: World
    queue: Queue | None = None

    @property
    def queue_config(self) -> AbsurdConfig:
        """Settings of the queue, or those of none."""
        return self.queue.config if self.queue else QUEUE_OFF


@pytest.fixture(scope="session")
def sqlite_world(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A world in SQLite, without a queue."""
    return Built(asyncio.run(build(settings(tmp_path_factory.mktemp("sqlite_world")))))


@pytest.fixture(scope="session")
def postgresql_world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A world in PostgreSQL, products and queue in one database."""

    with new_database(postgres) as url:
        world = asyncio.run(build(settings(tmp_path_factory.mktemp("postgresql_world"), **environ_of(url))))
        yield Built(world, asyncio.run(fill_queue(url)))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def built(request: pytest.FixtureRequest) -> Built:
    """A world in each kind of database."""
    found: Built = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
async def api(built: Built) -> AsyncIterator[Served]:
    """The application over each kind of database."""
    names = segments(built.world, built.queue)
    async with serving(built.world.config, built.queue_config, names, built.world) as served:
        yield served


@pytest.fixture
async def small(sqlite_world: Built) -> AsyncIterator[Served]:
    """The application over SQLite, without a queue."""
    world = sqlite_world.world
    async with serving(world.config, names=segments(world), world=world) as served:
        yield served


@pytest.fixture(params=["sqlite", "postgresql"])
def unmigrated(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseConfig:
    """A database of each kind that was never migrated; the SQLite file and its directory are not there."""
    if request.param == "postgresql":
        return DatabaseConfig(backend="postgresql", pg_url=request.getfixturevalue("postgres_database"))
    return DatabaseConfig(products_path=tmp_path / "state" / "products.sqlite3")


@pytest.fixture
def empty_products(unmigrated: DatabaseConfig) -> DatabaseConfig:
    """An empty products database of each kind, which only this test uses."""
    migrate(unmigrated)
    return unmigrated


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of a products database of each kind, which only this test uses."""
    return {} if request.param == "sqlite" else environ_of(request.getfixturevalue("postgres_database"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def each_database_of_a_module(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Settings of a products database of each kind, which the tests of a module share."""
    if request.param == "sqlite":
        yield {}
        return
    with new_database(request.getfixturevalue("postgres")) as url:
        yield environ_of(url)


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """The application over the world that a module describes."""
    async with serving(world.config, names=segments(world), world=world) as found:
        yield found


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Served]:
    """The same over a world that nobody else sees."""
    world = await build(settings(tmp_path / "state"))
    async with serving(world.config, names=segments(world), world=world) as served:
        yield served
