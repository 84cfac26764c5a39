"""Real servers for tests: PostgreSQL and Redis from wheels, started once per session, one database per test."""

import gc
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest
from hypothesis import settings

from dsa110_contimg.up.servers import EmbeddedPostgres, EmbeddedRedis
from fixtures.databases import new_database

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")

gc.disable()  # a quarter of the collection of tests would be spent in looking for garbage among what is imported


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never among what is there now."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Keep what was covered before the end is told: pytest-xdist kills a process that then takes more than 10 s."""
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.save()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL of this test session; it need not survive a power cut."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Address of an empty database that only this test uses."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A running Redis of this test session."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Address of the test session's Redis."""
    return redis_server.url


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of the real facts as files; tests that need it are skipped where it is absent."""
    directory = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("the directory of real data is not beside this checkout")
    return directory
